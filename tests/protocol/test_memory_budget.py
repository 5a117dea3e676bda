#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""--memory=4M, the least there is, with requests of every size from several
clients at once: all are answered, nothing waits for ever, and the process
stays small.  The disk is the null plugin, which holds nothing itself."""

import threading
import unittest

from constants import *
from server import Server, run
from test_transmission import STYLES

MIB = 1 << 20
SIZES = (1, 511, 512, 4095, 4096, 4097, 65535, 65536, MIB - 1, MIB, MIB + 1,
         3 * MIB, 4 * MIB, 5 * MIB, 16 * MIB, 32 * MIB, 64 * MIB)


class Worker(threading.Thread):
    """One client, its own thread; keeps the first failure."""

    def __init__(self, server, work, how):
        super().__init__(daemon=True)
        self.server, self.work, self.how = server, work, how
        self.failure = None

    def run(self):
        try:
            with self.server.client(**self.how) as client:
                self.work(client)
                client.disconnect()
        except BaseException as error:
            self.failure = error


def run_together(test, server, works):
    workers = [Worker(server, work, list(STYLES.values())[n % 3])
               for n, work in enumerate(works)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(50)
        test.assertFalse(worker.is_alive(), "a client waits for ever")
        if worker.failure:
            raise worker.failure


class SmallMemory(unittest.TestCase):
    options = ("--memory=4M",)
    plugin = ("null", "1G")
    growth = 16 * MIB

    def setUp(self):
        self.server = Server(*self.plugin, options=self.options)
        self.addCleanup(self.server.kill)
        self.server.check_good()
        self.rss = self.server.rss()

    def tearDown(self):
        self.server.check_good()
        if not self.server.sanitized():
            self.assertLess(self.server.peak_rss(), self.rss + self.growth)
        self.server.stop()

    def every_size(self, client):
        for size in SIZES:
            if size > client.export.limit:
                continue
            client.write(0, bytes(size))
            client.read(MIB, size)

    def flood(self, command, size, count):
        def work(client):
            limited = min(size, client.export.limit)
            batch = []
            for n in range(count):
                if command == CMD_WRITE:
                    more = {"payload": bytes(limited)}
                else:
                    more = {"offset": 0, "length": limited}
                batch.append(client.submit(command, send=False, **more)[1])
            client.pump(b"".join(batch))
            replies = client.receive_all()
            assert {r.error for r in replies.values()} == {0}
        return work

    def test_every_size_alone(self):
        run_together(self, self.server, [self.every_size] * 3)

    def test_every_size_from_six_clients(self):
        run_together(self, self.server, [self.every_size] * 6)

    def test_mixed_floods(self):
        run_together(self, self.server, [
            self.flood(CMD_WRITE, 1 * MIB, 40),
            self.flood(CMD_READ, 1 * MIB, 40),
            self.flood(CMD_WRITE, 32 * MIB, 2),
            self.flood(CMD_READ, 32 * MIB, 2),
            self.flood(CMD_WRITE, 4096, 500),
            self.flood(CMD_READ, 512, 500),
            self.flood(CMD_READ, 512, 500),
            self.flood(CMD_WRITE, 65536, 100),
        ])

    def test_readers_are_not_starved_by_writers(self):
        """Everything that may be held by writes is; reads get through."""
        stalled = [self.server.client() for _ in range(8)]
        for client in stalled:
            client.send(client.encode(CMD_WRITE, 0, MIB) + bytes(1000))
        with self.server.client() as client:
            for n in range(50):
                client.read(n * 4096, 4096)
            client.disconnect()
        for client in stalled:
            client.close()


class SlowDisk(SmallMemory):
    """The same with requests that stay in the disk for a while."""
    options = ("--memory=4M", "--filter=delay")
    plugin = ("null", "1G", "rdelay=5ms", "wdelay=5ms")


class OneLoop(SmallMemory):
    options = ("--memory=4M", "--loops=1")


class Copying(SmallMemory):
    """A plugin that lends nothing: every read needs memory."""
    plugin = ("pattern", "1G")

    def setUp(self):
        super().setUp()
        with self.server.client() as client:
            self.read_only = bool(client.export.flags & READ_ONLY)
            client.disconnect()

    def every_size(self, client):
        for size in SIZES:
            if size > client.export.limit:
                continue
            data = client.read(8, size)
            count = min(size, 80) // 8 * 8
            expected = b"".join((8 + n).to_bytes(8, "big")
                                for n in range(0, count, 8))
            assert data[:count] == expected, "pattern at 8+%d" % size

    def test_mixed_floods(self):
        run_together(self, self.server, [
            self.flood(CMD_READ, 1 * MIB, 40),
            self.flood(CMD_READ, 32 * MIB, 2),
            self.flood(CMD_READ, 512, 1000),
            self.flood(CMD_READ, 65536, 200),
        ])

    def test_readers_are_not_starved_by_writers(self):
        run_together(self, self.server, [self.flood(CMD_READ, 4096, 2000)])


class FewRequests(unittest.TestCase):
    """Filters make each request large, so there are few.  Each command here is
    several of them, and all clients come at once: none may hold one while it
    queues for the next."""

    clients = 95

    def run_all(self, work):
        server = Server("memory", "size=64M", options=(
            "--memory=4M", "--loops=1", "--filter=nozero", "--filter=nozero",
            "--filter=nozero", "--filter=delay"))
        self.addCleanup(server.kill)
        run_together(self, server, [work] * self.clients)
        server.check_good()
        server.stop()

    def test_long_writes(self):
        self.run_all(lambda client: client.write(0, b"x" * (2 * MIB)))

    def test_long_reads(self):
        self.run_all(lambda client: client.read(0, 2 * MIB))


class Refusals(unittest.TestCase):
    def test_less_than_four_is_refused(self):
        for value in ("3M", "0", "1", "4095K"):
            with self.subTest(value=value):
                done = run("-f", "-U", "-", "--memory=" + value, "null", "1M",
                           "--run", "true")
                self.assertEqual(done.returncode, 1)
                self.assertIn("memory", done.stderr)


if __name__ == "__main__":
    unittest.main()
