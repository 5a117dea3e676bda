#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Volumes in S3, and every way in which it may fail (P5, I1, I2, I8)."""

import os
import random
import threading
import time
import unittest

from object_s3 import *
from server import wait_until

SEED = int(os.environ.get("ABD_SEED", "20261125"))
FEWER = os.environ.get("ABD_SAMPLE") or os.environ.get("ABD_SANITIZED")


class Faults(DoubleCase):
    """Nothing is lost, whatever the store does; requests go on."""

    PUTS = (dict(kind="status", status=500, after=True),
            dict(kind="status", status=500),
            dict(kind="status", status=503, code="SlowDown",
                 headers={"Retry-After": "0"}),
            dict(kind="status", status=409,
                 code="ConditionalRequestConflict"),
            dict(kind="status", status=409, after=True,
                 code="ConditionalRequestConflict"),
            dict(kind="status", status=429, code="TooManyRequests"),
            dict(kind="status", status=408, code="RequestTimeout"),
            dict(kind="status", status=400, code="RequestTimeout"),
            dict(kind="status", status=404, code="Nonsense"),
            dict(kind="status", status=507, code="XMinioStorageFull"),
            dict(kind="error_200"),
            dict(kind="error_200", after=True),
            dict(kind="html", status=502),
            dict(kind="html", status=200),
            dict(kind="html", status=404),
            dict(kind="garbage"), dict(kind="close"),
            dict(kind="reset", at=0), dict(kind="reset", at=2000),
            dict(kind="reset_reply", at=0), dict(kind="reset_reply", at=20))
    GETS = PUTS[:4] + PUTS[5:9] + PUTS[10:16] + (
        dict(kind="close"), dict(kind="short", at=0),
        dict(kind="short", at=1), dict(kind="short", at=4099),
        dict(kind="less", at=1), dict(kind="less", at=4097),
        dict(kind="longer"), dict(kind="range"), dict(kind="chunked"),
        dict(kind="reset_reply", at=0), dict(kind="reset_reply", at=60),
        dict(kind="reset_reply", at=3000))

    def test_puts(self):
        server = self.volume()
        client = self.client(server)
        for n, fault in enumerate(self.PUTS):
            with self.subTest(fault=fault):
                planned = self.store.fault(method="PUT", key="/log/", **fault)
                client.write(n * 4096, bytes([n + 1]) * 4096)
                self.flush(client)
                self.assertEqual(planned.fired, 1)
        client.disconnect()
        server.stop()
        server = self.volume()
        client = self.client(server)
        for n in range(len(self.PUTS)):
            self.assertEqual(client.read(n * 4096, 4096),
                             bytes([n + 1]) * 4096)
        server.stop()

    def test_gets(self):
        server = self.volume()
        client = self.client(server)
        data = random.Random(SEED).randbytes(64 * 4096)
        client.write(0, data)
        client.disconnect()
        server.stop()
        server = self.volume("readahead=0", "memory=2M")
        client = self.client(server)
        for n, fault in enumerate(self.GETS):
            with self.subTest(fault=fault):
                planned = self.store.fault(method="GET", key="/log/", **fault)
                self.assertEqual(client.read(n * 4096 + 5, 5000),
                                 data[n * 4096 + 5:n * 4096 + 5005])
                self.assertEqual(planned.fired, 1)
        server.stop()

    def test_while_it_is_opened(self):
        """Each kind in front of the first requests of each verb."""
        server = self.volume()
        client = self.client(server)
        client.write(0, b"x" * 9000)
        self.flush(client)
        os.kill(server.pid, 9)
        server.wait()
        for n, fault in enumerate(self.GETS if not FEWER else self.GETS[::5]):
            with self.subTest(fault=fault):
                self.store.faults.clear()
                for skip in range(0, 12, 3):
                    self.store.fault(method="GET", skip=skip, **fault)
                for put in (0, 2):
                    self.store.fault(method="PUT", skip=put,
                                     **self.PUTS[n % len(self.PUTS)])
                server = self.volume()
                client = self.client(server)
                self.assertEqual(client.read(0, 9000), b"x" * 9000)
                client.disconnect()
                server.stop()

    def test_reset_at_every_byte(self):
        """Of what is sent and of what is answered."""
        server = self.volume()
        client = self.client(server)
        step = 397 if FEWER else 41
        resets = [("PUT", dict(kind="reset", at=at))
                  for at in range(0, 4300, step)]
        resets += [("PUT", dict(kind="reset_reply", at=at))
                   for at in range(0, 80, step // 10)]
        for n, (method, fault) in enumerate(resets):
            planned = self.store.fault(method=method, key="/log/", **fault)
            client.write(n % 100 * 4096, bytes([n % 255 + 1]) * 4096)
            self.flush(client)
            self.assertEqual(planned.fired, 1, fault)
        server.stop()
        server = self.volume("readahead=0")
        client = self.client(server)
        for n in range(max(0, len(resets) - 100), len(resets)):
            planned = self.store.fault(method="GET", key="/log/",
                                       kind="reset_reply", at=n * step % 4200)
            self.assertEqual(client.read(n % 100 * 4096, 4096),
                             bytes([n % 255 + 1]) * 4096)
            self.assertEqual(planned.fired, 1)
        server.stop()

    def test_stale_listing(self):
        """I8: a listing is a hint."""
        server = self.volume("object-size=64K")
        client = self.client(server)
        for n in range(40):
            client.write(n * 4096, bytes([n + 1]) * 4096)
            self.flush(client)
        os.kill(server.pid, 9)
        server.wait()
        for at in (1, 5, 39, 100):
            self.store.fault("stale", method="GET", key="^$", at=at, times=9)
            server = self.volume("object-size=64K")
            client = self.client(server)
            for n in range(40):
                self.assertEqual(client.read(n * 4096, 4096),
                                 bytes([n + 1]) * 4096)
            server.stop()

    def test_retry_after(self):
        """What the store asks for is waited for."""
        server = self.volume()
        client = self.client(server)
        client.write(0, b"x" * 4096)
        self.store.fault("status", method="PUT", key="/log/", status=503,
                         code="SlowDown", headers={"Retry-After": "1"})
        began = time.monotonic()
        self.flush(client)
        self.assertGreaterEqual(time.monotonic() - began, 1)
        server.stop()

    def test_the_store_gives_up(self):
        """After retry-for= a flush fails; the data is kept, and a later flush
        that succeeds means what it says."""
        server = self.volume("retry-for=100ms")
        client = self.client(server)
        client.write(0, b"x" * 4096)
        planned = self.store.fault("status", method="PUT", key="/log/",
                                   status=500, times=1000)
        self.assertEqual(client.call(CMD_FLUSH).error, EIO)
        self.assertEqual(client.read(0, 4096), b"x" * 4096)
        planned.times = 0
        self.flush(client)
        client.write(4096, b"y")
        os.kill(server.pid, 9)
        server.wait()
        server = self.volume()
        self.assertEqual(self.client(server).read(0, 4096), b"x" * 4096)
        server.stop()

    def test_denied_for_a_while(self):
        """A policy that is mended: what was written is stored then (P5)."""
        server = self.volume("retry-for=100ms")
        client = self.client(server)
        client.write(0, b"x" * 4096)
        planned = self.store.fault("status", method="PUT", key="/log/",
                                   status=403, code="AccessDenied", times=1000)
        self.assertEqual(client.call(CMD_FLUSH).error, EIO)
        self.assertIn("AccessDenied", server.stderr())
        planned.times = 0
        self.flush(client)
        server.stop()

    def test_stalled_attempt(self):
        """An answer that never comes: the attempt is given up, not the
        request."""
        server = self.volume("stall=50ms")
        client = self.client(server)
        for after in (False, True):
            event = threading.Event()
            self.store.fault("stall", method="PUT", key="/log/", event=event,
                             after=after)
            client.write(0, bytes([65 + after]) * 4096)
            self.flush(client)
            self.store.fault("stall", method="GET", key="/log/", event=event,
                             after=after)
            self.assertEqual(client.read(100, 100), bytes([65 + after]) * 100)
            event.set()
        server.stop()

    def test_slow_is_not_stalled(self):
        server = self.volume("stall=200ms")
        client = self.client(server)
        planned = self.store.fault("slow", method="PUT", key="/log/",
                                   pause=0.005)
        client.write(0, b"x" * 4096)
        self.flush(client)
        server.stop()
        self.assertEqual(planned.fired, 1)
        self.assertEqual(self.store.count("PUT", "/log/.*1$"), 1)

    def test_a_slow_one_delays_no_other(self):
        server = self.volume("readahead=0", "memory=2M")
        client = self.client(server)
        client.write(0, b"x" * MIB)
        self.flush(client)
        event = threading.Event()
        self.store.fault("stall", method="GET", key="/log/", event=event)
        first, _ = client.submit(CMD_READ, 0, 4096)
        wait_until(lambda: self.store.faults[0].fired == 1)
        second, _ = client.submit(CMD_READ, 512 * KIB, 4096)
        self.assertEqual(client.receive()[0], second)
        event.set()
        self.assertEqual(client.receive()[0], first)
        server.stop()

    def test_ended_while_it_stalls(self):
        """SIGTERM does not wait for a store that says nothing."""
        server = self.volume(options=["--drain-timeout=1"])
        client = self.client(server)
        client.write(0, b"x" * MIB)
        self.flush(client)
        event = threading.Event()
        self.store.fault("stall", method="GET", event=event, times=100)
        client.submit(CMD_READ, 0, 4096)
        wait_until(lambda: self.store.faults[0].fired >= 1)
        server.stop(expect=1)
        event.set()

    def test_no_condition(self):
        """A store that can't create if absent is refused."""
        self.store.fault("status", method="PUT", status=501,
                         code="NotImplemented", times=100)
        server = self.volume()
        self.refused(server, "If-None-Match")
        server.stop()


if __name__ == "__main__":
    unittest.main()
