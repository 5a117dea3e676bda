#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Errors that a plugin gives with the place and a text: they arrive so in
structured and extended replies, counted from the start of the export, also
where the server has cut the request; simple replies have the error alone."""

import unittest

from constants import *
from server import Server, build_plugin, temporary_directory

MIB = 1 << 20
NEAR, FAR = 5000, 3 * MIB + 17      # the plugin's bad bytes
COMMANDS = (CMD_READ, CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES, CMD_CACHE,
            CMD_BLOCK_STATUS)
STYLES = {"structured": {"meta": True},
          "extended": {"meta": True, "extended": True}}


class ErrorChunks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = temporary_directory()
        path = build_plugin("placed", cls.directory.__enter__())
        cls.server = Server(path)

    @classmethod
    def tearDownClass(cls):
        try:
            cls.server.stop()
        finally:
            cls.directory.__exit__(None, None, None)

    def call(self, client, command, offset, length):
        if command == CMD_WRITE:
            return client.call(command, offset, payload=bytes(length))
        return client.call(command, offset, length)

    def check(self, reply, at):
        self.assertEqual(reply.error, ENOSPC)
        self.assertEqual(reply.error_at, at)
        self.assertEqual(reply.text, "byte %d is bad" % at)

    def test_offset_and_text(self):
        for style, how in STYLES.items():
            with self.server.client(**how) as client:
                for command in COMMANDS:
                    for offset, length in ((4096, 4096), (NEAR, 1), (0, 8192)):
                        with self.subTest(style=style, command=command,
                                          offset=offset):
                            self.check(self.call(client, command, offset,
                                                 length), NEAR)
                    self.assertEqual(self.call(client, command, 8192,
                                               4096).error, 0)
                client.disconnect()

    def test_offset_behind_the_first_piece(self):
        """The disk takes 1 MiB at once; what is bad lies in a later piece."""
        for style, how in STYLES.items():
            with self.server.client(**how) as client:
                for command in (CMD_READ, CMD_WRITE):
                    with self.subTest(style=style, command=command):
                        reply = self.call(client, command, MIB, 4 * MIB)
                        self.check(reply, FAR)
                client.disconnect()

    def test_text_without_offset(self):
        for style, how in STYLES.items():
            with self.subTest(style=style), \
                    self.server.client(**how) as client:
                reply = client.call(CMD_FLUSH)
                self.assertEqual(reply.error, EIO)
                self.assertIsNone(reply.error_at)
                self.assertEqual(reply.text, "nothing can be flushed")
                client.disconnect()

    def test_simple_replies_have_the_error(self):
        with self.server.client() as client:
            for command in (CMD_READ, CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES):
                with self.subTest(command=command):
                    reply = self.call(client, command, 4096, 4096)
                    self.assertEqual(reply.error, ENOSPC)
            self.assertEqual(client.read(8192, 4096), b"p" * 4096)
            client.disconnect()

    def test_exports_that_cannot_be_listed(self):
        with self.server.greet() as conn:
            self.assertEqual(conn.opt(OPT_LIST), ERR_PLATFORM)
            conn.go("").disconnect()


if __name__ == "__main__":
    unittest.main()
