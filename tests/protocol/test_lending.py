#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Filters let lent memory pass: with each of them the server makes the same
system calls for the same reads as without, and sends the same bytes."""

import collections
import os
import re
import shutil
import signal
import subprocess
import unittest

from constants import *
from nbdproto import Handshake, connect_unix
from server import clean_environment, program, temporary_directory, \
    wait_until

MIB = 1 << 20
CALLS = ("sendmsg", "sendfile", "recvfrom", "recvmsg", "pread64", "preadv2",
         "read", "splice")
FILTERS = {
    "delay": ["rdelay=0"], "error": ["error-rate=0%"],
    "log": ["logfile=LOG"], "stats": ["statsfile=LOG"], "readonly": [],
    "noextents": [], "nozero": [], "limit": ["limit=5"], "exitlast": [],
}


def can_trace():
    strace = shutil.which("strace")
    return strace and subprocess.run(
        [strace, "-qq", "-o", os.devnull, "true"],
        capture_output=True).returncode == 0


@unittest.skipUnless(can_trace(), "strace is not installed, or not allowed")
class Lending(unittest.TestCase):
    def setUp(self):
        self.directory = self.enterContext(temporary_directory())

    def trace(self, *arguments):
        """The reads' bytes, and how often each call was made for them."""
        path = os.path.join(self.directory, "trace")
        sock = os.path.join(self.directory, "sock")
        pidfile = os.path.join(self.directory, "pid")
        tracer = subprocess.Popen(
            ["strace", "-f", "-qq", "-e", "trace=" + ",".join(CALLS), "-o",
             path, *program(), "-f", "--loops=1", "-U", sock, "-P", pidfile,
             *arguments], env=clean_environment(LSAN_OPTIONS="detect_leaks=0"))
        try:
            wait_until(lambda: os.path.exists(pidfile) and
                       os.stat(pidfile).st_size, what="the pidfile")
            with open(pidfile) as file:
                server = int(file.read())
            client = Handshake(connect_unix(sock)).greet().go("")
            begin = os.stat(path).st_size
            data = b"".join(client.read(n * 131072, length)
                            for length in (4096, 131072) for n in range(7))
            client.disconnect()
            if "--filter=exitlast" not in arguments:
                os.kill(server, signal.SIGTERM)
            self.assertEqual(tracer.wait(30), 0)
        finally:
            tracer.kill()
            tracer.wait()
        with open(path) as file:
            file.seek(begin)
            calls = collections.Counter(
                re.findall(r"\b(%s)\(" % "|".join(CALLS), file.read()))
        os.unlink(path)
        return data, calls

    def check(self, *plugin):
        plain = self.trace(*plugin)
        self.assertGreaterEqual(plain[1]["sendmsg"], 14)
        for name, parameters in FILTERS.items():
            more = [p.replace("LOG", os.path.join(self.directory, "log"))
                    for p in parameters]
            with self.subTest(filter=name):
                data, calls = self.trace("--filter=" + name, *plugin, *more)
                self.assertEqual(data, plain[0])
                for call in ("sendmsg", "sendfile", "pread64", "preadv2",
                             "splice"):
                    self.assertEqual(calls[call], plain[1][call], call)

    def test_memory(self):
        self.check("memory", "2M")

    def test_file(self):
        path = os.path.join(self.directory, "disk")
        with open(path, "wb") as file:
            file.write(os.urandom(2 * MIB))
        self.check("file", path)


if __name__ == "__main__":
    unittest.main()
