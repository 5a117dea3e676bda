#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""The object plugin over a directory: contents against a model, over restarts
and crashes; damaged volumes; two servers that want one volume."""

import glob
import json
import os
import random
import signal
import subprocess
import threading
import unittest

import system
from constants import *
from fencing import write_until_fenced
from model import Model, drive
from nbdproto import Closed, info_data
from server import program, run, temporary_directory, wait_until

KIB, MIB = 1 << 10, 1 << 20
SEED = int(os.environ.get("ABD_SEED", "20261125"))
FEWER = os.environ.get("ABD_SAMPLE") or os.environ.get("ABD_SANITIZED")
COUNT = int(os.environ.get("ABD_COUNT", "150" if FEWER else "600"))
CRASHES = int(os.environ.get("ABD_CRASHES", "15" if FEWER else "100"))
KINDS = ({}, {"structured": True, "meta": True},
         {"extended": True, "meta": True})


class ObjectCase(system.ServedCase):
    def setUp(self):
        self.directory = self.enterContext(temporary_directory())

    def volume(self, *parameters, size=4 * MIB, name="v", options=()):
        path = os.path.join(self.directory, name)
        os.makedirs(path, exist_ok=True)
        return self.serve("object", "dir:" + path, "size=%d" % size,
                          "create=if-missing", *parameters, options=options)

    def client(self, server, **kind):
        client = server.client(**kind)
        self.addCleanup(client.close)
        return client

    def logs(self, name="v"):
        return sorted(glob.glob(os.path.join(
            self.directory, name, "*", "log", "*", "*")))


class Contents(ObjectCase):
    def players(self, server, seed):
        clients = [self.client(server, **kind) for kind in KINDS]
        area = clients[0].export.size // len(clients) // 4096 * 4096
        # They meet in the middle of blocks: single bytes are changed.
        edges = [0] + [n * area + 1000 * n for n in (1, 2)] + [3 * area]
        return [Model(client, seed + n, edges[n], edges[n + 1])
                for n, client in enumerate(clients)]

    def check(self, parameters, seed):
        server = self.volume(*parameters)
        players = self.players(server, seed)
        drive(players, COUNT)
        for player in players:
            player.check_all()
            player.client.disconnect()
        server.stop()
        server = self.volume(*parameters)
        for player, kind in zip(players, KINDS):
            player.client = self.client(server, **kind)
            player.check_all()
        drive(players, COUNT // 3)
        for player in players:
            player.check_all()
            player.client.disconnect()
        server.stop()

    def test_plain(self):
        self.check([], SEED)

    def test_little_memory(self):
        """Writes wait for room again and again, and go over objects."""
        self.check(["object-size=64K", "memory=2M", "fault=latency=2ms"],
                   SEED + 9)

    def test_small_objects(self):
        self.check(["object-size=64K", "memory=16M"], SEED + 1)

    def test_slow_store(self):
        self.check(["object-size=128K", "fault=latency=2ms,jitter=3ms,seed=5"],
                   SEED + 2)

    def test_faulty_store(self):
        self.check(["object-size=64K",
                    "fault=unknown=100,busy=100,broken=50,flip=20,seed=7"],
                   SEED + 3)

    def test_seals_all_the_time(self):
        self.check(["seal-after=1ms"], SEED + 4)


class Prefix(ObjectCase):
    """P1, P2: what was flushed is there, and all of it is as after some
    prefix of the writes."""

    def play(self, rng, client, history, flushed, kills=True):
        """Until the server is gone; history: what was submitted, in order."""
        while True:
            kind = rng.choice(("write", "write", "write", "zero", "flush"))
            at = rng.randrange(0, 250 * KIB)
            length = rng.choice((512, 4096, 5000, 40000)) % (256 * KIB - at)
            if kind == "flush":
                n = len(history)
                client.call(CMD_FLUSH)
                flushed[0] = n
            elif length:
                fua = FUA if rng.randrange(8) == 0 else 0
                data = rng.randbytes(length) if kind == "write" else b""
                history.append((at, data or bytes(length)))
                n = len(history)
                if kind == "write":
                    reply = client.call(CMD_WRITE, at, payload=data, flags=fua)
                else:
                    reply = client.call(CMD_WRITE_ZEROES, at, length,
                                        flags=fua)
                self.assertEqual(reply.error, 0, reply.text)
                if fua:
                    flushed[0] = n
            if rng.randrange(60) == 0 and kills:
                os.kill(self.server.pid, signal.SIGKILL)

    def check_prefix(self, found, start, history, flushed):
        for explain in (False, True):
            state, nearest = bytearray(start), None
            for n in range(len(history) + 1):
                if n >= flushed and found == state:
                    return
                if explain:
                    wrong = [i for i in range(len(found))
                             if found[i] != state[i]] or [0]
                    nearest = min(nearest or (len(found) + 1,),
                                  (len(wrong), wrong[0], wrong[-1], n))
                if n < len(history):
                    at, data = history[n]
                    state[at:at + len(data)] = data
        self.fail("no prefix of %d changes, of which %d were flushed, leaves "
                  "this; nearest (bytes that differ, first, last, prefix) %s; "
                  "changes from there on: %s" % (
                      len(history), flushed, nearest,
                      [(at, len(data)) for at, data in
                       history[max(0, nearest[3] - 5):]]))

    def test_killed(self):
        rng = random.Random(SEED)
        contents = bytes(256 * KIB)
        for turn in range(CRASHES):
            seed = rng.randrange(1 << 30)
            self.server = self.volume("object-size=64K", size=256 * KIB)
            history, flushed = [], [0]
            with self.subTest(turn=turn, seed=seed):
                client = self.client(self.server)
                try:
                    self.play(random.Random(seed), client, history, flushed)
                except (Closed, ConnectionError):
                    pass
                self.server.wait()
                server = self.volume("object-size=64K", size=256 * KIB)
                found = self.client(server).read(0, 256 * KIB)
                start, contents = contents, found
                self.check_prefix(found, start, history, flushed[0])
                server.stop()

    def test_crash_at_every_call(self):
        """The store stops answering at its N-th change, which has taken effect
        or not; then the server is killed."""
        rng = random.Random(SEED + 1)
        for n in range(1, 16 if FEWER else 60):
            name = "crash%d" % n
            parameters = ["object-size=64K"]
            history, flushed = [], [0]
            with self.subTest(n=n):
                self.server = self.volume(
                    *parameters, "fault=crash=%d,seed=%d" % (n, n),
                    size=256 * KIB, name=name)
                player = threading.Thread(target=self.play_until_gone, args=(
                    random.Random(rng.randrange(1 << 30)), history, flushed))
                player.start()
                wait_until(lambda: "fault=crash" in self.server.stderr(),
                           what="the crash")
                os.kill(self.server.pid, signal.SIGKILL)
                player.join()
                self.server.wait()
                server = self.volume(*parameters, size=256 * KIB, name=name)
                found = self.client(server).read(0, 256 * KIB)
                self.check_prefix(found, bytes(256 * KIB), history, flushed[0])
                server.stop()

    def play_until_gone(self, rng, history, flushed):
        try:
            with self.server.client() as client:
                self.play(rng, client, history, flushed, kills=False)
        except (Closed, ConnectionError):
            pass


class Damage(ObjectCase):
    """P4: never wrong data, never a silent cut."""

    def fill(self):
        server = self.volume("object-size=64K")
        client = self.client(server)
        for n in range(20):
            client.write(n * 64 * KIB, bytes([n + 1]) * 64 * KIB)
        self.assertEqual(client.call(CMD_FLUSH).error, 0)
        client.disconnect()
        server.stop()
        return self.logs()

    def refused(self, text):
        server = self.volume()
        with server.greet() as handshake:
            self.assertNotEqual(handshake.opt(OPT_GO, info_data("")), REP_ACK)
        self.assertIn(text, server.stderr())
        server.stop()

    def change(self, path, at, data):
        with open(path, "r+b") as file:
            file.seek(at)
            old = file.read(1)
            file.seek(at)
            file.write(data or bytes([old[0] ^ 4]))

    def test_missing_in_the_middle(self):
        logs = self.fill()
        os.unlink(logs[3])
        self.refused("log object")

    def test_cut(self):
        logs = self.fill()
        with open(logs[5], "r+b") as file:
            file.truncate(os.path.getsize(logs[5]) - 1)
        self.refused("it is cut")

    def test_empty(self):
        logs = self.fill()
        with open(logs[5], "r+b") as file:
            file.truncate(0)
        self.refused("log object")

    def test_a_bit_of_the_header(self):
        logs = self.fill()
        for at in (0, 9, 33, 41, 85, 112, 127):
            with self.subTest(at=at):
                self.change(logs[4], at, None)
                self.refused("log object")
                self.change(logs[4], at, None)

    def test_a_bit_of_the_table(self):
        logs = self.fill()
        self.change(logs[4], 130, None)
        self.refused("log object")

    def test_a_bit_of_the_data(self):
        logs = self.fill()
        self.change(logs[4], os.path.getsize(logs[4]) - 3000, None)
        server = self.volume()
        client = self.client(server, structured=True)
        errors = 0
        for n in range(20 * 16):
            reply = client.call(CMD_READ, n * 4 * KIB, 4 * KIB)
            errors += reply.error != 0
            if reply.error:
                self.assertEqual(reply.error, EIO)
                self.assertIn("damaged", reply.text)
            else:
                self.assertEqual(reply.data, bytes([n // 16 + 1]) * 4 * KIB)
        self.assertEqual(errors, 1)
        server.stop()

    def test_swapped(self):
        logs = self.fill()
        os.rename(logs[3], logs[3] + "x")
        os.rename(logs[4], logs[3])
        os.rename(logs[3] + "x", logs[4])
        self.refused("log object")

    def test_superblock(self):
        self.fill()
        path = os.path.join(self.directory, "v", "volume")
        with open(path) as file:
            text = file.read()
        for old, new in (('"format":0', '"format":1'), ("{", ""),
                         ("4096", "512")):
            with open(path, "w") as file:
                file.write(text.replace(old, new, 1))
            self.refused("volume: ")


class FullDisk(ObjectCase):
    """P5: what can't be stored is kept, and stored when there is room."""

    def test_full(self):
        path = os.path.join(self.directory, "v")
        os.mkdir(path)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m",
                               "none", path], capture_output=True, text=True)
        if done.returncode:
            self.skipTest("no small file system: " + done.stderr.strip())
        self.addCleanup(subprocess.run, ["umount", "-l", path])
        filler = os.path.join(self.directory, "v", "filler")
        with open(filler, "wb") as file:
            file.write(bytes(6 * MIB))
        server = self.volume("retry-for=100ms", "object-size=1M")
        client = self.client(server)
        data = random.Random(SEED).randbytes(4 * MIB)
        for at in range(0, len(data), 256 * KIB):
            client.write(at, data[at:at + 256 * KIB])
        self.assertEqual(client.call(CMD_FLUSH).error, EIO)
        self.assertIn("No space left", server.stderr())
        self.assertEqual(client.read(0, len(data)), data)
        os.unlink(filler)
        self.assertEqual(client.call(CMD_FLUSH).error, 0)
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        server = self.volume()
        self.assertEqual(self.client(server).read(0, len(data)), data)
        server.stop()


class Writers(ObjectCase):
    """P3: one writer."""

    def test_second_takes_over(self):
        first = self.volume("watch=20ms")
        client = self.client(first)
        client.write(0, b"a" * 4096)
        self.assertEqual(client.call(CMD_FLUSH).error, 0)
        second = self.volume()
        other = self.client(second)
        self.assertEqual(other.read(0, 4096), b"a" * 4096)
        # Its end of the log is fenced: the flush is not acknowledged.  The
        # write may be, from memory, as long as nothing was noticed.
        self.assertIn(client.call(CMD_WRITE, 4096, payload=b"b" * 4096).error,
                      (0, EIO))
        self.assertEqual(client.call(CMD_FLUSH).error, EIO)
        self.assertEqual(client.call(CMD_READ, 0, 512).error, EIO)
        self.assertEqual(client.call(CMD_WRITE, 0, payload=b"x").error, EIO)
        other.write(4096, b"c" * 4096)
        self.assertEqual(other.call(CMD_FLUSH).error, 0)
        self.assertEqual(other.read(4096, 4096), b"c" * 4096)
        second.stop()
        first.stop()
        third = self.volume()
        self.assertEqual(self.client(third).read(0, 8192),
                         b"a" * 4096 + b"c" * 4096)
        third.stop()

    def test_idle_one_notices(self):
        """Without a write of its own, after watch= at most."""
        first = self.volume("watch=20ms")
        client = self.client(first)
        self.assertEqual(client.read(0, 512), bytes(512))
        second = self.volume()
        self.client(second)
        wait_until(lambda: "log object" in first.stderr(), what="a message")
        self.assertEqual(client.call(CMD_READ, 0, 512).error, EIO)
        second.stop()
        first.stop()

    def test_stopped_one_notices(self):
        """Asleep while another has written: nothing stale is read after."""
        first = self.volume()
        client = self.client(first)
        client.write(0, b"a" * 4096)
        self.assertEqual(client.call(CMD_FLUSH).error, 0)
        os.kill(first.pid, signal.SIGSTOP)
        try:
            second = self.volume()
            other = self.client(second)
            other.write(0, b"b" * 4096)
            self.assertEqual(other.call(CMD_FLUSH).error, 0)
        finally:
            os.kill(first.pid, signal.SIGCONT)
        self.assertIn(client.call(CMD_WRITE, 4096, payload=b"x" * 4096).error,
                      (0, EIO))
        self.assertEqual(client.call(CMD_FLUSH).error, EIO)
        second.stop()
        first.stop()

    def test_stopped_anywhere(self):
        """A writer that is stopped at any moment, and goes on when another one
        has taken over: what it has acknowledged the other one has."""
        rng = random.Random(SEED + 2)
        for turn in range(5 if FEWER else 40):
            with self.subTest(turn=turn):
                name = "stop%d" % turn
                first = self.volume("fault=latency=200us,jitter=2ms,seed=%d" %
                                    turn, name=name, size=MIB)
                client, acknowledged = self.client(first), []
                writer = threading.Thread(target=write_until_fenced,
                                          args=(client, acknowledged))
                writer.start()
                wanted = rng.randrange(30)
                wait_until(lambda: len(acknowledged) >= wanted)
                os.kill(first.pid, signal.SIGSTOP)
                try:
                    second = self.volume(name=name, size=MIB)
                    other = self.client(second)
                    found = [int.from_bytes(other.read(n * 4096, 8), "big")
                             for n in range(64)]
                    other.write(0, b"second" * 100)
                    self.assertEqual(other.call(CMD_FLUSH).error, 0)
                finally:
                    os.kill(first.pid, signal.SIGCONT)
                writer.join(30)
                self.assertFalse(writer.is_alive())
                for number in acknowledged:
                    self.assertGreaterEqual(found[number % 64], number)
                self.assertEqual(other.read(0, 600), b"second" * 100)
                client.close()
                first.stop()
                second.stop()

    def test_no_take_over(self):
        """It is refused while it is open or was not closed; not after."""
        first = self.volume()
        client = self.client(first)
        client.write(0, b"a")
        self.assertEqual(client.call(CMD_FLUSH).error, 0)
        second = self.volume("take-over=no")
        with second.greet() as handshake:
            self.assertNotEqual(handshake.opt(OPT_GO, info_data("")), REP_ACK)
        self.assertIn("take-over", second.stderr())
        self.assertEqual(client.call(CMD_FLUSH).error, 0)   # still ours
        client.disconnect()
        first.stop()
        other = self.client(second)
        self.assertEqual(other.read(0, 1), b"a")
        second.stop()

    def test_read_only_claims_nothing(self):
        first = self.volume()
        client = self.client(first)
        client.write(0, b"a" * 100)
        self.assertEqual(client.call(CMD_FLUSH).error, 0)
        reader = self.volume(options=["-r"])
        self.assertEqual(self.client(reader).read(0, 100), b"a" * 100)
        reader.stop()
        client.write(0, b"b")
        self.assertEqual(client.call(CMD_FLUSH).error, 0)
        client.disconnect()
        first.stop()


class Tool(ObjectCase):
    """abdvol"""

    def abdvol(self, *arguments, status=0):
        path = os.path.join(os.path.dirname(os.path.realpath(program()[0])),
                            "..", "tools", "abdvol", "abdvol")
        if not os.path.exists(path):
            self.skipTest("abdvol is not built")
        done = subprocess.run([path, *arguments], cwd=self.directory,
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def make(self):
        os.mkdir(os.path.join(self.directory, "v"))
        self.abdvol("create", "dir:v", "--size=4M", "--object-size=64K")
        server = self.volume()
        client = self.client(server)
        for n in range(10):
            client.write(n * 128 * KIB, bytes([n + 1]) * 60 * KIB)
        client.write(0, b"again")
        client.disconnect()
        server.stop()

    def test_create_and_info(self):
        self.make()
        done = self.abdvol("create", "dir:v", "--size=4M", status=1)
        self.assertIn("already", done.stderr)
        info = json.loads(self.abdvol("info", "dir:v", "--json").stdout)
        self.assertEqual(info["size"], 4 * MIB)
        self.assertEqual(info["object_size"], 64 * KIB)
        self.assertEqual(info["data_bytes"], 600 * KIB)
        self.assertIn("data ", self.abdvol("info", "dir:v").stdout)

    def test_info_of_what_is_in_use(self):
        self.make()
        server = self.volume()
        client = self.client(server)
        self.abdvol("info", "dir:v")
        client.write(0, b"x")
        self.assertEqual(client.call(CMD_FLUSH).error, 0)
        client.disconnect()
        server.stop()

    def test_check(self):
        self.make()
        report = json.loads(self.abdvol("check", "dir:v", "--json").stdout)
        self.assertEqual(report["damaged_blocks"], 0)
        self.assertEqual(report["checked_bytes"], 600 * KIB)
        sizes = sorted((os.path.getsize(log), log) for log in self.logs())
        for at in (1000, 9000):
            with open(sizes[-1][1], "r+b") as file:
                file.seek(at)
                old = file.read(1)
                file.seek(at)
                file.write(bytes([old[0] ^ 1]))
        done = self.abdvol("check", "dir:v", "--json", status=1)
        self.assertEqual(json.loads(done.stdout)["damaged_blocks"], 2)
        self.assertEqual(json.loads(done.stdout)["checked_bytes"], 600 * KIB)
        self.assertEqual(done.stderr.count("is damaged"), 2)

    def test_delete(self):
        self.make()
        server = self.volume()
        client = self.client(server)
        client.write(0, b"x")
        self.assertEqual(client.call(CMD_FLUSH).error, 0)
        done = self.abdvol("delete", "dir:v", status=1)
        self.assertIn("has not closed it", done.stderr)
        self.abdvol("delete", "dir:v", "--take-over")
        client.disconnect()
        self.assertEqual(self.logs(), [])
        self.assertFalse(os.path.exists(
            os.path.join(self.directory, "v", "volume")))
        server.stop()

    def test_mistakes(self):
        for arguments, text in (
                ([], "a command"), (["frob", "dir:x"], "frob"),
                (["info", "x"], "dir:"), (["create", "dir:x"], "--size"),
                (["create", "dir:x", "--size=5000"], "--size"),
                (["info", "dir:x", "--size=4M"], "create")):
            self.assertIn(text, self.abdvol(*arguments, status=2).stderr)
        self.assertIn("nowhere", self.abdvol("info", "dir:/nowhere",
                                             status=1).stderr)


class Mistakes(ObjectCase):
    def test_parameters(self):
        for parameters, text in (
                ([], "url"), (["dir:"], "url"), (["ftp:x"], "dir:"),
                (["dir:x", "size=5000"], "4096"),
                (["dir:x", "object-size=1K"], "object-size"),
                (["dir:x", "memory=1M"], "memory"),
                (["dir:x", "create=yes"], "if-missing"),
                (["dir:x", "create=if-missing"], "size"),
                (["dir:x", "requests=0"], "requests"),
                (["dir:x", "watch=0"], "watch"),
                (["dir:x", "sise=1M"], "sise")):
            with self.subTest(parameters=parameters):
                done = run("object", *parameters, "-U", "-", "--run", "true",
                           cwd=self.directory)
                self.assertEqual(done.returncode, 1)
                self.assertIn(text, done.stderr)
        self.assertEqual(os.listdir(self.directory), [])

    def test_there_is_none(self):
        for path, text in ((self.directory, "create=if-missing"),
                           ("/nowhere/at/all", "/nowhere/at/all")):
            server = self.serve("object", "dir:" + path)
            with server.greet() as handshake:
                self.assertNotEqual(handshake.opt(OPT_GO, info_data("")),
                                    REP_ACK)
            self.assertIn(text, server.stderr())
            server.stop()


if __name__ == "__main__":
    unittest.main()
