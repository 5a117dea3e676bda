#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Who holds a loop is named, whichever callback does it."""

import os
import signal
import unittest

import system
from constants import *
from server import run, temporary_directory


class Blame(system.ServedCase):
    def play(self, where):
        with temporary_directory() as directory:
            status = os.path.join(directory, "status")
            server = self.serve("memory", "1M", "nap=" + where, chain=["nap"],
                                options=["--loops=1", "--status=" + status])
            with server.client() as client:
                client.write(0, bytes(512))
                self.assertEqual(run("--status-of", status).returncode, 0)
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait(), 0)
            return server.stderr()

    def test_each_callback(self):
        for where in ("opened", "submit", "after", "admit", "leave", "status",
                      "close", "closed"):
            with self.subTest(where=where):
                self.assertRegex(self.play(where),
                                 r"nap-filter\.so: warning: held a loop for \d+ ms")

    def test_nobody(self):
        self.assertNotIn("nap", self.play("nowhere"))


if __name__ == "__main__":
    unittest.main()
