#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Chains of filters over an odd plugin, against a model of bytes: whatever the
disk lacks or limits, and however it completes, clients must not see it."""

import json
import os
import random
import unittest

from constants import *
from server import Server, build_plugin, temporary_directory

MIB = 1 << 20
SIZE = 4 * MIB
SEED = int(os.environ.get("ABD_SEED", "20261125"))
WRITE_BIT, ZERO_BIT, TRIM_BIT, FLUSH_BIT, EXTENTS_BIT = 4, 8, 16, 32, 64

DISKS = {
    "plain": [],
    "small transfers": ["max_transfer=4096", "max_zero=8192",
                        "max_trim=12288"],
    "no zero, no trim, no extents": ["lacks=%d" % (
        ZERO_BIT | TRIM_BIT | EXTENTS_BIT)],
    "zero refused": ["refuse_zero=1", "max_zero=65536"],
    "emulated fua": ["fua=1"],
    "blocks of 512": ["block_min=512", "max_transfer=65536"],
    "one at a time": ["max_requests=1"],
    "lends": ["lends=1"],
    "lends small": ["lends=1", "max_transfer=16384"],
    "parallel": ["parallel=1"],
    "parallel, lends, emulated fua": ["parallel=1", "lends=1", "fua=1",
                                      "max_requests=5"],
}
CHAINS = (
    (),
    ("noextents",),
    ("log", "noextents"),
    ("stats", "delay", "error"),
    ("log", "nozero", "log", "limit"),
)
PARAMETERS = {"delay": ["rdelay=1ms"], "nozero": ["zeromode=emulate"],
              "limit": ["limit=10"]}


class Model:
    """Random commands on one area of the export, several at once."""

    def __init__(self, client, seed, begin, end, unit):
        self.client, self.random = client, random.Random(seed)
        self.begin, self.end, self.unit = begin, end, unit
        self.bytes = bytearray(end - begin)
        self.busy = {}

    def range(self):
        units = (self.end - self.begin) // self.unit
        length = self.random.randint(1, min(units, 1 << self.random.randrange(
            units.bit_length())))
        at = self.random.randint(0, units - length)
        return at * self.unit, length * self.unit

    def is_free(self, at, length):
        return all(at + length <= a or a + n <= at
                   for a, n, _ in self.busy.values())

    def submit_one(self):
        at, length = self.range()
        if not self.is_free(at, length):
            return
        offset = self.begin + at
        what = self.random.choice("rrrwwwwzf")
        fua = FUA if self.random.randrange(4) == 0 else 0
        if what == "w":
            data = self.random.randbytes(length)
            cookie, _ = self.client.submit(CMD_WRITE, offset, payload=data,
                                           flags=fua)
            self.bytes[at:at + length] = data
        elif what == "z":
            hole = NO_HOLE if self.random.randrange(2) else 0
            cookie, _ = self.client.submit(CMD_WRITE_ZEROES, offset, length,
                                           fua | hole)
            self.bytes[at:at + length] = bytes(length)
        elif what == "f":
            cookie, _ = self.client.submit(CMD_FLUSH)
            at = length = 0
        else:
            cookie, _ = self.client.submit(CMD_READ, offset, length)
        self.busy[cookie] = (at, length, what)

    def receive_one(self):
        cookie, reply = self.client.receive()
        at, length, what = self.busy.pop(cookie)
        if reply.error:
            raise AssertionError("%s at %d of %d bytes: error %d %s" % (
                what, at, length, reply.error, reply.text))
        if what == "r" and reply.data != self.bytes[at:at + length]:
            raise AssertionError("wrong data at %d of %d bytes" % (at, length))

    def run(self, count):
        for _ in range(count):
            self.submit_one()
            while len(self.busy) > 12 or (
                    self.busy and self.random.randrange(3) == 0):
                self.receive_one()
        while self.busy:
            self.receive_one()
        whole = self.client.read(self.begin, self.end - self.begin)
        if whole != bytes(self.bytes):
            raise AssertionError("wrong data at the end")


class OddCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = cls.enterClassContext(temporary_directory())
        cls.plugin = build_plugin("odd", cls.directory)
        cls.counts = os.path.join(cls.directory, "counts")

    def serve(self, *parameters, chain=(), options=()):
        filters = ["--filter=" + name for name in chain]
        more = [p for name in chain for p in PARAMETERS.get(name, [])]
        if "log" in chain:
            more.append("logfile=" + os.path.join(self.directory, "log"))
        if "stats" in chain:
            more.append("statsfile=" + os.path.join(self.directory,
                                                    "stats"))
        return Server(self.plugin, "size=%d" % SIZE, "counts=" + self.counts,
                      *parameters, *more, options=[*filters, *options])

    def counted(self):
        with open(self.counts) as file:
            return json.load(file)


class Chains(OddCase):
    count = 30 if os.environ.get("ABD_SAMPLE") else 120

    def check(self, disk, mode, chain, seed):
        options = ["--loops=%d" % (1 + seed % 3)]
        if seed % 2:
            options.append("--memory=4M")
        unit = 512 if "block_min=512" in disk else 1
        with self.serve("mode=" + mode, *disk, chain=chain,
                        options=options) as server:
            clients = [server.client(), server.client(structured=True),
                       server.client(extended=True)]
            part = SIZE // 4
            for n, client in enumerate(clients):
                Model(client, seed + n, n * part, (n + 1) * part,
                      unit).run(self.count)
            for client in clients:
                client.disconnect()

    def test_matrix(self):
        rng = random.Random(SEED)
        for name, disk in DISKS.items():
            for mode in ("inline", "timer", "thread"):
                chain = rng.choice(CHAINS)
                seed = rng.randrange(1 << 30)
                with self.subTest(disk=name, mode=mode, chain=chain,
                                  seed=seed):
                    self.check(disk, mode, chain, seed)

    def test_all_chains(self):
        rng = random.Random(SEED + 1)
        for chain in CHAINS:
            for name in ("small transfers", "lends small"):
                seed = rng.randrange(1 << 30)
                with self.subTest(disk=name, chain=chain, seed=seed):
                    self.check(DISKS[name], "thread", chain, seed)


class Limits(OddCase):
    def test_never_more_than_max_requests(self):
        with self.serve("mode=timer", "max_requests=3") as server:
            with server.client() as client:
                for n in range(64):
                    client.submit(CMD_READ, n * 4096, 4096)
                for _ in range(64):
                    self.assertEqual(client.receive()[1].error, 0)
                client.disconnect()
        self.assertEqual(self.counted()["most"], 3)

    def test_never_longer_than_the_disk_takes(self):
        with self.serve("max_transfer=4096", "max_zero=8192",
                        "max_trim=12288") as server:
            with server.client(structured=True) as client:
                client.write(100, b"x" * 100000)
                self.assertEqual(client.read(100, 100000), b"x" * 100000)
                for command in (CMD_WRITE_ZEROES, CMD_TRIM):
                    self.assertEqual(client.call(command, 5, MIB).error, 0)
                client.disconnect()
        counted = self.counted()
        self.assertLessEqual(counted["longest_read"], 4096)
        self.assertLessEqual(counted["longest_write"], 4096)
        self.assertLessEqual(counted["longest_zero"], 8192)
        self.assertLessEqual(counted["longest_trim"], 12288)

    def test_filter_that_wants_whole_requests(self):
        """log sees a request whole; the disk below still gets pieces."""
        log = os.path.join(self.directory, "log")
        with self.serve("max_transfer=4096", chain=("log",)) as server:
            with server.client() as client:
                client.write(0, b"y" * MIB)
                self.assertEqual(client.read(0, MIB), b"y" * MIB)
                client.disconnect()
        self.assertLessEqual(self.counted()["longest_write"], 4096)
        with open(log) as file:
            text = file.read()
        self.assertEqual(text.count("count=0x100000"), 2, text)


class Emulation(OddCase):
    def test_fua_is_a_flush_behind_the_write(self):
        with self.serve("fua=1") as server, server.client() as client:
            client.write(0, bytes(512), flags=FUA)
            client.write(0, bytes(512))
            client.disconnect()
        counted = self.counted()
        self.assertEqual((counted["write"], counted["flush"], counted["fua"]),
                         (2, 1, 0))

    def test_one_flush_serves_many_writes(self):
        with self.serve("fua=1", "mode=timer") as server, \
                server.client() as client:
            data = b"".join(client.submit(
                CMD_WRITE, n * 512, payload=bytes(512), flags=FUA,
                send=False)[1] for n in range(200))
            client.send(data)
            for _ in range(200):
                self.assertEqual(client.receive()[1].error, 0)
            client.disconnect()
        counted = self.counted()
        self.assertEqual(counted["write"], 200)
        self.assertLess(counted["flush"], 150)
        self.assertGreater(counted["flush"], 0)

    def test_failed_flush_fails_the_write(self):
        with self.serve("fua=1", "fail_flush=1") as server, \
                server.client() as client:
            reply = client.call(CMD_WRITE, 0, flags=FUA, payload=bytes(512))
            self.assertEqual(reply.error, EIO)
            client.write(0, bytes(512))
            client.disconnect()

    def test_native_fua_reaches_the_disk(self):
        with self.serve("fua=2") as server, server.client() as client:
            client.write(0, bytes(512), flags=FUA)
            client.disconnect()
        counted = self.counted()
        self.assertEqual((counted["flush"], counted["fua"]), (0, 1))

    def test_zeroes_are_written_where_there_is_no_zero(self):
        for parameters in (["lacks=%d" % ZERO_BIT], ["refuse_zero=1"]):
            with self.subTest(parameters=parameters), \
                    self.serve(*parameters) as server, \
                    server.client() as client:
                client.write(0, b"z" * MIB)
                self.assertEqual(
                    client.call(CMD_WRITE_ZEROES, 1000, 500000).error, 0)
                self.assertEqual(client.read(0, MIB),
                                 b"z" * 1000 + bytes(500000) +
                                 b"z" * (MIB - 501000))
                client.disconnect()

    def test_too_many_pieces(self):
        with Server(self.plugin, "size=1G", "max_trim=512", "counts=" +
                    self.counts) as server, server.client() as client:
            self.assertIn(client.call(CMD_TRIM, 0, 1 << 30).error,
                          (EOVERFLOW, EINVAL))
            self.assertEqual(client.call(CMD_TRIM, 0, MIB).error, 0)
            client.disconnect()


if __name__ == "__main__":
    unittest.main()
