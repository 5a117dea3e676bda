#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""BLOCK_STATUS: extents in both chunk types, REQ_ONE, long ranges, and the
payload that selects contexts."""

import struct
import unittest

from constants import *
from server import Server

SIZE = 16 << 30
TOP = (1 << 64) - 1


class BlockStatus(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("memory", "16G")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def clients(self):
        for extended in (False, True):
            with self.server.client(meta=True, extended=extended) as client:
                reply = client.call(CMD_TRIM, 0, 1 << 30)
                self.assertEqual(reply.error, 0)
                try:
                    yield client
                except GeneratorExit:
                    print("failed with extended =", extended)
                    raise
                client.read(0, 512)
                client.disconnect()

    def status(self, client, offset, length, flags=0):
        reply = client.call(CMD_BLOCK_STATUS, offset, length, flags)
        self.assertEqual(reply.error, 0)
        extents, = reply.extents.values()
        return extents

    def test_data_and_holes(self):
        for client in self.clients():
            client.write(1 << 20, b"d" * (1 << 20))
            extents = self.status(client, 0, 4 << 20)
            at, data, seen = 0, 0, []
            for length, status in extents:
                seen.append((at, status))
                if not status & STATE_ZERO:
                    data += min(at + length, 4 << 20) - at
                at += length
            self.assertGreaterEqual(at, 4 << 20)
            self.assertEqual(seen[0], (0, STATE_HOLE | STATE_ZERO))
            self.assertIn((1 << 20, 0), seen)
            self.assertEqual(data, 1 << 20)

    def test_neighbours_differ(self):
        """Extents of equal status are merged."""
        for client in self.clients():
            for n in range(64):
                client.write(n * 65536, b"m" * 32768)
            extents = self.status(client, 0, 4 << 20)
            for one, two in zip(extents, extents[1:]):
                self.assertNotEqual(one[1], two[1])

    def test_req_one(self):
        for client in self.clients():
            client.write(1 << 20, b"d" * 65536)
            for offset, length in ((0, 4 << 20), (1 << 20, 512), (0, 1),
                                   ((1 << 20) - 1, 2), (0, 1 << 30),
                                   ((1 << 20) + 65535, 65536)):
                extents = self.status(client, offset, length, REQ_ONE)
                self.assertEqual(len(extents), 1)
                self.assertLessEqual(extents[0][0], length)

    def test_whole_disk_with_32_bits(self):
        with self.server.client(meta=True) as client:
            client.write(0, b"x")
            for offset in (4096, SIZE - (1 << 32), 8 << 30):
                for length in ((1 << 32) - 1, (1 << 32) - 4096, 1 << 31):
                    extents = self.status(client, offset, length)
                    self.assertLess(sum(size for size, _ in extents),
                                    SIZE - offset + 1)
                    self.status(client, offset, length, REQ_ONE)

    def test_whole_disk_with_64_bits(self):
        with self.server.client(extended=True, meta=True) as client:
            client.call(CMD_TRIM, 0, SIZE)
            self.assertEqual(self.status(client, 0, SIZE),
                             [(SIZE, STATE_HOLE | STATE_ZERO)])
            self.assertEqual(self.status(client, 4096, SIZE - 4096, REQ_ONE),
                             [(SIZE - 4096, STATE_HOLE | STATE_ZERO)])

    def test_walk_covers_everything(self):
        """A client that asks on at the first byte not covered arrives."""
        for client in self.clients():
            for n in range(3000):
                client.submit(CMD_WRITE, n * 131072, payload=b"w" * 65536)
                if n % 32 == 31:
                    client.receive_all()
            client.receive_all()
            at, end, rounds = 0, 3000 * 131072, 0
            data = 0
            while at < end:
                for length, status in self.status(client, at, end - at):
                    data += 0 if status & STATE_ZERO else length
                    at += length
                rounds += 1
                self.assertLess(rounds, 5000)
            self.assertGreaterEqual(data, 3000 * 65536)

    def test_without_extents_all_is_data(self):
        with Server("memory", "1M", options=["--filter=noextents"]) as server:
            for extended in (False, True):
                with server.client(meta=True, extended=extended) as client:
                    if not client.contexts:
                        continue
                    self.assertEqual(self.status(client, 0, 1 << 20),
                                     [(1 << 20, 0)])
                    client.disconnect()


class Payload(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("memory", "16G")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        self.client = self.server.client(extended=True, meta=True)
        self.ident, = self.client.contexts

    def tearDown(self):
        self.client.read(0, 512)
        self.client.disconnect()

    def query(self, ids, effect=1 << 20, offset=0, flags=0, payload=None):
        if payload is None:
            payload = struct.pack(">Q%dI" % len(ids), effect, *ids)
        return self.client.call(CMD_BLOCK_STATUS, offset, payload=payload,
                                flags=PAYLOAD_LEN | flags, effect=effect,
                                ids=ids)

    def test_flag_is_advertised(self):
        self.assertTrue(self.client.export.flags & BLOCK_STATUS_PAYLOAD)

    def test_selected_context_is_answered(self):
        reply = self.query([self.ident])
        self.assertEqual(reply.error, 0)
        self.assertEqual(list(reply.extents), [self.ident])
        reply = self.query([self.ident], flags=REQ_ONE)
        self.assertEqual(reply.error, 0)

    def test_effect_length_has_64_bits(self):
        reply = self.query([self.ident], effect=SIZE)
        self.assertEqual(reply.error, 0)

    def test_effect_length_past_the_end(self):
        for effect in (SIZE + 1, 1 << 63, TOP):
            self.assertEqual(self.query([self.ident], effect).error, EINVAL)
        self.assertEqual(self.query([self.ident], offset=SIZE).error, EINVAL)
        self.assertEqual(self.query([self.ident], offset=TOP - 5).error,
                         EINVAL)

    def test_duplicates_and_strangers_are_invalid(self):
        other = self.ident ^ 0x5a5a
        for ids in ([self.ident] * 2, [other], [self.ident, other],
                    [other, other], [self.ident] * 1000,
                    list(range(1, 5000)), [0xffffffff]):
            if ids == [self.ident]:
                continue
            with self.subTest(ids=ids[:3]):
                self.assertEqual(self.query(ids).error, EINVAL)
                self.client.read(0, 512)

    def test_no_context_at_all(self):
        # n = 0 is a legal length; nothing says what comes of it.
        self.assertIn(self.query([]).error, (0, EINVAL))

    def test_lengths_that_fit_no_list(self):
        for length in (1, 4, 7, 9, 10, 11, 13, 14, 15, 65535, 1 << 20):
            if length >= 8 and (length - 8) % 4 == 0:
                continue
            with self.subTest(length=length):
                reply = self.query([], payload=bytes(length))
                self.assertEqual(reply.error, EINVAL)
                self.client.read(0, 512)

    def test_large_lists_are_consumed(self):
        for length in (1 << 20, 32 << 20, MAX_PAYLOAD):
            with self.subTest(length=length):
                reply = self.query([], payload=bytes(length))
                self.assertEqual(reply.error, EINVAL)
                self.client.read(0, 512)

    def test_flag_with_length_zero(self):
        reply = self.query([], payload=b"")
        self.assertEqual(reply.error, EINVAL)

    def test_payload_without_contexts(self):
        with self.server.client(extended=True) as client:
            reply = client.call(CMD_BLOCK_STATUS, 0, flags=PAYLOAD_LEN,
                                payload=struct.pack(">QI", 4096, 1), ids=())
            self.assertEqual(reply.error, EINVAL)
            client.read(0, 512)
            client.disconnect()


class HugeDisk(unittest.TestCase):
    """2^63-1 bytes, the most there is."""

    def test_ends_of_the_range(self):
        size = (1 << 63) - 1
        with Server("memory", str(size)) as server:
            for extended in (False, True):
                with server.client(meta=True, extended=extended) as client:
                    self.assertEqual(client.export.size, size)
                    client.write(size - 1, b"!")
                    self.assertEqual(client.read(size - 2, 2), b"\0!")
                    for offset in (0, size - 5000, size - 1):
                        length = min(size - offset, TOP if extended
                                     else (1 << 32) - 1)
                        for flags in (0, REQ_ONE):
                            reply = client.call(CMD_BLOCK_STATUS, offset,
                                                length, flags)
                            self.assertEqual(reply.error, 0)
                    client.disconnect()
            with server.client(extended=True, meta=True) as client:
                for command in (CMD_TRIM, CMD_WRITE_ZEROES):
                    reply = client.call(command, 0, size)
                    self.assertIn(reply.error, (0, EOVERFLOW))
                reply = client.call(CMD_BLOCK_STATUS, 0, size)
                self.assertEqual(reply.error, 0)
                client.disconnect()


if __name__ == "__main__":
    unittest.main()
