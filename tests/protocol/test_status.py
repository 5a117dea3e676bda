#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""--status=PATH answers each connection with one JSON object about exports,
connections and memory; --status-of prints it for people."""

import json
import os
import tempfile
import unittest

from constants import *
from nbdproto import Conn, connect_unix
from server import Server, run


class StatusSocket(unittest.TestCase):
    def ask(self, path):
        with Conn(connect_unix(path)) as conn:
            return json.loads(conn.drain().decode())

    def walk(self, value):
        """Every number of the object, by its key."""
        if isinstance(value, dict):
            for key, inner in value.items():
                if isinstance(inner, (int, float)):
                    yield key, inner
                yield from self.walk(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from self.walk(inner)

    def start(self, *plugin, options=()):
        directory = tempfile.TemporaryDirectory(prefix="abdtest-")
        self.addCleanup(directory.cleanup)
        path = os.path.join(directory.name, "status")
        return path, Server(*plugin, options=["--status=" + path, *options])

    def test_idle(self):
        path, server = self.start("memory", "16M")
        with server:
            for _ in range(3):
                status = self.ask(path)
                self.assertIsInstance(status, dict)
            self.assertTrue(any("export" in key for key in status), status)
            self.assertTrue(any("connection" in key for key in status),
                            status)
        self.assertFalse(os.path.exists(path))

    def test_counts_follow_the_requests(self):
        path, server = self.start("memory", "16M")
        with server, server.client() as client:
            for n in range(10):
                client.write(0, bytes(4096))
            for n in range(7):
                client.read(0, 512)
            text = json.dumps(self.ask(path))
            self.assertRegex(text, r"\b10\b")
            self.assertRegex(text, r"\b7\b")
            self.assertRegex(text, r"\b40960\b")
            self.assertRegex(text, r"\b3584\b")
            client.disconnect()

    def test_requests_in_flight_and_percentiles(self):
        path, server = self.start("memory", "16M", "rdelay=2",
                                  options=["--filter=delay"])
        with server, server.client() as client:
            client.write(0, bytes(512))
            for n in range(5):
                client.submit(CMD_READ, 0, 512)
            client.submit(CMD_FLUSH)
            client.receive()
            status = self.ask(path)
            text = json.dumps(status)
            self.assertRegex(text, r"flight[a-z_\"]*: 5\b")
            self.assertRegex(text, "oldest")
            for name in ("p50", "p90", "p99"):
                self.assertIn(name, text)
            client.receive_all()
            client.disconnect()

    def test_many_askers_and_one_that_does_not_read(self):
        path, server = self.start("memory", "16M")
        with server:
            lazy = [connect_unix(path) for _ in range(20)]
            for _ in range(50):
                self.ask(path)
            server.check_good()
            for sock in lazy:
                sock.close()

    def test_for_people(self):
        path, server = self.start("memory", "16M")
        with server, server.client() as client:
            client.read(0, 512)
            done = run("--status-of", path)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertGreater(len(done.stdout.splitlines()), 2)
            client.disconnect()
        done = run("--status-of", path)
        self.assertEqual(done.returncode, 1)
        self.assertIn(path, done.stderr)

    def test_names_are_quoted(self):
        path, server = self.start("memory", "16M")
        name = 'quote" back\\ tab\t ü'
        with server, server.client(name=name) as client:
            client.read(0, 512)
            self.ask(path)
            client.disconnect()


if __name__ == "__main__":
    unittest.main()
