#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""--status-of=PATH prints the status of a server for people, and says what is
wrong where there is none."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
import unittest

from constants import *
from server import Server, program, run, temporary_directory


class ForPeople(unittest.TestCase):
    def start(self, *plugin, options=()):
        self.directory = self.enterContext(temporary_directory())
        self.path = os.path.join(self.directory, "status")
        return Server(*plugin, options=["--status=" + self.path, *options])

    def test_tables(self):
        with self.start("memory", "16M", "rdelay=1", options=[
                "--filter=delay", "--loops=2"]) as server, \
                server.client(name="disk one") as client, \
                server.greet():
            for n in range(3):
                client.write(0, bytes(1 << 20))
            client.call(CMD_WRITE, 1 << 40, payload=bytes(1))
            client.submit(CMD_READ, 0, 512)
            client.submit(CMD_READ, 0, 512)
            client.submit(CMD_FLUSH)
            client.receive()
            done = run("--status-of", self.path)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.check(done.stdout, server.pid)
            client.receive_all()
            client.disconnect()

    def check(self, text, pid):
        lines = text.splitlines()
        self.assertLessEqual(max(map(len, lines)), 80)
        self.assertRegex(lines[0], r"^abdkit \S+, process %d, serving, up "
                         % pid)
        for pattern in (
                r"^Clients +2 of at most 100$",
                r"^Requests +5 answered, 1 of them with an error$",
                r"^ +2 in flight, the oldest for \d\S*$",
                r"^Bytes +0 read, 3\.00M written$",
                r"^Memory +0 in buffers and \S+ elsewhere, of 80\.0M; "
                r"0 wait for more$",
                r"^write +4 ",
                r'^"disk one" +16\.0M +1 +5 +1 +0 +3\.00M +2 +\d',
                r'^1 +unix:%d +"disk one" +\d\S* +5 +0 +3\.00M +2 +\d'
                % os.getpid(),
                r"^ +errors: 1$",
                r"^2 +unix:%d +- +\d\S* +0 +0 +0 +0 +-$" % os.getpid(),
                r"^ +handshake$",
                r'^delay +"disk one" +open +2 +0 +0$',
                r'^memory +"disk one" +open +0 +0 +0$',
                r"^0 +\d", r"^1 +\d"):
            self.assertRegex(text, re.compile(pattern, re.M))
        self.assertNotRegex(text, re.compile(r"^trim", re.M))

    def test_an_idle_server(self):
        with self.start("memory", "16M"):
            done = run("--status-of", self.path)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("none in flight", done.stdout)
            self.assertNotIn("EXPORT", done.stdout)
            self.assertNotIn("LATENCY", done.stdout)

    def test_a_full_disk(self):
        with self.start("memory", "16M"), open("/dev/full", "w") as full:
            done = subprocess.run(
                program() + ["--status-of", self.path], stdout=full,
                stderr=subprocess.PIPE, text=True)
            self.assertEqual(done.returncode, 1)
            self.assertIn("--status-of %s: printing" % self.path, done.stderr)


class NoAnswer(unittest.TestCase):
    """--status-of where there is no abdkit: exit 1, a reason, no output."""

    def setUp(self):
        self.directory = self.enterContext(temporary_directory())
        self.path = os.path.join(self.directory, "status")

    def refuse(self, reason, path=None):
        path = path or self.path
        done = run("--status-of", path)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("--status-of %s: " % path, done.stderr)
        self.assertIn(reason, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1)

    @contextlib.contextmanager
    def fake(self, *parts, wait=False):
        """Somebody who says this to the first asker."""
        def serve():
            conn, _ = listener.accept()
            with conn, contextlib.suppress(BrokenPipeError):
                for part in parts:
                    conn.sendall(part)
                if wait:
                    conn.recv(1)    # until the asker gives up

        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path)
            listener.listen()
            thread = threading.Thread(target=serve)
            thread.start()
            try:
                yield
            finally:
                thread.join()
        os.unlink(self.path)

    def test_no_such_file(self):
        self.refuse("No such file")

    def test_no_socket(self):
        with open(self.path, "w"):
            pass
        self.refuse("not a socket")

    def test_a_path_that_is_too_long(self):
        self.refuse("too long", self.path + "x" * 200)

    def test_nobody_listens(self):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path)
        self.refuse("nobody listens")

    def test_a_server_that_was_killed(self):
        with Server("memory", "1M", options=["--status=" + self.path]
                    ) as server:
            os.kill(server.pid, signal.SIGKILL)
            server.process.wait()
            server.ended = True
            self.refuse("nobody listens")

    def test_a_datagram_socket(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(self.path)
            self.refuse("not a stream socket")

    def test_an_empty_answer(self):
        with self.fake():
            self.refuse("without an answer")

    def test_not_json(self):
        with self.fake(b"NBDMAGICIHAVEOPT\0\3"):
            self.refuse("not JSON: byte 0")
        with self.fake(b'{"abdkit": "1", }'):
            self.refuse("not JSON: byte 16")

    def test_a_cut_answer(self):
        with self.fake(b'{"abdkit": "0.1.0", "exports": [{"na', b'me": "'):
            self.refuse("ends too early")

    def test_somebody_elses_json(self):
        for text in (b'{"version": 1}\n', b"[1,2]", b"null"):
            with self.subTest(text=text), self.fake(text):
                self.refuse("not abdkit's")

    def test_an_nbd_socket(self):
        with Server("memory", "1M", options=["--handshake-timeout=1"]
                    ) as server:
            self.refuse("not JSON", server.path)

    def test_an_answer_without_an_end(self):
        with self.fake(*[b" " * (1 << 20)] * 80):
            self.refuse("does not end")

    def test_a_silent_server(self):
        with self.fake(b'{"abdkit"', wait=True):
            begin = time.monotonic()
            self.refuse("within 10 s")
            self.assertGreater(time.monotonic() - begin, 9)

    def test_odd_but_good_answers(self):
        """Of another version: what is missing or of another kind."""
        for text in (b'{"abdkit": 7}', b'{"abdkit": "9", "exports": 1}',
                     b'{"abdkit": "9", "exports": [1, {}, {"name": "\\u001b"}'
                     b'], "connections": [[]], "latency": {"a": {"count": 1}'
                     b'}, "memory": null, "loops": [{}], "disks": [{"lanes":'
                     b' [{"in_flight": -1}]}], "requests": 1e3}'):
            with self.subTest(text=text), self.fake(text):
                done = run("--status-of", self.path)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertRegex(done.stdout, r"^abdkit ")
                self.assertNotIn("\x1b", done.stdout)


if __name__ == "__main__":
    unittest.main()
