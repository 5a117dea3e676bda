#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Disks that are opened and closed late, on threads of the plugin, while
clients come, wait, move and vanish; clients and servers that a plugin ends."""

import json
import os
import socket
import unittest

import system
from constants import *
from nbdproto import Closed, info_data
from server import wait_until

MIB = 1 << 20
IDLE = 64           # disks that stay open though nobody uses them


class LateCase(system.ServedCase):
    def start(self, *parameters, loops=2, options=()):
        self.ours, self.plugins = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.plugins.close)
        self.ours.settimeout(20)
        fd = self.plugins.fileno()
        os.set_inheritable(fd, True)
        return self.serve(system.plugin("late"), "gate=%d" % fd, *parameters,
                          options=["--loops=%d" % loops, *options],
                          pass_fds=[fd])

    def wait_opening(self, count=1):
        """Until so many more slow disks are being opened."""
        for _ in range(count):
            self.assertEqual(self.ours.recv(1), b"o")

    def let_open(self, count=1):
        self.ours.sendall(b"." * count)

    def counts(self, server):
        with server.client(name="quick counts") as client:
            data = client.read(0, 512)
            client.disconnect()
        return json.loads(data.rstrip(b"\0"))

    def greet(self, server):
        handshake = server.greet()
        self.addCleanup(handshake.close)
        return handshake


class Opening(LateCase):
    def test_errors_become_replies(self):
        server = self.start()
        replies = {1: ERR_POLICY, 13: ERR_POLICY, 108: ERR_SHUTDOWN}
        with self.greet(server) as handshake:
            for err in [*range(1, 134), 4095]:
                for option in (OPT_INFO, OPT_GO):
                    self.assertEqual(
                        handshake.opt(option, info_data("errno-%d" % err)),
                        replies.get(err, ERR_UNKNOWN), err)
        with self.greet(server) as handshake:
            handshake.send_option(OPT_EXPORT_NAME, b"errno-2")
            handshake.expect_eof()
        self.assertEqual(self.counts(server)["opens"], 1)
        server.stop()

    def test_clients_wait_for_one_opening(self):
        """From different loops: it is opened once, all of them get it."""
        server = self.start(loops=4)
        handshakes = [self.greet(server) for _ in range(12)]
        for handshake in handshakes:
            handshake.send_option(OPT_GO, info_data("slow"))
        self.wait_opening()
        self.let_open()
        for handshake in handshakes:
            self.assertEqual(handshake.option_replies(OPT_GO)[-1][0], REP_ACK)
        self.assertEqual(self.counts(server)["opens"], 2)
        server.stop()

    def test_others_are_served_meanwhile(self):
        server = self.start(loops=1)
        slow = self.greet(server)
        slow.send_option(OPT_GO, info_data("slow"))
        self.wait_opening()
        for _ in range(3):
            self.counts(server)
        self.let_open()
        self.assertEqual(slow.option_replies(OPT_GO)[-1][0], REP_ACK)
        server.stop()

    def test_clients_vanish_while_it_opens(self):
        """The disk stays for the next one; nothing of them is left."""
        server = self.start()
        self.counts(server)
        before = server.fds()
        for n in range(30):
            handshake = self.greet(server)
            handshake.send_option(OPT_GO, info_data("slow %d" % n))
            self.wait_opening()
            handshake.reset()
        self.let_open(30)
        for n in range(30):
            with server.client(name="slow %d" % n) as client:
                client.read(0, 512)
                client.disconnect()
        self.assertEqual(self.counts(server)["opens"], 31)
        wait_until(lambda: server.fds() <= before, what="closed connections")
        server.stop()

    def test_drains_while_it_opens(self):
        """It is waited for, and closed."""
        server = self.start()
        handshake = self.greet(server)
        handshake.send_option(OPT_GO, info_data("slow"))
        self.wait_opening()
        server.signal(15)
        self.let_open()
        self.assertIn(handshake.option_replies(OPT_GO)[-1][0],
                      (REP_ACK, ERR_SHUTDOWN))
        handshake.expect_eof()
        self.assertEqual(server.wait(), 0)

    def drain_too_long(self):
        server = self.start(options=["--drain-timeout=1"])
        handshake = self.greet(server)
        handshake.send_option(OPT_GO, info_data("slow"))
        self.wait_opening()
        server.signal(15)
        self.assertEqual(server.wait(), 1)
        return server.stderr()

    def test_drain_does_not_wait_for_ever(self):
        self.drain_too_long()

    def test_says_what_it_waited_for(self):
        self.assertIn("slow", self.drain_too_long())

    def test_ten_thousand_names(self):
        """The number of open disks is bounded, those idle are closed."""
        count = 2000 if system.is_sanitized() else 10000
        server = self.start()
        for first in range(0, count, 500):
            with self.greet(server) as handshake:
                for n in range(first, first + 500):
                    handshake.info("%s%d" % ("quick" if n % 2 else "late", n))
            if first == 500:
                before = server.rss()
        counts = self.counts(server)
        self.assertEqual(counts["opens"], count + 1)
        self.assertGreaterEqual(counts["closes"], count - IDLE - 10)
        self.assertLessEqual(counts["most"], IDLE + 10)
        if not server.sanitized():
            self.assertLess(server.rss() - before, 2 * MIB)
        server.stop()

    def test_same_name_over_and_over(self):
        """It stays open between its clients."""
        server = self.start(loops=4)
        for _ in range(200):
            with server.client(name="late") as client:
                client.read(0, 512)
                client.disconnect()
        self.assertEqual(self.counts(server)["opens"], 2)
        server.stop()


class Moving(LateCase):
    def test_pipelines_while_it_moves(self):
        """Requests sent behind GO go to the disk's loop with the client."""
        server = self.start("max_requests=3", loops=4)
        for turn in range(50):
            clients = []
            for n in range(8):
                handshake = self.greet(server)
                handshake.send_option(OPT_GO, info_data("slow%d" % turn))
                requests = b"".join(
                    (b"\x25\x60\x95\x13\0\0\0" + bytes([command]) +
                     cookie.to_bytes(8, "big") + bytes(8) +
                     (512).to_bytes(4, "big") + payload)
                    for cookie, (command, payload) in enumerate(
                        [(CMD_READ, b""), (CMD_WRITE, bytes(512))] * 40))
                handshake.send(requests)
                clients.append(handshake)
            self.wait_opening()
            self.let_open()
            for handshake in clients:
                self.assertEqual(handshake.option_replies(OPT_GO)[-1][0],
                                 REP_ACK)
                data = handshake.recv(40 * (16 + 512 + 16))
                self.assertEqual(data[:4], b"\x67\x44\x66\x98")
                handshake.close()
        server.stop()


class Ending(LateCase):
    def test_plugin_hangs_up(self):
        """Its client alone; from a thread, with requests in flight."""
        server = self.start()
        other = server.client(name="late")
        self.addCleanup(other.close)
        for _ in range(50):
            client = server.client(name="late")
            data = b"".join(client.submit(CMD_READ, 0, 512, send=False)[1]
                            for _ in range(50))
            client.send(data + client.submit(
                CMD_WRITE, 0, payload=b"hang up", send=False)[1] + data)
            client.drain()
            client.close()
            self.assertTrue(other.read(0, 100).startswith(b"{"))
        server.stop()

    def test_plugin_ends_the_server(self):
        """As SIGTERM does: the write is answered, the exit status is 0."""
        server = self.start()
        client = server.client(name="late")
        self.addCleanup(client.close)
        client.write(0, b"shut down")
        self.assertEqual(client.drain(), b"")
        self.assertEqual(server.wait(), 0)
        with self.assertRaises((ConnectionError, FileNotFoundError, Closed)):
            server.greet()

    def test_many_end_it_at_once(self):
        server = self.start(loops=4)
        clients = [server.client(name="late%d" % (n % 3)) for n in range(20)]
        for client in clients:
            self.addCleanup(client.close)
            try:
                client.submit(CMD_WRITE, 0, payload=b"shut down")
            except Closed:
                continue    # the ones before it were quicker
        for client in clients:
            client.drain()
        self.assertEqual(server.wait(), 0)


if __name__ == "__main__":
    unittest.main()
