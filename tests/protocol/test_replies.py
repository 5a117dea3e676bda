#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Structured and extended replies: holes, DF, errors with texts, 64-bit
lengths, and what a disk's errors become."""

import unittest

from constants import *
from server import Server
from test_transmission import STYLES

CHUNKED = {name: how for name, how in STYLES.items() if name != "simple"}


class SparseReads(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("memory", "64M")
        with cls.server.client() as client:
            client.write(1 << 20, b"island" * 10000)
            client.disconnect()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def test_holes_travel_as_holes(self):
        for style, how in CHUNKED.items():
            with self.subTest(style=style), \
                    self.server.client(**how) as client:
                reply = client.call(CMD_READ, 0, 4 << 20)
                self.assertEqual(reply.error, 0)
                self.assertGreaterEqual(reply.holes, 2)
                self.assertEqual(reply.data[1 << 20:][:60000],
                                 b"island" * 10000)
                self.assertFalse(any(reply.data[:1 << 20]))
                sent = sum(length for _, length, data in reply.pieces
                           if data is not None)
                self.assertLess(sent, 1 << 20)
                client.disconnect()

    def test_hole_only(self):
        for style, how in CHUNKED.items():
            with self.subTest(style=style), \
                    self.server.client(**how) as client:
                reply = client.call(CMD_READ, 8 << 20, 32 << 20)
                self.assertEqual(reply.error, 0)
                self.assertFalse(any(data for _, _, data in reply.pieces))
                client.disconnect()

    def test_df_brings_one_chunk(self):
        for style, how in CHUNKED.items():
            with self.subTest(style=style), \
                    self.server.client(**how) as client:
                for offset, length in ((0, 65536), ((1 << 20) - 32768, 65536),
                                       ((1 << 20) - 7, 14), (8 << 20, 512),
                                       ((1 << 20) + 59999, 2)):
                    reply = client.call(CMD_READ, offset, length, DF)
                    self.assertEqual(reply.error, 0)
                    self.assertEqual(len(reply.pieces), 1)
                reply = client.call(CMD_READ, 0, 64 << 20, DF)
                self.assertIn(reply.error, (0, EOVERFLOW))
                if reply.error:
                    self.assertEqual(reply.pieces, [])
                client.disconnect()

    def test_df_mixture_is_data(self):
        """Where data and a hole mix, DF wants the zeroes explicitly."""
        for style, how in CHUNKED.items():
            with self.subTest(style=style), \
                    self.server.client(**how) as client:
                reply = client.call(CMD_READ, (1 << 20) - 32768, 65536, DF)
                (_, _, data), = reply.pieces
                self.assertIsNotNone(data)
                self.assertEqual(data[:32768], bytes(32768))
                client.disconnect()


class LongLengths(unittest.TestCase):
    """TRIM, WRITE_ZEROES and CACHE beyond 32 bits with extended headers."""

    def test_beyond_4_gib(self):
        with Server("memory", "64G") as server, \
                server.client(extended=True, meta=True) as client:
            for command in (CMD_TRIM, CMD_WRITE_ZEROES, CMD_CACHE):
                if (command == CMD_CACHE
                        and not client.export.flags & SEND_CACHE):
                    continue
                client.write(5 << 30, b"x" * 8192)
                reply = client.call(command, 4096, (64 << 30) - 8192)
                self.assertEqual(reply.error, 0)
                expected = b"x" if command == CMD_CACHE else b"\0"
                if command != CMD_TRIM:
                    self.assertEqual(client.read(5 << 30, 8192),
                                     expected * 8192)
            reply = client.call(CMD_WRITE_ZEROES, 0, 64 << 30, FAST_ZERO)
            self.assertIn(reply.error, (0, ENOTSUP) if client.export.flags
                          & SEND_FAST_ZERO else (EINVAL,))
            client.disconnect()

    def test_long_zeroes_on_a_disk_without_zero(self):
        """Either it is done by writes or it is said to be too long; the
        contents never lie."""
        with Server("memory", "1G", options=["--filter=nozero"]) as server, \
                server.client(extended=True) as client:
            client.write(1 << 20, b"q" * 8192)
            reply = client.call(CMD_WRITE_ZEROES, 0, 256 << 20)
            if not client.export.flags & SEND_WRITE_ZEROES:
                self.assertEqual(reply.error, EINVAL)
            else:
                self.assertIn(reply.error, (0, EOVERFLOW))
            if not reply.error:
                self.assertEqual(client.read(1 << 20, 8192), bytes(8192))
            client.disconnect()


class DiskErrors(unittest.TestCase):
    COMMANDS = {"pread": CMD_READ, "pwrite": CMD_WRITE, "trim": CMD_TRIM,
                "zero": CMD_WRITE_ZEROES, "extents": CMD_BLOCK_STATUS,
                "cache": CMD_CACHE}
    NAMES = {"EIO": EIO, "ENOSPC": ENOSPC, "EPERM": EPERM, "EINVAL": EINVAL,
             "ENOMEM": ENOMEM, "ESHUTDOWN": ESHUTDOWN}

    def check(self, server, failing, error):
        for style, how in STYLES.items():
            with self.subTest(style=style), server.client(**how) as client:
                for name, command in self.COMMANDS.items():
                    self.check_command(client, command,
                                       error if name == failing else 0)
                client.disconnect()

    def check_command(self, client, command, error):
        if command == CMD_BLOCK_STATUS and not client.contexts:
            return
        if command == CMD_CACHE and not client.export.flags & SEND_CACHE:
            return
        if command == CMD_WRITE:
            reply = client.call(command, 4096, payload=bytes(4096))
        else:
            reply = client.call(command, 4096, 4096)
        self.assertEqual(reply.error, error, "command %d" % command)

    def test_each_command_fails_alone(self):
        for name in self.COMMANDS:
            with self.subTest(failing=name), Server(
                    "memory", "1M", "error-%s=EIO" % name,
                    "error-%s-rate=100%%" % name,
                    options=["--filter=error"]) as server:
                self.check(server, name, EIO)

    def test_errors_of_the_protocol_arrive_as_they_are(self):
        for name, number in self.NAMES.items():
            with self.subTest(error=name), Server(
                    "memory", "1M", "error-pread=" + name,
                    "error-pread-rate=1",
                    options=["--filter=error"]) as server:
                self.check(server, "pread", number)

    def test_half_of_them(self):
        """A rate of 50%: both happen, and every reply is whole."""
        with Server("memory", "1M", "error-rate=50%",
                    options=["--filter=error"]) as server:
            for style, how in STYLES.items():
                errors = []
                with self.subTest(style=style), \
                        server.client(**how) as client:
                    for _ in range(300):
                        reply = client.call(CMD_READ, 0, 4096)
                        errors.append(reply.error)
                    self.assertEqual(set(errors), {0, EIO})
                    client.disconnect()


class Ordering(unittest.TestCase):
    def test_replies_leave_in_order_of_completion(self):
        """A slow read does not hold up a write behind it."""
        with Server("memory", "1M", "rdelay=500ms",
                    options=["--filter=delay"]) as server:
            for style, how in STYLES.items():
                with self.subTest(style=style), \
                        server.client(**how) as client:
                    slow, _ = client.submit(CMD_READ, 0, 4096)
                    quick, _ = client.submit(CMD_WRITE, 8192,
                                             payload=bytes(4096))
                    self.assertEqual(client.receive()[0], quick)
                    self.assertEqual(client.receive()[0], slow)
                    client.disconnect()

    def test_many_wait_together(self):
        """256 reads of 300 ms each take about 300 ms, not 77 s."""
        with Server("memory", "16M", "rdelay=300ms",
                    options=["--filter=delay"]) as server, \
                server.client(extended=True) as client:
            batch = [client.submit(CMD_READ, n * 4096, 4096, send=False)[1]
                     for n in range(256)]
            client.sock.settimeout(15)
            client.pump(b"".join(batch))
            replies = client.receive_all()
            self.assertEqual({r.error for r in replies.values()}, {0})
            client.disconnect()


if __name__ == "__main__":
    unittest.main()
