#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""QEMU's client: qemu-img info, map, convert and compare, and qemu-io's
patterns."""

import json
import unittest

from clients import ClientTest, Server, TcpServer


class QemuImg(ClientTest):
    programs = ("qemu-img",)

    def test_info(self):
        with Server("memory", "16M") as server:
            data = json.loads(self.check("qemu-img", "info", "--output=json",
                                         self.uri(server)))
            self.assertEqual(data["virtual-size"], 16 << 20)
            self.assertEqual(data["format"], "raw")

    def test_map(self):
        with Server("memory", "4M") as server:
            with server.client() as client:
                client.write(1 << 20, b"d" * (1 << 20))
                client.disconnect()
            data = json.loads(self.check("qemu-img", "map", "--output=json",
                                         self.uri(server)))
            self.assertEqual(
                [(one["start"], one["length"], one["data"], one["zero"])
                 for one in data],
                [(0, 1 << 20, False, True), (1 << 20, 1 << 20, True, False),
                 (2 << 20, 2 << 20, False, True)])

    def test_convert_and_compare(self):
        self.make_image()
        for how in (Server, TcpServer):
            with self.subTest(how=how.__name__), \
                    how("memory", "16M") as server:
                self.check("qemu-img", "convert", "-n", "-O", "raw", "-f",
                           "raw", "image", self.uri(server))
                self.check("qemu-img", "compare", "-f", "raw", "-F", "raw",
                           "image", self.uri(server))
                self.check("qemu-img", "convert", "-m", "16", "-W", "-f",
                           "raw", "-O", "raw", self.uri(server), "copy")
                self.assert_same("image", "copy")
                with server.client() as client:
                    client.write(5 << 20, b"other")
                    client.disconnect()
                done = self.run_client("qemu-img", "compare", "-f", "raw",
                                       "-F", "raw", "image", self.uri(server))
                self.assertEqual(done.returncode, 1)

    def test_qcow2_inside(self):
        """A growing image format on a disk: many small writes and flushes."""
        self.make_image()
        with Server("memory", "64M") as server:
            self.check("qemu-img", "create", "-f", "qcow2", self.uri(server),
                       "16M")
            self.check("qemu-img", "convert", "-n", "-f", "raw", "-O",
                       "qcow2", "image", self.uri(server))
            self.check("qemu-img", "check", "-f", "qcow2", self.uri(server))
            self.check("qemu-img", "compare", "-f", "raw", "-F", "qcow2",
                       "image", self.uri(server))

    def test_file_plugin(self):
        self.make_image()
        with open(self.path("disk"), "wb") as file:
            file.truncate(16 << 20)
        with Server("file", "file=" + self.path("disk")) as server:
            self.check("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw",
                       "image", self.uri(server))
        self.assert_same("image", "disk")

    def test_size_that_is_no_multiple_of_512(self):
        with Server("memory", "1000001") as server:
            with server.client() as client:
                client.write(999999, b"zz")
                client.disconnect()
            self.check("qemu-img", "convert", "-f", "raw", "-O", "raw",
                       self.uri(server), "copy")
            self.assertEqual(self.read_file("copy")[999999:1000001], b"zz")


class QemuIo(ClientTest):
    programs = ("qemu-io",)

    def test_patterns(self):
        with Server("memory", "16M") as server:
            commands = ["write -P 0x11 0 1M", "read -P 0x11 0 1M",
                        "write -f -P 0x22 1M 64k", "read -P 0x22 1M 64k",
                        "write -z 0 64k", "read -P 0 0 64k",
                        "write -z -u 64k 64k", "read -P 0 64k 64k",
                        "aio_write -P 0x33 4M 2M", "aio_write -P 0x44 6M 2M",
                        "aio_flush", "read -P 0x33 4M 2M",
                        "read -P 0x44 6M 2M", "discard 4M 4M", "flush",
                        "write -P 0x55 15M 1M", "read -P 0x55 15M 1M"]
            args = [word for one in commands for word in ("-c", one)]
            out = self.check("qemu-io", "-f", "raw", *args, self.uri(server))
            self.assertNotIn("failed", out)

    def test_errors_are_reported(self):
        with Server("memory", "16M", "error-pread=EIO", "error-pread-rate=1",
                    options=["--filter=error"]) as server:
            done = self.run_client("qemu-io", "-f", "raw", "-c",
                                   "read 64k 64k", self.uri(server))
            self.assertIn("Input/output error", done.stdout + done.stderr)
        with Server("memory", "16M", options=["-r"]) as server:
            done = self.run_client("qemu-io", "-r", "-f", "raw", "-c",
                                   "read -P 0 64k 64k", self.uri(server))
            self.assertEqual(done.returncode, 0)

    def test_multi_megabyte_requests(self):
        with Server("memory", "128M") as server:
            self.check("qemu-io", "-f", "raw", "-c", "write -P 9 5 31M", "-c",
                       "read -P 9 5 31M", "-c", "read -P 0 40M 32M",
                       self.uri(server))


if __name__ == "__main__":
    unittest.main()
