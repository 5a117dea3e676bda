#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""A plugin with many exports: listed, described, told apart, refused by name;
and how many disks stay open."""

import unittest

from constants import *
from nbdproto import info_data, meta_data
from server import Server, build_plugin, temporary_directory

COUNT = 10000
MIB = 1 << 20


class Exports(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = temporary_directory()
        path = build_plugin("exports", cls.directory.__enter__())
        cls.server = Server(path)

    @classmethod
    def tearDownClass(cls):
        try:
            cls.server.stop()
        finally:
            cls.directory.__exit__(None, None, None)

    def test_list_of_ten_thousand(self):
        for _ in range(3):
            with self.server.greet() as conn:
                exports = conn.list()
                self.assertEqual(exports, [
                    ("export-%d" % n, "number %d" % n) for n in range(COUNT)])
                conn.go("export-3").disconnect()

    def test_list_that_is_not_read(self):
        """Its size is bounded, and others are served."""
        before = self.server.rss()
        conns = [self.server.greet() for _ in range(20)]
        for conn in conns:
            conn.send_option(OPT_LIST)
            conn.send_option(OPT_LIST)
        with self.server.client(name="export-1") as client:
            client.read(0, 512)
            client.disconnect()
        for conn in conns:
            conn.close()
        if not self.server.sanitized():
            self.assertLess(self.server.rss(), before + 64 * MIB)

    def test_each_has_its_own_size(self):
        for n in (0, 1, 7, 9999):
            with self.server.client(name="export-%d" % n) as client:
                self.assertEqual(client.export.size, 4096 * (n + 1))
                self.assertTrue(client.export.flags & READ_ONLY)
                client.disconnect()

    def test_canonical_name_and_description(self):
        with self.server.greet() as conn:
            export = conn.info("", (INFO_NAME, INFO_DESCRIPTION))
            self.assertEqual(export.name, "export-7")
            self.assertEqual(export.description, "number 7")
            self.assertEqual(export.size, 4096 * 8)

    def test_unknown_names(self):
        for name in ("nothing", "export-10000", "export-", "Export-1",
                     "x" * 4096, "\x1b[2J"):
            with self.subTest(name=name[:20]), self.server.greet() as conn:
                for option in (OPT_INFO, OPT_GO):
                    kind = conn.opt(option, info_data(name, (3,)))
                    self.assertEqual(kind, ERR_UNKNOWN)
                    self.assertEqual(len(conn.last), 1)
                conn.go("export-5").disconnect()
            with self.server.greet() as conn:
                conn.send_option(OPT_EXPORT_NAME, name.encode())
                conn.expect_eof()

    def test_contexts_of_unknown_names(self):
        with self.server.greet() as conn:
            conn.structured_reply()
            kind = conn.opt(OPT_SET_META_CONTEXT,
                            meta_data("nothing", ["base:allocation"]))
            self.assertIn(kind, (REP_ACK, ERR_UNKNOWN))
            conn.contexts = {}
            client = conn.go("export-5")
            self.assertEqual(client.call(CMD_BLOCK_STATUS, 0, 512).error,
                             EINVAL)
            client.disconnect()

    def test_open_disks_are_bounded(self):
        """A thousand exports are used; only some stay open for the next
        client, and the memory of the others is given back."""
        before = self.server.rss()
        most = 0
        for n in range(1000):
            with self.server.client(name="export-%d" % n) as client:
                most = max(most, client.read(0, 1)[0])
                client.disconnect()
        self.assertLess(most, 128)
        if not self.server.sanitized():
            self.assertLess(self.server.rss(), before + 16 * MIB)

    def test_ten_thousand_names_by_info(self):
        before = self.server.rss()
        for block in range(20):
            with self.server.greet() as conn:
                for n in range(500):
                    conn.info("export-%d" % (block * 500 + n))
        if not self.server.sanitized():
            self.assertLess(self.server.rss(), before + 32 * MIB)

    def test_many_at_once(self):
        clients = [self.server.client(name="export-%d" % n)
                   for n in range(90)]
        for n, client in enumerate(clients):
            self.assertEqual(client.export.size, 4096 * (n + 1))
            client.read(0, 4096)
        for client in clients:
            client.disconnect()


if __name__ == "__main__":
    unittest.main()
