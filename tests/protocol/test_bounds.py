#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Offsets, lengths and payloads at and past every border: the named error,
the payload consumed, the connection usable."""

import os
import unittest

from constants import *
from nbdproto import Closed
from server import Server, temporary_directory
from test_transmission import STYLES
from transmission import Reply

SIZE = 1 << 20
BIG = 256 << 20
TOP = (1 << 64) - 1
PAST_END = {CMD_READ: EINVAL, CMD_WRITE: ENOSPC, CMD_TRIM: EINVAL,
            CMD_CACHE: EINVAL, CMD_WRITE_ZEROES: ENOSPC,
            CMD_BLOCK_STATUS: EINVAL}


class Bounds(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("memory", "1M")
        cls.big = Server("memory", "256M")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.big.stop()

    def each_style(self, server=None):
        for style, how in STYLES.items():
            with (server or self.server).client(**how) as client:
                try:
                    yield client
                except GeneratorExit:
                    print("failed in style", style)
                    raise
                client.read(0, 512)     # it is still usable
                client.disconnect()

    def call(self, client, command, offset, length):
        if command == CMD_WRITE:
            return client.call(command, offset, payload=bytes(length))
        return client.call(command, offset, length)

    def expected(self, client, command):
        flags = client.export.flags
        if command == CMD_BLOCK_STATUS and not client.contexts:
            return EINVAL
        if command == CMD_CACHE and not flags & SEND_CACHE:
            return EINVAL
        return PAST_END[command]

    def test_past_the_end(self):
        ranges = ((SIZE, 1), (SIZE - 1, 2), (0, SIZE + 1), (SIZE, 4096),
                  (SIZE + 4096, 4096), (TOP, 1), (TOP - 511, 512),
                  (TOP - 511, 1024), (1 << 63, 4096), ((1 << 63) - 1, 4096),
                  ((1 << 63) - 4096, 8192))
        for client in self.each_style():
            for command in PAST_END:
                for offset, length in ranges:
                    with self.subTest(command=command, offset=offset,
                                      length=length):
                        reply = self.call(client, command, offset, length)
                        self.assertEqual(reply.error,
                                         self.expected(client, command))

    def test_lengths_without_payload_past_the_end(self):
        for client in self.each_style():
            lengths = [(1 << 32) - 1, 1 << 31]
            if client.extended:
                lengths += [1 << 32, 1 << 63, TOP, TOP - 4095]
            for command in PAST_END:
                if command == CMD_WRITE:
                    continue
                for length in lengths:
                    for offset in (0, 4096, SIZE, TOP):
                        with self.subTest(command=command, offset=offset,
                                          length=length):
                            reply = client.call(command, offset, length)
                            # READ: too long may be said before past the end
                            allowed = {self.expected(client, command)}
                            if command == CMD_READ:
                                allowed |= {EINVAL, EOVERFLOW}
                            self.assertIn(reply.error, allowed)

    def test_up_to_the_end(self):
        for client in self.each_style():
            client.write(SIZE - 1, b"z")
            self.assertEqual(client.read(SIZE - 1, 1), b"z")
            client.write(SIZE - 4097, b"y" * 4097)
            self.assertEqual(client.read(SIZE - 4097, 4097), b"y" * 4097)
            self.assertEqual(len(client.read(0, SIZE)), SIZE)
            for command in (CMD_TRIM, CMD_WRITE_ZEROES):
                for offset, length in ((SIZE - 1, 1), (0, SIZE)):
                    reply = client.call(command, offset, length)
                    self.assertEqual(reply.error, 0)

    def test_length_zero_does_not_disconnect(self):
        for client in self.each_style():
            for command in PAST_END:
                for offset in (0, 512, SIZE, TOP):
                    with self.subTest(command=command, offset=offset):
                        reply = self.call(client, command, offset, 0)
                        self.assertIn(reply.error,
                                      {0, EINVAL, PAST_END[command]})
                        if offset == TOP:
                            self.assertNotEqual(reply.error, 0)

    def test_flush_fields_are_reserved(self):
        for client in self.each_style():
            self.assertEqual(client.call(CMD_FLUSH).error, 0)
            for offset, length in ((512, 0), (0, 512), (TOP, 1)):
                reply = client.call(CMD_FLUSH, offset, length)
                self.assertEqual(reply.error, EINVAL)

    # Payloads

    def test_payload_up_to_the_maximum(self):
        for client in self.each_style(self.big):
            limit = client.export.limit
            self.assertGreaterEqual(limit, 32 << 20)
            data = os.urandom(1 << 20) * (limit >> 20)
            client.write(4096 + 7, data)
            self.assertEqual(client.read(4096 + 7, len(data)), data)
            reply = client.call(CMD_WRITE_ZEROES, 0, BIG)
            self.assertEqual(reply.error, 0)

    def test_read_above_the_maximum(self):
        for client in self.each_style(self.big):
            for length in (client.export.limit + 1, BIG):
                reply = client.call(CMD_READ, 0, length)
                allowed = {EINVAL}
                if client.structured or client.extended:
                    allowed |= {0, EOVERFLOW}
                self.assertIn(reply.error, allowed)
                if client.structured or client.extended:
                    reply = client.call(CMD_READ, 0, length, DF)
                    self.assertIn(reply.error, {0, EINVAL, EOVERFLOW})

    def test_refused_payload_is_consumed(self):
        for client in self.each_style(self.big):
            for length in (2, 4095, 1 << 20, 32 << 20, MAX_PAYLOAD):
                payload = bytes(length)
                reply = client.call(CMD_WRITE, BIG - 1, payload=payload)
                self.assertEqual(reply.error, ENOSPC)
                reply = client.call(CMD_WRITE, 0, flags=NO_HOLE,
                                    payload=payload)
                self.assertEqual(reply.error, EINVAL)
                client.read(0, 512)

    def test_payload_above_64_mib_disconnects(self):
        for style, how in STYLES.items():
            for length in (MAX_PAYLOAD + 1, (1 << 31), (1 << 32) - 1,
                           1 << 32, TOP):
                if style != "extended" and length >> 32:
                    continue
                with self.subTest(style=style, length=length), \
                        self.big.client(**how) as client:
                    flags = PAYLOAD_LEN if client.extended else 0
                    client.send(client.encode(CMD_WRITE, 0, length, flags))
                    try:
                        client.send(bytes(65536))
                    except Closed:
                        pass
                    self.assertEqual(client.drain(), b"")
        self.big.check_good()

    def test_payload_on_any_extended_command_is_bounded(self):
        for command in (CMD_READ, CMD_TRIM, CMD_BLOCK_STATUS, 77):
            with self.subTest(command=command), \
                    self.server.client(extended=True, meta=True) as client:
                client.send(client.encode(command, 0, 1 << 40, PAYLOAD_LEN))
                self.assertEqual(client.drain(), b"")


class SmallBudget(unittest.TestCase):
    """--memory=4M: the maximum advertised can be had, more is EINVAL with
    the payload consumed."""

    def test_advertised_maximum_holds(self):
        with Server("memory", "256M", options=["--memory=4M"]) as server:
            for style, how in STYLES.items():
                with self.subTest(style=style), \
                        server.client(**how) as client:
                    limit = client.export.limit
                    self.assertLessEqual(limit, MAX_PAYLOAD)
                    self.assertGreaterEqual(limit, 1 << 20)
                    data = bytes(range(256)) * (limit >> 8)
                    client.write(0, data)
                    self.assertEqual(client.read(0, len(data)), data)
                    if limit < MAX_PAYLOAD:
                        reply = client.call(CMD_WRITE, 0,
                                            payload=bytes(MAX_PAYLOAD))
                        self.assertEqual(reply.error, EINVAL)
                    client.read(0, 512)
                    client.disconnect()


class BlockSizes(unittest.TestCase):
    """A disk that only takes whole blocks: O_DIRECT on a file, where the file
    system has it."""

    def test_unaligned_requests_are_invalid(self):
        with temporary_directory() as path:
            image = os.path.join(path, "image")
            with open(image, "wb") as file:
                file.truncate(1 << 20)
            try:
                server = Server("file", "file=" + image, "direct=true")
            except AssertionError as error:
                if "Invalid argument" in str(error):
                    self.skipTest("no O_DIRECT on the temporary directory")
                raise
            with server:
                self.check(server)

    def check(self, server):
        for style, how in STYLES.items():
            with self.subTest(style=style), server.client(**how) as client:
                low = client.export.block_min
                if not low or low == 1:
                    self.skipTest("the disk has no minimum block size")
                for command in PAST_END:
                    if command == CMD_BLOCK_STATUS and not client.contexts:
                        continue
                    for offset, length in ((1, low), (0, low + 1), (0, 1),
                                           (low - 1, 2 * low)):
                        self.check_one(client, command, offset, length)
                client.write(low, b"b" * low)
                self.assertEqual(client.read(low, low), b"b" * low)
                client.disconnect()

    def check_one(self, client, command, offset, length):
        with self.subTest(command=command, offset=offset, length=length):
            if command == CMD_WRITE:
                reply = client.call(command, offset, payload=bytes(length))
            else:
                reply = client.call(command, offset, length)
            self.assertEqual(reply.error, EINVAL)


class NoPayload(unittest.TestCase):
    """An extended WRITE without PAYLOAD_LEN: it is refused, and what follows
    its header is the next command."""

    def test_next_command_is_heard(self):
        with Server("memory", "16M") as server:
            for length in (1, 4096, 1 << 40, (1 << 63) - 1):
                client = server.client(extended=True)
                write = client.encode(CMD_WRITE, 0, length, 0, cookie=7)
                client.pending[7] = Reply(CMD_WRITE, 0, 0, length)
                client.send(write)
                read, _ = client.submit(CMD_READ, 0, 512)
                replies = client.receive_all()
                self.assertEqual(replies[7].error, EINVAL)
                self.assertEqual(replies[read].data, bytes(512))
                client.disconnect()


if __name__ == "__main__":
    unittest.main()
