#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Every command with every combination of flags in every reply style, on
disks that can more and less: either it works or brings exactly the error that
the specification names, and the connection goes on.  Then what ends it."""

import random
import unittest

from constants import *
from server import Server

STYLES = {"simple": {}, "structured": {"meta": True},
          "extended": {"meta": True, "extended": True}}
ALL_FLAGS = FUA | NO_HOLE | DF | REQ_ONE | FAST_ZERO | PAYLOAD_LEN
RANGE = (8192, 4096)        # where the matrix works
CONTENT = bytes(range(256)) * 16


class Expectation:
    """Which errors a command with these flags may bring (0: success)."""

    def __init__(self, client):
        self.flags = client.export.flags
        self.extended = client.extended
        self.contexts = bool(client.contexts)

    def has(self, flag):
        return bool(self.flags & flag)

    def valid_flags(self, command):
        valid = FUA if self.has(SEND_FUA) else 0
        if command == CMD_READ and self.has(SEND_DF):
            valid |= DF
        if command == CMD_WRITE and self.extended:
            valid |= PAYLOAD_LEN
        if command == CMD_WRITE_ZEROES:
            valid |= NO_HOLE
            valid |= FAST_ZERO if self.has(SEND_FAST_ZERO) else 0
        if command == CMD_BLOCK_STATUS:
            valid |= REQ_ONE
            valid |= PAYLOAD_LEN if self.has(BLOCK_STATUS_PAYLOAD) else 0
        return valid

    def offered(self, command):
        bit = {CMD_FLUSH: SEND_FLUSH, CMD_TRIM: SEND_TRIM,
               CMD_CACHE: SEND_CACHE,
               CMD_WRITE_ZEROES: SEND_WRITE_ZEROES}.get(command)
        if command == CMD_BLOCK_STATUS:
            return self.contexts
        return command <= CMD_BLOCK_STATUS and (not bit or self.has(bit))

    def errors(self, command, flags):
        wrong = set()
        if flags & ~self.valid_flags(command):
            wrong.add(EINVAL)
        if not self.offered(command):
            wrong.add(EINVAL)
        if (self.has(READ_ONLY)
                and command in (CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES)):
            # with a second fault, either may be named
            wrong.add(EPERM)
            if not self.offered(command) and not flags:
                wrong.discard(EINVAL)
        if wrong:
            return wrong
        if command == CMD_WRITE_ZEROES and flags & FAST_ZERO:
            return {0, ENOTSUP}
        return {0}


class CommandMatrix(unittest.TestCase):
    """One server a class; subclasses change what it can."""
    options = ()
    plugin = ("memory", "16M")
    writable = True

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.plugin, options=cls.options)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def try_command(self, client, expected, command, flags):
        offset, length = (0, 0) if command == CMD_FLUSH else RANGE
        more = {}
        if command == CMD_WRITE:
            more["payload"] = CONTENT
        elif client.extended and flags & PAYLOAD_LEN:
            more["payload"] = b"p" * 32
            if (command == CMD_BLOCK_STATUS
                    and client.export.flags & BLOCK_STATUS_PAYLOAD):
                ident = next(iter(client.contexts))
                more = {"payload": length.to_bytes(8, "big")
                        + ident.to_bytes(4, "big"), "effect": length}
        reply = client.call(command, offset, length, flags, **more)
        self.assertIn(reply.error, expected.errors(command, flags))
        return reply

    def run_matrix(self, style):
        client = self.server.client(**STYLES[style])
        expected = Expectation(client)
        if self.writable:
            client.write(RANGE[0], CONTENT)
        for command in (*range(CMD_BLOCK_STATUS + 1), CMD_RESIZE, 9, 255,
                        65535):
            if command == CMD_DISC:
                continue
            choices = [flags for flags in range(ALL_FLAGS + 1)]
            choices += [1 << bit for bit in range(6, 16)] + [0xffc0]
            for flags in choices:
                with self.subTest(style=style, command=command, flags=flags):
                    if command == CMD_READ and self.writable:
                        client.write(RANGE[0], CONTENT)
                    reply = self.try_command(client, expected, command, flags)
                    if command == CMD_READ and not reply.error:
                        self.assertEqual(reply.data, CONTENT if self.writable
                                         else bytes(RANGE[1]))
                    if command == CMD_WRITE_ZEROES and not reply.error:
                        self.assertEqual(client.read(*RANGE), bytes(RANGE[1]))
        client.read(*RANGE)
        client.disconnect()

    def test_simple(self):
        self.run_matrix("simple")

    def test_structured(self):
        self.run_matrix("structured")

    def test_extended(self):
        self.run_matrix("extended")


class ReadOnly(CommandMatrix):
    options = ("-r",)
    writable = False

    def test_flag_is_set(self):
        client = self.server.client()
        self.assertTrue(client.export.flags & READ_ONLY)
        client.disconnect()


class WithoutZero(CommandMatrix):
    options = ("--filter=nozero",)


class WithoutExtents(CommandMatrix):
    options = ("--filter=noextents",)


class ReadOnlyFilter(CommandMatrix):
    plugin = ("null", "16M")
    writable = False
    options = ("-r",)


class Ends(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("memory", "16M")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def tearDown(self):
        self.server.check_good()

    def test_wrong_magic_disconnects(self):
        for style, how in STYLES.items():
            right = EXT_REQUEST_MAGIC if style == "extended" \
                else REQUEST_MAGIC
            for magic in (0, 0xffffffff, 0x12560953, 0x25609514,
                          SIMPLE_REPLY_MAGIC, EXT_REQUEST_MAGIC,
                          REQUEST_MAGIC):
                if magic == right:
                    continue
                with self.subTest(style=style, magic=magic), \
                        self.server.client(**how) as client:
                    client.send(client.encode(CMD_READ, 0, 512, magic=magic)
                                + bytes(8))
                    self.assertEqual(client.drain(), b"")

    def test_disconnect_with_fields_that_should_be_zero(self):
        for style, how in STYLES.items():
            for flags, offset, length in ((FUA, 0, 0), (0, 512, 512),
                                          (0xffc0, 0, 0)):
                with self.subTest(style=style, flags=flags), \
                        self.server.client(**how) as client:
                    client.send(client.encode(CMD_DISC, offset, length,
                                              flags))
                    client.sock.shutdown(1)
                    client.pending.clear()
                    rest = client.drain()   # nothing, or one EINVAL
                    self.assertLessEqual(len(rest), 128)

    def test_nothing_behind_disc_is_executed(self):
        with self.server.client() as client:
            client.write(0, b"a" * 512)
            _, data = client.submit(CMD_WRITE, 0, payload=b"b" * 512,
                                    send=False)
            client.send(client.encode(CMD_DISC) + data)
            client.drain()
        with self.server.client() as client:
            self.assertEqual(client.read(0, 512), b"a" * 512)
            client.disconnect()

    def test_requests_one_byte_at_a_time(self):
        for style, how in STYLES.items():
            with self.subTest(style=style), \
                    self.server.client(**how) as client:
                _, data = client.submit(CMD_WRITE, 4096, payload=b"slow" * 32,
                                        send=False)
                for byte in data:
                    client.send(bytes([byte]))
                self.assertEqual(client.receive()[1].error, 0)
                self.assertEqual(client.read(4096, 128), b"slow" * 32)
                client.disconnect()

    def test_half_close_still_answers(self):
        """The client has shut down its sending side: it may still read what
        it asked for, and the server then closes."""
        with self.server.client() as client:
            for n in range(8):
                client.submit(CMD_READ, n * 4096, 4096)
            client.sock.shutdown(1)
            client.receive_all()
            client.expect_eof()


class DiscDrains(unittest.TestCase):
    def test_outstanding_requests_are_answered(self):
        with Server("memory", "16M", "rdelay=200ms", "wdelay=200ms",
                    options=["--filter=delay"]) as server:
            for style, how in STYLES.items():
                with self.subTest(style=style), \
                        server.client(**how) as client:
                    for n in range(10):
                        client.submit(CMD_WRITE, n * 4096,
                                      payload=b"%d" % n * 4096)
                        client.submit(CMD_READ, (20 + n) * 4096, 4096)
                    client.send(client.encode(CMD_DISC))
                    replies = client.receive_all()
                    self.assertEqual(len(replies), 20)
                    self.assertEqual({r.error for r in replies.values()}, {0})
                    client.expect_eof()


class AgainstModel(unittest.TestCase):
    """Random requests against a byte array, one by one and pipelined."""
    SIZE = 1 << 20

    @classmethod
    def setUpClass(cls):
        cls.server = Server("memory", "1M")
        cls.seed = random.SystemRandom().getrandbits(32)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def start(self, style):
        client = self.server.client(**STYLES[style])
        reply = client.call(CMD_WRITE_ZEROES, 0, self.SIZE)
        self.assertEqual(reply.error, 0)
        return client, bytearray(self.SIZE)

    def test_one_by_one(self):
        for style in STYLES:
            rng = random.Random(self.seed)
            client, model = self.start(style)
            with self.subTest(style=style, seed=self.seed):
                for _ in range(400):
                    self.one_step(rng, client, model)
                self.assertEqual(client.read(0, self.SIZE), bytes(model))
            client.disconnect()

    def one_step(self, rng, client, model):
        offset = rng.randrange(self.SIZE)
        length = min(self.SIZE - offset,
                     int(2 ** rng.uniform(0, 18)))
        kind = rng.randrange(4)
        if kind == 0:
            self.assertEqual(client.read(offset, length),
                             model[offset:offset + length])
        elif kind == 1:
            data = rng.randbytes(length)
            client.write(offset, data, rng.choice((0, FUA)))
            model[offset:offset + length] = data
        elif kind == 2:
            reply = client.call(CMD_WRITE_ZEROES, offset, length,
                                rng.choice((0, NO_HOLE)))
            self.assertEqual(reply.error, 0)
            model[offset:offset + length] = bytes(length)
        elif client.contexts:
            self.check_status(client, model, offset, length)

    def check_status(self, client, model, offset, length):
        reply = client.call(CMD_BLOCK_STATUS, offset, length)
        self.assertEqual(reply.error, 0)
        for extents in reply.extents.values():
            at = offset
            for size, status in extents:
                if status & STATE_ZERO:
                    self.assertFalse(any(model[at:at + size]),
                                     "not zero at %#x+%#x" % (at, size))
                at += size

    def test_pipelined(self):
        """64 disjoint slots, each used by one request at a time."""
        slot = self.SIZE // 64
        for style in STYLES:
            rng = random.Random(self.seed + 1)
            client, model = self.start(style)
            with self.subTest(style=style, seed=self.seed):
                for _ in range(20):
                    wanted, batch = {}, []
                    for n in rng.sample(range(64), 64):
                        at, length = n * slot, rng.randrange(1, slot)
                        if rng.randrange(2):
                            data = rng.randbytes(length)
                            batch.append(client.submit(
                                CMD_WRITE, at, payload=data, send=False)[1])
                            model[at:at + length] = data
                        else:
                            cookie, data = client.submit(
                                CMD_READ, at, length, send=False)
                            batch.append(data)
                            wanted[cookie] = bytes(model[at:at + length])
                    client.pump(b"".join(batch))
                    for cookie, reply in client.receive_all().items():
                        self.assertEqual(reply.error, 0)
                        if cookie in wanted:
                            self.assertEqual(reply.data, wanted[cookie])
            client.disconnect()


if __name__ == "__main__":
    unittest.main()
