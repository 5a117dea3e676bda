#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""The server's end: SIGTERM and its relatives drain, a second signal does not
wait, SIGHUP and SIGPIPE are nothing."""

import os
import signal
import struct
import unittest

from constants import *
from nbdproto import info_data
from server import Server, build_plugin, \
    temporary_directory, wait_until
from test_transmission import STYLES


def draining(client):
    """Waits until the loop of this client has begun to drain: it refuses what
    is not delayed.  (That the listener is closed says nothing of all loops.)"""
    def refused():
        probe, _ = client.submit(CMD_FLUSH)
        cookie, reply = client.receive()
        if cookie != probe:
            raise AssertionError("the end of a request, before the drain")
        return reply.error == ESHUTDOWN
    wait_until(refused, what="drain")


class Drain(unittest.TestCase):
    def delayed(self, *more, delay="1500ms"):
        return Server("memory", "16M", "rdelay=" + delay, "wdelay=" + delay,
                      options=["--filter=delay", *more])

    def test_idle_server_ends_with_0(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            with self.subTest(number=number), \
                    Server("memory", "1M") as server:
                server.signal(number)
                self.assertEqual(server.wait(), 0)
                self.assertFalse(os.path.exists(server.path))
                self.assertFalse(os.path.exists(server.pidfile))

    def test_requests_in_flight_finish(self):
        for style, how in STYLES.items():
            with self.subTest(style=style), self.delayed() as server, \
                    server.client(**how) as client:
                for n in range(20):
                    client.submit(CMD_WRITE, n * 4096, payload=bytes(4096))
                    client.submit(CMD_READ, n * 4096, 4096)
                server.signal(signal.SIGTERM)
                replies = client.receive_all()
                # The signal may overtake what is still in the socket.
                self.assertLessEqual({r.error for r in replies.values()},
                                     {0, ESHUTDOWN})
                client.expect_eof()
                self.assertEqual(server.wait(), 0)

    def test_all_of_those_in_the_disk_succeed(self):
        """What the server has certainly taken (it answered a request behind
        them) ends with success."""
        with Server("memory", "16M", "wdelay=1500ms",
                    options=["--filter=delay"]) as server, \
                server.client() as client:
            cookies = [client.submit(CMD_WRITE, n * 4096,
                                     payload=bytes(4096))[0]
                       for n in range(20)]
            read, _ = client.submit(CMD_READ, 0, 512)
            self.assertEqual(client.receive()[0], read)
            server.signal(signal.SIGTERM)
            replies = client.receive_all()
            self.assertEqual(set(replies), set(cookies))
            self.assertEqual({r.error for r in replies.values()}, {0})
            client.expect_eof()
            self.assertEqual(server.wait(), 0)

    def test_new_requests_are_told(self):
        for style, how in STYLES.items():
            with self.subTest(style=style), self.delayed() as server, \
                    server.client(**how) as client:
                slow, _ = client.submit(CMD_READ, 0, 4096)
                quick, _ = client.submit(CMD_FLUSH)
                self.assertEqual(client.receive()[0], quick)
                server.signal(signal.SIGTERM)
                draining(client)
                late = [client.submit(CMD_WRITE, 0, payload=b"x" * 4096)[0],
                        client.submit(CMD_READ, 0, 512)[0]]
                replies = client.receive_all()
                self.assertEqual(replies[slow].error, 0)
                for cookie in late:
                    self.assertEqual(replies[cookie].error, ESHUTDOWN)
                client.expect_eof()
                self.assertEqual(server.wait(), 0)

    def test_handshakes_are_told(self):
        with self.delayed("--loops=1") as server, \
                server.client() as busy, server.connect() as young, \
                server.greet() as conn:
            conn.list()                 # it is in the middle of its options
            busy.submit(CMD_READ, 0, 4096)
            # The first bytes of an option are there when the end begins.
            conn.send(struct.pack(">QII", IHAVEOPT, OPT_GO,
                                  len(info_data("")))[:15])
            busy.submit(CMD_FLUSH)
            busy.receive()
            server.signal(signal.SIGTERM)
            draining(busy)
            conn.send(struct.pack(">I", len(info_data("")))[3:]
                      + info_data(""))
            kind = conn.option_replies(OPT_GO)[-1][0]
            self.assertEqual(kind, ERR_SHUTDOWN)
            busy.receive_all()
            busy.expect_eof()
            young.drain()
            self.assertEqual(server.wait(), 0)

    def test_idle_clients_do_not_hold_it_up(self):
        with Server("memory", "1M", options=["--drain-timeout=20"]) as server:
            clients = [server.client() for _ in range(10)]
            clients += [server.greet(), server.connect()]
            server.signal(signal.SIGTERM)
            for client in clients:
                client.drain()
            self.assertEqual(server.wait(10), 0)

    def test_clients_that_stall_do_not_hold_it_up(self):
        """It ends long before the timeout, and that is no failure."""
        for name in ("payload", "replies"):
            with self.subTest(name=name), \
                    Server("memory", "16M", options=["--drain-timeout=3600"]) \
                    as server, server.client() as client, \
                    server.client() as probe:
                if name == "payload":
                    data = client.encode(CMD_WRITE, 0, 1 << 20, 0, 1) + b"half"
                else:
                    data = b"".join(
                        client.submit(CMD_READ, 0, 65536, send=False)[1]
                        for _ in range(200))
                client.send(data)
                probe.read(0, 512)
                server.signal(signal.SIGTERM)
                self.assertEqual(server.wait(), 0)
                self.assertIn("and the server ends", server.stderr())

    def test_who_stalls_at_the_end_of_the_timeout_is_no_failure(self):
        with Server("memory", "16M", options=["--drain-timeout=1"]) as server, \
                server.client() as client, server.client() as probe:
            client.send(client.encode(CMD_WRITE, 0, 1 << 20, 0, 1) + b"half")
            probe.read(0, 512)
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait(), 0)
            self.assertRegex(server.stderr(), "disconnected|the server ends")


class Timeout(unittest.TestCase):
    def test_requests_that_stay_are_named_and_it_exits_with_1(self):
        with temporary_directory() as directory:
            self.check_keeper(build_plugin("keeper", directory))

    def check_keeper(self, plugin):
        for number in (1, 3):
            with Server(plugin, options=["--drain-timeout=1"]) as server, \
                    server.client() as client:
                for _ in range(number):
                    client.submit(CMD_READ, 0, 512)
                client.submit(CMD_FLUSH)
                client.receive()
                server.signal(signal.SIGTERM)
                self.assertEqual(server.wait(10), 1)
                self.assertRegex(server.stderr(),
                                 r"keeper.*\b%d request" % number)

    def test_a_disk_that_can_cancel_is_asked_to(self):
        """The client hears the end of its request (cancelled: an error), but
        the drain's time was over: that is told, and the status is 1."""
        with Server("memory", "1M", "rdelay=3600", options=[
                "--filter=delay", "--drain-timeout=1"]) as server, \
                server.client() as client:
            client.submit(CMD_READ, 0, 512)
            client.submit(CMD_FLUSH)
            client.receive()
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait(), 1)
            self.assertRegex(server.stderr(), r"\b1 request")

    def test_second_signal_does_not_wait(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number=number), Server(
                    "memory", "1M", "rdelay=3600",
                    options=["--filter=delay"]) as server, \
                    server.client() as client:
                client.submit(CMD_READ, 0, 512)
                client.submit(CMD_FLUSH)
                client.receive()
                server.signal(signal.SIGTERM)
                draining(client)
                server.signal(number)
                self.assertNotEqual(server.wait(10), 0)
                server.check_stderr()


class OtherSignals(unittest.TestCase):
    def test_hup_and_pipe_are_ignored(self):
        with Server("memory", "1M") as server, server.client() as client:
            for _ in range(20):
                server.signal(signal.SIGHUP)
                server.signal(signal.SIGPIPE)
                client.read(0, 512)
            server.check_good()
            client.disconnect()

    def test_storm_under_load(self):
        with Server("memory", "16M") as server, server.client() as client:
            for n in range(200):
                server.signal(signal.SIGHUP)
                for i in range(8):
                    client.submit(CMD_WRITE, i * 65536, payload=bytes(65536))
                server.signal(signal.SIGCHLD)
                client.receive_all()
            client.disconnect()

    def test_stop_during_handshakes(self):
        for _ in range(3):
            with Server("memory", "1M") as server:
                conns = [server.connect() for _ in range(50)]
                for n, conn in enumerate(conns):
                    conn.send(struct.pack(">IQII", 3, IHAVEOPT, OPT_GO,
                                          6)[:n % 21])
                server.signal(signal.SIGTERM)
                for conn in conns:
                    conn.drain()
                    conn.close()
                self.assertEqual(server.wait(), 0)


if __name__ == "__main__":
    unittest.main()
