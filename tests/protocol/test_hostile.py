#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Hostile handshakes: garbage, thousands that never finish, more connections
than allowed, names without end.  A good client is served all the while and
memory stays bounded."""

import random
import resource
import select
import socket
import struct
import unittest

from constants import *
from nbdproto import Closed, Handshake, info_data
from server import Server

MIB = 1 << 20


def raise_file_limit(wanted=4096):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def send_until_blocked(conn, data, patience=0.3, limit=1 << 40):
    """Sends data again and again until the server takes no more for a while;
    returns the bytes it took."""
    poll = select.poll()
    poll.register(conn.sock, select.POLLOUT)
    sent, rest = 0, data
    while sent < limit and poll.poll(patience * 1000):
        try:
            count = conn.sock.send(rest, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            break
        sent += count
        rest = rest[count:] or data
    return sent


class BoundedServer(unittest.TestCase):
    options = ()
    plugin = ("memory", "16M")
    growth = 32 * MIB

    def setUp(self):
        raise_file_limit()
        self.server = Server(*self.plugin, options=self.options)
        self.addCleanup(self.server.kill)
        self.good = self.server.client(structured=True)
        self.addCleanup(self.good.close)
        self.good.read(0, 512)
        self.rss = self.server.rss()

    def tearDown(self):
        self.good.read(0, 4096)
        self.good.disconnect()
        self.server.check_good()
        if not self.server.sanitized():
            self.assertLess(self.server.peak_rss(), self.rss + self.growth)
        self.server.stop()


class Garbage(BoundedServer):
    def test_random_first_bytes(self):
        seed = random.SystemRandom().getrandbits(32)
        rng = random.Random(seed)
        with self.subTest(seed=seed):
            for n in range(600):
                with self.server.connect() as conn:
                    try:
                        conn.send(rng.randbytes(rng.randrange(1, 300)))
                        conn.sock.shutdown(1)
                    except OSError:
                        pass
                    self.assertIn(len(conn.drain()), (0, 18))
                if n % 50 == 0:
                    self.good.read(n * 512, 512)

    def test_random_bytes_behind_valid_flags(self):
        rng = random.Random(4711)
        for n in range(600):
            option = rng.choice((*range(12), rng.getrandbits(32)))
            data = rng.randbytes(rng.randrange(60))
            length = rng.choice((len(data), len(data), rng.randrange(100),
                                 rng.getrandbits(32)))
            with self.server.greet() as conn:
                try:
                    conn.send_option(option, data, length)
                    conn.sock.shutdown(1)
                except (Closed, OSError):
                    pass
                conn.drain()

    def test_random_requests(self):
        rng = random.Random(815)
        for n in range(300):
            how = ({}, {"meta": True}, {"meta": True, "extended": True})[n % 3]
            with self.server.client(**how) as client:
                data = b"".join(client.encode(
                    rng.randrange(12), rng.getrandbits(64),
                    rng.choice((rng.randrange(64), rng.getrandbits(32))),
                    rng.getrandbits(6), rng.getrandbits(64))
                    + rng.randbytes(rng.randrange(64)) for _ in range(8))
                try:
                    client.pump(data)
                    client.sock.shutdown(1)
                except (Closed, OSError):
                    pass
                client.drain()

    def test_other_protocols(self):
        for text in (b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x02\0\1\0\1",
                     b"SSH-2.0-x\r\n", b"\0" * 4096, b"\xff" * 4096):
            with self.server.connect() as conn:
                try:
                    conn.send(text)
                    conn.sock.shutdown(1)
                except (Closed, OSError):
                    pass
                conn.drain()


class HalfOpen(BoundedServer):
    options = ("--max-connections=100", "--handshake-timeout=600")

    def test_a_thousand_unfinished_handshakes(self):
        """The oldest gives way; who is served, and who comes new, is."""
        waiting, gone = [], 0
        for n in range(1000):
            conn = self.server.connect()
            conn.read_greeting()
            if n % 3:
                conn.send(struct.pack(">I", 3))
            if n % 3 == 2:
                conn.send(struct.pack(">QII", IHAVEOPT, OPT_GO, 4000)
                          + bytes(n % 100))
            waiting.append(conn)
            if n % 100 == 99:
                self.good.read(0, 512)
                self.server.check_good()
                self.assertLess(self.server.fds(), 100 + 50)
        poll = select.poll()
        for conn in waiting:
            poll.register(conn.sock, select.POLLIN | select.POLLHUP)
        ended = {fd for fd, _ in poll.poll(0)}
        gone = [conn.sock.fileno() in ended for conn in waiting]
        self.assertGreaterEqual(sum(gone), 1000 - 100)
        self.assertTrue(all(gone[:800]), "not the oldest gave way")
        self.assertFalse(gone[-1], "the newest gave way")
        for conn in waiting:
            conn.close()

    def test_a_slow_handshake_that_survives_can_finish(self):
        with self.server.greet() as conn:
            for _ in range(50):
                self.server.connect().close()
            client = conn.go()
            client.read(0, 512)
            client.disconnect()


class Cap(BoundedServer):
    options = ("--max-connections=100",)

    def test_200_over_the_cap_wait_and_nobody_is_dropped(self):
        served = [self.server.client() for _ in range(99)]
        extra = []
        for _ in range(200):
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            try:
                sock.connect(self.server.path)
            except BlockingIOError:     # the kernel's queue is full
                sock.close()
                continue
            sock.settimeout(30)
            extra.append(Handshake(sock))
        self.assertGreater(len(extra), 50)
        for client in served:
            client.read(0, 4096)
        self.assertLess(self.server.fds(), 100 + 50)
        for client in served:
            client.disconnect()
        # The rest is a crowd of handshakes, of which the oldest may have given
        # way to those behind them; about as many as there is room for remain.
        finished = 0
        for conn in extra:
            try:
                client = conn.greet().go()
                client.read(0, 512)
                client.disconnect()
                finished += 1
            except Closed:
                conn.close()
        self.assertGreater(finished, 50)


class FileLimit(unittest.TestCase):
    def test_soft_limit_is_raised_or_it_says_what_is_missing(self):
        def few():
            resource.setrlimit(resource.RLIMIT_NOFILE, (32, 4096))
        with Server("memory", "1M", options=["--max-connections=500"],
                    preexec_fn=few) as server:
            clients = [server.client() for _ in range(300)]
            for client in clients:
                client.read(0, 512)
                client.disconnect()


class Timeouts(BoundedServer):
    options = ("--handshake-timeout=1",)

    def test_unfinished_handshakes_end(self):
        partial = [b"", struct.pack(">I", 3),
                   struct.pack(">IQ", 3, IHAVEOPT),
                   struct.pack(">IQII", 3, IHAVEOPT, OPT_LIST, 0),
                   struct.pack(">IQII", 3, IHAVEOPT, OPT_INFO, 400) + b"x"]
        conns = []
        for data in partial:
            conns.append(self.server.connect())
            conns[-1].send(data)
        for conn in conns:
            conn.sock.settimeout(15)
            conn.drain()
            conn.close()

    def test_byte_by_byte_does_not_help(self):
        """Slow-loris: one byte whenever the server seems patient."""
        with self.server.connect() as conn:
            conn.send(struct.pack(">IQII", 3, IHAVEOPT, 99, 20000))
            poll = select.poll()
            poll.register(conn.sock, select.POLLIN | select.POLLHUP)
            conn.read_greeting()
            for n in range(100):
                if poll.poll(150):
                    break
                try:
                    conn.send(b"z")
                except Closed:
                    break
            else:
                self.fail("still there after 15 s")

    def test_transmission_has_no_deadline(self):
        with self.server.client() as client:
            with self.server.connect() as other:    # this one's end shows
                other.drain()                       # that time has passed
            client.read(0, 512)
            client.disconnect()


class Names(BoundedServer):
    def test_ten_thousand_export_names(self):
        for block in range(50):
            with self.server.greet() as conn:
                for n in range(200):
                    conn.info("export-%d-%d" % (block, n))
                client = conn.go("chosen-%d" % block)
                client.read(0, 512)
                client.disconnect()

    def test_options_without_end(self):
        for number, data in ((OPT_LIST, b""), (99, bytes(100)),
                             (OPT_INFO, info_data("n" * 4000, (3,)))):
            with self.server.greet() as conn:
                one = struct.pack(">QII", IHAVEOPT, number, len(data)) + data
                send_until_blocked(conn, one, limit=20 * MIB)
                self.good.read(0, 512)


class Pipelining(unittest.TestCase):
    """What follows GO and EXPORT_NAME in the same send must survive the
    connection's move to its disk's loop."""

    def check(self, options):
        with Server("memory", "16M", options=options) as server:
            conns = []
            for n in range(64):
                conn = server.connect()
                choose = struct.pack(">QII", IHAVEOPT, OPT_EXPORT_NAME, 4) \
                    + b"name"
                if n % 2:
                    data = info_data("name", (3,))
                    choose = struct.pack(">QII", IHAVEOPT, OPT_GO,
                                         len(data)) + data
                writes = b"".join(
                    struct.pack(">IHHQQI", REQUEST_MAGIC, 0, CMD_WRITE, i,
                                (n * 16 + i) * 4096, 4096)
                    + bytes([n]) * 4096 for i in range(16))
                reads = struct.pack(">IHHQQI", REQUEST_MAGIC, 0, CMD_DISC, 0,
                                    0, 0)
                conn.pump(struct.pack(">I", 3) + choose + writes + reads)
                conns.append((conn, n))
            for conn, n in conns:
                conn.read_greeting()
                if n % 2:
                    self.assertEqual(conn.option_replies(OPT_GO)[-1][0],
                                     REP_ACK)
                else:
                    conn.read_export_name()
                seen = {conn.unpack(">IIQ") for _ in range(16)}
                self.assertEqual(seen, {(SIMPLE_REPLY_MAGIC, 0, i)
                                        for i in range(16)})
                conn.expect_eof()
                conn.close()
            with server.client() as client:
                for n in range(64):
                    self.assertEqual(client.read(n * 65536, 65536),
                                     bytes([n]) * 65536)
                client.disconnect()

    def test_default_loops(self):
        self.check([])

    def test_one_and_four_loops(self):
        for loops in (1, 4):
            with self.subTest(loops=loops):
                self.check(["--loops=%d" % loops])


if __name__ == "__main__":
    unittest.main()
