# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""What the tests with other people's clients share: the server runner of the
protocol tests, running a program with a limit, and images to copy."""

import os
import random
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "protocol"))

from server import Server, TcpServer, temporary_directory  # noqa: E402

LIMIT = float(os.environ.get("ABD_TEST_TIMEOUT", "60"))


def need(*programs):
    """Skips, with the reason, where a client is not installed."""
    for name in programs:
        if not shutil.which(name):
            reason = "%s is not installed" % name
            print("SKIP: " + reason, file=sys.stderr, flush=True)
            raise unittest.SkipTest(reason)


class ClientTest(unittest.TestCase):
    """A private directory, and check() to run a client in it."""
    programs = ()

    @classmethod
    def setUpClass(cls):
        need(*cls.programs)

    def setUp(self):
        directory = temporary_directory()
        self.dir = directory.__enter__()
        self.addCleanup(directory.__exit__, None, None, None)

    def path(self, name):
        return os.path.join(self.dir, name)

    def run_client(self, *args, **more):
        # Scripts among the clients want the system's Python.
        env = dict(os.environ, LC_ALL="C", PATH="/usr/bin:/bin:/usr/sbin:"
                   + os.environ.get("PATH", ""))
        return subprocess.run(args, capture_output=True, text=True,
                              errors="replace", cwd=self.dir, env=env,
                              timeout=LIMIT, stdin=subprocess.DEVNULL, **more)

    def check(self, *args):
        """Runs it; it must succeed.  Returns what it printed."""
        done = self.run_client(*args)
        self.assertEqual(done.returncode, 0, "%s: %s%s" % (
            " ".join(args), done.stdout[-2000:], done.stderr[-2000:]))
        return done.stdout

    def uri(self, server, export=""):
        if hasattr(server, "port"):
            return "nbd://127.0.0.1:%d/%s" % (server.port, export)
        return "nbd+unix:///%s?socket=%s" % (export, server.path)

    def make_image(self, name="image", size=16 << 20, seed=1):
        """A sparse file: data, holes, and a tail that fills no block."""
        rng = random.Random(seed)
        with open(self.path(name), "wb") as file:
            for _ in range(12):
                file.seek(rng.randrange(size // 4096) * 4096)
                file.write(rng.randbytes(rng.randrange(1, 300000)))
            file.truncate(size)
        return self.path(name)

    def read_file(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def assert_same(self, one, two):
        self.assertTrue(self.read_file(one) == self.read_file(two),
                        "%s and %s differ" % (one, two))
