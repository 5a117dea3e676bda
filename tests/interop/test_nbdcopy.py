#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""nbdcopy: an image in and out again, over one and several connections, and
errors that must not be lost."""

import unittest

from clients import ClientTest, Server


class NbdCopy(ClientTest):
    programs = ("nbdcopy",)

    def test_there_and_back(self):
        self.make_image()
        for more in ([], ["--connections=1"], ["--connections=4"],
                     ["--requests=64"], ["--synchronous"],
                     ["--allocated"]):
            with self.subTest(more=more), Server("memory", "16M") as server:
                self.check("nbdcopy", *more, "image", self.uri(server))
                self.check("nbdcopy", *more, self.uri(server), "copy")
                self.assert_same("image", "copy")

    def test_file_plugin(self):
        self.make_image()
        self.make_image("disk", seed=2)
        with Server("file", "file=" + self.path("disk")) as server:
            self.check("nbdcopy", "--flush", "image", self.uri(server))
        self.assert_same("image", "disk")
        with Server("file", "file=" + self.path("disk"),
                    options=["-r"]) as server:
            self.check("nbdcopy", self.uri(server), "copy")
        self.assert_same("image", "copy")

    def test_server_to_server(self):
        self.make_image()
        with Server("memory", "16M") as one, Server("memory", "16M") as two:
            self.check("nbdcopy", "image", self.uri(one))
            self.check("nbdcopy", self.uri(one), self.uri(two))
            self.check("nbdcopy", self.uri(two), "copy")
        self.assert_same("image", "copy")

    def test_through_delays(self):
        self.make_image()
        with Server("memory", "16M", "rdelay=20ms", "wdelay=20ms",
                    options=["--filter=delay"]) as server:
            self.check("nbdcopy", "image", self.uri(server))
            self.check("nbdcopy", self.uri(server), "copy")
        self.assert_same("image", "copy")

    def test_errors_are_seen(self):
        self.make_image()
        for failing in ("pwrite", "zero"):
            with self.subTest(failing=failing), Server(
                    "memory", "16M", "error-%s=EIO" % failing,
                    "error-%s-rate=1" % failing,
                    options=["--filter=error"]) as server:
                done = self.run_client("nbdcopy", "--destination-is-zero"
                                       if failing == "pwrite" else
                                       "--allocated", "image",
                                       self.uri(server))
                self.assertNotEqual(done.returncode, 0)
        with Server("memory", "16M", "error-pread=EIO", "error-pread-rate=1",
                    options=["--filter=error"]) as server:
            with server.client() as client:
                client.write(0, b"x" * 512)
                client.disconnect()
            done = self.run_client("nbdcopy", self.uri(server), "copy")
            self.assertNotEqual(done.returncode, 0)


if __name__ == "__main__":
    unittest.main()
