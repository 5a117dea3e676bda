#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""nbdinfo: what it says about exports, sizes, features and holes."""

import json
import unittest

from clients import ClientTest, Server, TcpServer


class NbdInfo(ClientTest):
    programs = ("nbdinfo",)

    def test_json(self):
        with Server("memory", "16M") as server:
            data = json.loads(self.check("nbdinfo", "--json",
                                         self.uri(server)))
            self.assertEqual(data["protocol"], "newstyle-fixed")
            self.assertTrue(data["structured"])
            export, = data["exports"]
            self.assertEqual(export["export-size"], 16 << 20)
            self.assertFalse(export["is_read_only"])
            for feature in ("can_flush", "can_fua", "can_trim", "can_zero",
                            "can_multi_conn", "can_df"):
                self.assertTrue(export[feature], feature)
            self.assertEqual(export["contexts"], ["base:allocation"])
            self.assertGreaterEqual(export["block_size_preferred"], 512)

    def test_read_only(self):
        with Server("memory", "16M", options=["-r"]) as server:
            data = json.loads(self.check("nbdinfo", "--json",
                                         self.uri(server)))
            self.assertTrue(data["exports"][0]["is_read_only"])
            done = self.run_client("nbdinfo", "--can", "write",
                                   self.uri(server))
            self.assertEqual(done.returncode, 2)

    def test_list(self):
        with Server("memory", "16M") as server:
            data = json.loads(self.check("nbdinfo", "--list", "--json",
                                         self.uri(server)))
            self.assertEqual([export["export-name"]
                              for export in data["exports"]], [""])

    def test_size_over_tcp(self):
        with TcpServer("null", "1G") as server:
            self.assertEqual(self.check("nbdinfo", "--size",
                                        self.uri(server)).strip(),
                             str(1 << 30))

    def test_oldstyle(self):
        with Server("memory", "16M", options=["-o"]) as server:
            self.assertEqual(self.check("nbdinfo", "--size",
                                        self.uri(server)).strip(),
                             str(16 << 20))

    def test_map(self):
        with Server("memory", "4M") as server:
            with server.client() as client:
                client.write(1 << 20, b"d" * (1 << 20))
                client.disconnect()
            data = json.loads(self.check("nbdinfo", "--map", "--json",
                                         self.uri(server)))
            self.assertEqual([(one["offset"], one["length"], one["type"])
                              for one in data],
                             [(0, 1 << 20, 3), (1 << 20, 1 << 20, 0),
                              (2 << 20, 2 << 20, 3)])


if __name__ == "__main__":
    unittest.main()
