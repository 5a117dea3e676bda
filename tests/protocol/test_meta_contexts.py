#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""LIST_META_CONTEXT and SET_META_CONTEXT: queries, wildcards, replacement,
and to which export a selection belongs."""

import struct
import unittest

from constants import *
from nbdproto import Closed, meta_data, pack_string
from test_handshake import HandshakeTest

BASE = "base:allocation"


class MetaContexts(HandshakeTest):
    def negotiated(self):
        """A handshake with structured replies, then one with extended."""
        for extended in (False, True):
            with self.server.greet() as conn:
                if extended:
                    conn.extended_headers()
                else:
                    conn.structured_reply()
                try:
                    yield conn
                except GeneratorExit:
                    print("failed with extended =", extended)
                    raise

    def assert_status(self, client, works):
        reply = client.call(CMD_BLOCK_STATUS, 0, 4096)
        self.assertEqual(reply.error, 0 if works else EINVAL)
        self.assertEqual(len(reply.extents), 1 if works else 0)
        client.read(0, 512)
        client.disconnect()

    def test_set_selects_base_allocation(self):
        for conn in self.negotiated():
            self.assertEqual(list(conn.set_meta("", [BASE])), [BASE])
            self.assert_status(conn.go(), True)

    def test_set_before_structured_replies_is_invalid(self):
        with self.server.greet() as conn:
            kind = conn.opt(OPT_SET_META_CONTEXT, meta_data("", [BASE]))
            self.assert_reply(kind, ERR_INVALID, ERR_EXT_HEADER_REQD)
            self.assert_status(conn.go(), False)

    def test_list_before_structured_replies(self):
        # "MAY send ERR_INVALID": or else the answer must be a right one.
        with self.server.greet() as conn:
            kind = conn.opt(OPT_LIST_META_CONTEXT, meta_data("", ()))
            self.assert_reply(kind, REP_ACK, ERR_INVALID,
                              ERR_EXT_HEADER_REQD)
            if kind == REP_ACK:
                self.assertEqual(list(conn.parse_contexts()), [BASE])
            conn.go().disconnect()

    def test_list_with_no_query_names_all(self):
        for conn in self.negotiated():
            self.assertEqual(list(conn.list_meta("", ())), [BASE])
            conn.go().disconnect()

    def test_base_wildcard_is_for_list_only(self):
        for conn in self.negotiated():
            self.assertEqual(list(conn.list_meta("", ["base:"])), [BASE])
            self.assertEqual(conn.set_meta("", ["base:"]), {})
            self.assert_status(conn.go(), False)

    def test_unknown_names_are_ignored(self):
        queries = ["qemu:dirty-bitmap:b0", "x-none:", "base:nothing", BASE,
                   "nbd-server:x", "base:allocationx", "basement:allocation"]
        for conn in self.negotiated():
            self.assertEqual(list(conn.list_meta("", queries)), [BASE])
            self.assertEqual(list(conn.set_meta("", queries)), [BASE])
            self.assertEqual(conn.list_meta("", ["x-y:z"]), {})
            self.assert_status(conn.go(), True)

    def test_the_same_query_twice_selects_once(self):
        for conn in self.negotiated():
            self.assertEqual(list(conn.set_meta("", [BASE] * 3)), [BASE])
            self.assert_status(conn.go(), True)

    def test_queries_without_a_namespace(self):
        for query in ("", "base", "allocation", "base allocation"):
            for option in (OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT):
                with self.subTest(query=query, option=option), \
                        self.server.greet() as conn:
                    conn.structured_reply()
                    kind = conn.opt(option, meta_data("", [query]))
                    self.assert_reply(kind, REP_ACK, ERR_INVALID)
                    self.assertEqual(len(conn.last), 1)
                    self.assert_status(conn.go(), False)

    def test_set_with_no_query_selects_none(self):
        for conn in self.negotiated():
            conn.set_meta("", [BASE])
            self.assertEqual(conn.set_meta("", []), {})
            self.assert_status(conn.go(), False)

    def test_a_later_set_replaces(self):
        for conn in self.negotiated():
            conn.set_meta("", ["x-a:b"])
            self.assertEqual(list(conn.set_meta("", [BASE])), [BASE])
            self.assert_status(conn.go(), True)

    def test_a_failed_set_clears(self):
        for conn in self.negotiated():
            conn.set_meta("", [BASE])
            kind = conn.opt(OPT_SET_META_CONTEXT, struct.pack(">II", 0, 1))
            self.assert_reply(kind, ERR_INVALID)
            conn.contexts = {}
            self.assert_status(conn.go(), False)

    def test_a_set_that_is_too_big_clears_too(self):
        for size in (33 << 10, 256 << 10):
            queries = ["x-a:" + "b" * 4000] * (size // 4008) + [BASE]
            for conn in self.negotiated():
                conn.set_meta("", [BASE])
                kind = conn.opt(OPT_SET_META_CONTEXT, meta_data("", queries))
                self.assert_reply(kind, REP_ACK, ERR_TOO_BIG, ERR_INVALID)
                if kind != REP_ACK:
                    conn.contexts = {}
                self.assert_status(conn.go(), kind == REP_ACK)

    def test_list_does_not_select_or_clear(self):
        for conn in self.negotiated():
            conn.list_meta("", [BASE])
            self.assert_status(conn.go(), False)
        for conn in self.negotiated():
            conn.set_meta("", [BASE])
            conn.list_meta("other", ["base:"])
            self.assert_status(conn.go(), True)

    def test_contexts_of_another_export_are_dropped(self):
        for conn in self.negotiated():
            conn.set_meta("other", [BASE])
            self.assert_status(conn.go(""), False)
        for conn in self.negotiated():
            conn.set_meta("", [BASE])
            self.assert_status(conn.go("other"), False)
        with self.server.greet() as conn:
            conn.structured_reply()
            conn.set_meta("other", [BASE])
            self.assert_status(conn.export_name(""), False)

    def test_contexts_of_the_same_export_are_kept(self):
        for conn in self.negotiated():
            conn.set_meta("same", [BASE])
            self.assert_status(conn.go("same"), True)
        with self.server.greet() as conn:
            conn.structured_reply()
            conn.set_meta("same", [BASE])
            self.assert_status(conn.export_name("same"), True)

    def test_info_between_set_and_go_changes_nothing(self):
        for conn in self.negotiated():
            conn.set_meta("", [BASE])
            conn.info("other")
            conn.info("")
            self.assert_status(conn.go(), True)

    def test_structured_contexts_survive_extended_headers(self):
        with self.server.greet() as conn:
            conn.structured_reply()
            conn.set_meta("", [BASE])
            conn.extended_headers()
            self.assert_status(conn.go(), True)

    def test_payload_flag_follows_contexts(self):
        with self.server.greet() as conn:
            conn.extended_headers()
            client = conn.go()
            self.assertFalse(client.export.flags & BLOCK_STATUS_PAYLOAD)
            client.disconnect()
        with self.server.greet() as conn:
            conn.extended_headers()
            conn.set_meta("", [BASE])
            client = conn.go()
            self.assertTrue(client.export.flags & BLOCK_STATUS_PAYLOAD)
            client.disconnect()

    def test_lengths_that_lie(self):
        query = pack_string(BASE)
        bad = [b"", bytes(3), bytes(4), bytes(7),
               struct.pack(">II", 1, 0),
               struct.pack(">II", 0, 1),
               struct.pack(">II", 0, 2) + query,
               struct.pack(">II", 0, 0xffffffff) + query,
               struct.pack(">II", 0, 0) + b"x",
               struct.pack(">II", 0, 0) + query,
               struct.pack(">II", 0, 1) + query + b"x",
               struct.pack(">II", 0, 1) + query[:-1],
               struct.pack(">III", 0, 1, 0xffffffff) + b"base:",
               struct.pack(">III", 0, 1, 1 << 31) + b"base:",
               struct.pack(">II", 0xffffffff, 0),
               struct.pack(">II", 1 << 31, 0)]
        for option in (OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT):
            for data in bad:
                with self.subTest(option=option, data=data), \
                        self.server.greet() as conn:
                    conn.structured_reply()
                    self.assert_reply(conn.opt(option, data), ERR_INVALID,
                                      ERR_TOO_BIG)
                    self.assertEqual(len(conn.last), 1)
                    self.assert_status(conn.go(), False)

    def test_many_queries(self):
        for count in (10, 1000, 100000):
            data = meta_data("", ["x:%d" % n for n in range(count)] + [BASE])
            for option in (OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT):
                with self.subTest(count=count, option=option), \
                        self.server.greet() as conn:
                    conn.structured_reply()
                    try:
                        kind = conn.opt(option, data)
                        allowed = (REP_ACK,) if count == 10 else (
                            REP_ACK, ERR_TOO_BIG, ERR_INVALID)
                        self.assert_reply(kind, *allowed)
                        if kind == REP_ACK:
                            self.assertEqual(list(conn.parse_contexts()),
                                             [BASE])
                    except Closed:
                        self.assertGreater(count, 1000)


if __name__ == "__main__":
    unittest.main()
