#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Volumes in Ceph's radosgw: a store that is not ours, and atomic where it has
to be."""

import os
import random
import signal
import subprocess
import threading
import unittest

from object_s3 import *         # puts the stores' folder into the path
from fencing import write_until_fenced
from model import Model, drive
from nbdproto import Closed
from radosgw import RadosGW
from server import run, temporary_directory, wait_until

SEED = int(os.environ.get("ABD_SEED", "20261125"))
FEWER = os.environ.get("ABD_SAMPLE") or os.environ.get("ABD_SANITIZED")
COUNT = int(os.environ.get("ABD_COUNT", "100" if FEWER else "600"))
ROUNDS = int(os.environ.get("ABD_ROUNDS", "3" if FEWER else "8"))


def setUpModule():
    global store
    if FEWER:
        raise unittest.SkipTest("once is enough: sanitizers have the double")
    store = RadosGW()


def tearDownModule():
    store.stop()


class RadosCase(S3Case):
    def setUp(self):
        self.store = store
        self.access_key, self.secret = store.access_key, store.secret
        self.prefix = self.id().split(".")[-1] + "/"


class Store(RadosCase):
    """What we rely on."""

    def test_one_winner(self):
        statuses, barrier = [], threading.Barrier(16)

        def create(n):
            barrier.wait()
            statuses.append(store.request(
                "PUT", "/disks/one", body=b"%d" % n, if_none_match="*")[0])
        threads = [threading.Thread(target=create, args=(n,))
                   for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(statuses.count(200), 1, statuses)

    def test_wrong_secret(self):
        server = self.volume(env=self.environment(
            AWS_ACCESS_KEY_ID=self.access_key, AWS_SECRET_ACCESS_KEY="x"))
        with server.greet() as handshake:
            self.assertNotEqual(handshake.opt(OPT_GO, bytes(6)), REP_ACK)
        self.assertIn("SignatureDoesNotMatch", server.stderr())
        server.stop()


class Contents(RadosCase):
    def test_against_a_model(self):
        parameters = ["object-size=256K", "memory=4M", "readahead=256K"]
        kinds = ({}, {"structured": True, "meta": True})
        server = self.volume(*parameters, size=8 * MIB)
        players = [Model(self.client(server, **kind), SEED + n,
                         n * 4 * MIB + 1000 * n, (n + 1) * 4 * MIB)
                   for n, kind in enumerate(kinds)]
        for _ in range(2):
            drive(players, COUNT)
            for player in players:
                player.check_all()
                player.client.disconnect()
            server.stop()
            server = self.volume(*parameters, size=8 * MIB)
            for player, kind in zip(players, kinds):
                player.client = self.client(server, **kind)
                player.check_all()
        server.stop()
        report = self.abdvol("check", self.url()).stdout
        self.assertIn(" 0 damaged", report)
        self.abdvol("delete", self.url())
        status, listing = store.request(
            "GET", "/disks", "list-type=2&prefix=" + self.prefix[:-1])
        self.assertEqual(status, 200)
        self.assertNotIn(b"<Key>", listing)


class Crashes(RadosCase):
    def test_killed(self):
        """What was flushed is there, after kill -9 at any moment."""
        rng = random.Random(SEED)
        numbers, flushed = [0] * 64, [0] * 64
        for turn in range(ROUNDS):
            server = self.volume(size=MIB)
            client = self.client(server)
            for n in range(64):
                found = int.from_bytes(client.read(n * 4096, 8), "big")
                self.assertGreaterEqual(found, flushed[n])
                self.assertLessEqual(found, numbers[n])
                numbers[n] = found
            timer = threading.Timer(rng.random() * 0.3, os.kill,
                                    (server.pid, signal.SIGKILL))
            timer.start()
            number = max(numbers) + turn * 100000
            try:
                while True:
                    number += 1
                    n = rng.randrange(64)
                    numbers[n] = number
                    client.write(n * 4096, number.to_bytes(8, "big") * 512)
                    if number % 3 == 0:
                        before = list(numbers)
                        self.flush(client)
                        flushed = before
            except (Closed, ConnectionError):
                pass
            timer.join()
            server.wait()
            client.close()


class Writers(RadosCase):
    """P3, with a store that decides who is first."""

    def test_stopped_anywhere(self):
        """Three writers after each other; the first two are stopped at any
        moment and go on when the third has the volume."""
        rng = random.Random(SEED + 1)
        for turn in range(ROUNDS):
            name = "stop%d" % turn
            stopped = []
            try:
                for _ in range(2):
                    server = self.volume(name=name, size=MIB)
                    client, acknowledged = self.client(server), []
                    thread = threading.Thread(target=write_until_fenced,
                                              args=(client, acknowledged))
                    thread.start()
                    wanted = rng.randrange(8)
                    wait_until(lambda: len(acknowledged) >= wanted)
                    os.kill(server.pid, signal.SIGSTOP)
                    stopped.append((server, client, thread, acknowledged))
                last = self.volume(name=name, size=MIB)
                client = self.client(last)
                found = [int.from_bytes(client.read(n * 4096, 8), "big")
                         for n in range(64)]
                client.write(0, b"the last" * 64)
                self.flush(client)
            finally:
                for server, *_ in stopped:
                    os.kill(server.pid, signal.SIGCONT)
            for server, other, thread, acknowledged in stopped:
                thread.join(60)
                self.assertFalse(thread.is_alive())
                other.close()
                server.stop()
            # The second one's numbers are younger, block by block.
            newest = {}
            for *_, acknowledged in stopped:
                for number in acknowledged:
                    newest[number % 64] = number
            for n, number in newest.items():
                self.assertGreaterEqual(found[n], number)
            self.assertEqual(client.read(0, 512), b"the last" * 64)
            client.disconnect()
            last.stop()


class Clients(RadosCase):
    """Programs that people use."""

    def test_qemu_img(self):
        """An image into it and out of it, compared."""
        with temporary_directory() as folder:
            image = os.path.join(folder, "image.qcow2")
            raw = os.path.join(folder, "image.raw")
            with open(raw, "wb") as file:
                rng = random.Random(SEED)
                for at in range(0, 24 * MIB, 3 * MIB):
                    file.seek(at)
                    file.write(rng.randbytes(MIB + at % 70000))
                file.truncate(48 * MIB)
            script = """set -e
qemu-img convert -q -f raw -O qcow2 {raw} {image}
qemu-img convert -q -n -f qcow2 -O raw {image} "$uri"
qemu-img compare -q -f raw -F raw {raw} "$uri"
qemu-img convert -q -f raw -O raw "$uri" {raw}.back
cmp {raw} {raw}.back
""".format(raw=raw, image=image)
            done = run("object", self.url(), "size=48M", "create=if-missing",
                       "endpoint=" + store.endpoint, "-U", "-", "--run",
                       script, env=self.with_keys(), timeout=300)
            self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
