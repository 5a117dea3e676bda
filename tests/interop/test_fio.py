#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""fio's nbd engine with verification, and nbd-client's list of exports."""

import subprocess
import unittest

from clients import ClientTest, Server, TcpServer


class Fio(ClientTest):
    programs = ("fio",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        engines = subprocess.run(["fio", "--enghelp"], capture_output=True,
                                 text=True).stdout
        if "nbd" not in engines.split():
            raise unittest.SkipTest("fio has no nbd engine")

    def fio(self, server, *args):
        self.check("fio", "--name=verify", "--ioengine=nbd",
                   "--uri=" + self.uri(server), "--verify=crc32c",
                   "--verify_fatal=1", "--do_verify=1", *args)

    def test_random_writes(self):
        with Server("memory", "16M") as server:
            self.fio(server, "--rw=randwrite", "--bs=4k", "--iodepth=64",
                     "--size=16M")

    def test_mixed_sizes(self):
        with Server("memory", "64M") as server:
            self.fio(server, "--rw=randwrite", "--bsrange=512-256k",
                     "--blockalign=512", "--iodepth=32", "--size=64M",
                     "--verify_backlog=200")

    def test_large_blocks_with_delay(self):
        with Server("memory", "32M", "rdelay=10ms", "wdelay=10ms",
                    options=["--filter=delay"]) as server:
            self.fio(server, "--rw=write", "--bs=128k", "--iodepth=128",
                     "--size=32M")

    def test_file_over_tcp(self):
        with open(self.path("disk"), "wb") as file:
            file.truncate(32 << 20)
        with TcpServer("file", "file=" + self.path("disk")) as server:
            self.fio(server, "--rw=randwrite", "--bs=16k", "--iodepth=32",
                     "--size=32M", "--fsync=64")


class NbdClient(ClientTest):
    programs = ("nbd-client",)

    def test_list(self):
        with TcpServer("memory", "16M") as server:
            done = self.run_client("nbd-client", "-l", "127.0.0.1",
                                   str(server.port))
            self.assertEqual(done.returncode, 0, done.stderr)
            # "Negotiation: ..", then a line for each name: one, empty.
            self.assertEqual(done.stdout.count("\n"), 2, done.stdout)
            server.check_good()


if __name__ == "__main__":
    unittest.main()
