#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""The handshake: greeting, every option with good and bad data, both old
styles, and names and lengths at their limits."""

import struct
import unittest

from constants import *
from nbdproto import Closed, info_data, meta_data, pack_string
from server import Server

SIZE = 16 << 20
ALL_INFOS = (INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE)


class HandshakeTest(unittest.TestCase):
    options = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server("memory", "16M", options=cls.options)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def tearDown(self):
        self.server.check_good()

    def assert_reply(self, kind, *allowed):
        self.assertIn(kind, allowed, "%#x not in %s" % (
            kind, [hex(one) for one in allowed]))


class Greeting(HandshakeTest):
    def test_greeting_offers_fixed_newstyle_and_no_zeroes(self):
        with self.server.connect() as conn:
            self.assertEqual(conn.read_greeting(),
                             FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES)

    def test_unknown_client_flags_drop_the_connection(self):
        for flags in (4, 0x80000003, 0xffffffff, 1 << 16):
            with self.subTest(flags=flags), self.server.connect() as conn:
                conn.greet(flags)
                conn.expect_eof()

    def test_wrong_option_magic_drops_the_connection(self):
        with self.server.greet() as conn:
            conn.send(struct.pack(">QII", IHAVEOPT + 1, OPT_LIST, 0))
            self.assertEqual(conn.drain(), b"")

    def test_fixed_newstyle_need_not_be_asked_for(self):
        # "Servers MAY choose to honour fixed newstyle from clients that
        # didn't set this bit": what is certain is EXPORT_NAME.
        for flags in (0, C_NO_ZEROES):
            with self.subTest(flags=flags), self.server.greet(flags) as conn:
                client = conn.export_name("", no_zeroes=bool(flags & 2))
                self.assertEqual(client.export.size, SIZE)
                client.read(0, 512)
                client.disconnect()

    def test_export_name_pads_unless_no_zeroes(self):
        for flags in (1, 3):
            with self.subTest(flags=flags), self.server.greet(flags) as conn:
                client = conn.export_name("any", no_zeroes=bool(flags & 2))
                self.assertEqual(client.export.size, SIZE)
                client.disconnect()

    def test_export_name_after_structured_reply(self):
        with self.server.greet() as conn:
            conn.structured_reply()
            client = conn.export_name()
            client.read(0, 512)
            client.disconnect()

    def test_export_name_after_extended_headers_disconnects(self):
        with self.server.greet() as conn:
            conn.extended_headers()
            conn.send_option(OPT_EXPORT_NAME)
            conn.expect_eof()

    def test_go_never_pads(self):
        for flags in (1, 3):
            with self.subTest(flags=flags), self.server.greet(flags) as conn:
                client = conn.go()
                client.read(0, 512)
                client.disconnect()


class NoZeroesMasked(HandshakeTest):
    options = ("--mask-handshake=1",)

    def test_unadvertised_no_zeroes_is_refused(self):
        with self.server.connect() as conn:
            self.assertEqual(conn.read_greeting(), FLAG_FIXED_NEWSTYLE)
            conn.send(struct.pack(">I", 3))
            conn.expect_eof()

    def tearDown(self):
        with self.server.greet(1) as conn:
            conn.go().disconnect()


class NonFixed(HandshakeTest):
    options = ("--mask-handshake=0",)

    def test_only_export_name_is_left(self):
        with self.server.connect() as conn:
            self.assertEqual(conn.read_greeting(), 0)
            conn.send(bytes(4))
            client = conn.export_name("", no_zeroes=False)
            client.read(0, 512)
            client.disconnect()

    def tearDown(self):
        pass


class OldStyle(unittest.TestCase):
    def read_oldstyle(self, conn):
        magic, second, size, flags = conn.unpack(">QQQI")
        self.assertEqual((magic, second), (NBDMAGIC, OLDSTYLE_MAGIC))
        self.assertEqual(conn.recv(124), bytes(124))
        self.assertEqual(flags >> 16, 0, "handshake flags in oldstyle")
        return size, flags

    def enter(self, conn):
        from nbdproto import Export
        size, flags = self.read_oldstyle(conn)
        export = Export(size, flags)
        conn.check_export(export)
        self.assertEqual(size, SIZE)
        return conn.enter(export, "")

    def test_oldstyle_serves_simple_replies(self):
        for spelling in ("-o", "--oldstyle", "--old-style"):
            with self.subTest(spelling), \
                    Server("memory", "16M", options=[spelling]) as server, \
                    server.connect() as conn:
                client = self.enter(conn)
                client.write(512, b"old" * 512)
                self.assertEqual(client.read(512, 1536), b"old" * 512)
                reply = client.call(CMD_BLOCK_STATUS, 0, 512)
                self.assertEqual(reply.error, EINVAL)
                client.disconnect()

    def test_oldstyle_read_only(self):
        with Server("memory", "16M", options=["-o", "-r"]) as server, \
                server.connect() as conn:
            client = self.enter(conn)
            self.assertTrue(client.export.flags & READ_ONLY)
            client.disconnect()


class Info(HandshakeTest):
    def test_info_replies_only_what_it_knows(self):
        with self.server.greet() as conn:
            export = conn.info("", ALL_INFOS)
            self.assertEqual(export.size, SIZE)
            self.assertIsNotNone(export.block_max)
            self.assertGreaterEqual(export.block_max, 1 << 20)
            self.assertLessEqual(export.block_max, MAX_PAYLOAD)
            if export.name is not None:
                self.assertIsInstance(export.name, str)

    def test_each_info_alone(self):
        for info in ALL_INFOS:
            with self.subTest(info=info), self.server.greet() as conn:
                self.assertEqual(conn.info("", (info,)).size, SIZE)
                client = conn.go("", (info,))
                self.assertEqual(client.export.size, SIZE)
                client.disconnect()

    def test_info_and_go_agree(self):
        for name in ("", "x", "ü" * 100):
            with self.subTest(name=name), self.server.greet() as conn:
                conn.structured_reply()
                conn.set_meta(name)
                before = conn.info(name, ALL_INFOS)
                client = conn.go(name, ALL_INFOS)
                self.assertEqual(client.export, before)
                client.disconnect()

    def test_unknown_infos_are_ignored(self):
        with self.server.greet() as conn:
            export = conn.info("", (4, 5, 0x7fff, 0xffff))
            self.assertEqual(export.size, SIZE)
            client = conn.go("", (9999, INFO_BLOCK_SIZE, 12345))
            self.assertIsNotNone(client.export.block_min)
            client.disconnect()

    def test_repeated_infos_are_answered_once_or_refused(self):
        with self.server.greet() as conn:
            kind = conn.opt(OPT_INFO, info_data("", (INFO_BLOCK_SIZE,) * 9))
            self.assert_reply(kind, REP_ACK, ERR_INVALID)
            if kind == REP_ACK:
                conn.parse_infos()

    def test_65535_infos(self):
        data = info_data("", [n & 0xffff for n in range(0xffff)])
        with self.server.greet() as conn:
            conn.send_option(OPT_INFO, data)
            try:
                kind = conn.option_replies(OPT_INFO)[-1][0]
                self.assert_reply(kind, REP_ACK, ERR_INVALID, ERR_TOO_BIG)
                conn.go().disconnect()
            except Closed:
                pass    # a denial of service may be answered by hanging up

    def test_inner_lengths_that_lie(self):
        bad = [b"", b"\0", bytes(3), bytes(4), bytes(5),
               struct.pack(">IH", 1, 0), struct.pack(">IH", 0, 1),
               struct.pack(">IH", 0, 0xffff), struct.pack(">IHH", 0, 0, 3),
               struct.pack(">IHHH", 0, 1, 3, 3),
               struct.pack(">IH", 0xffffffff, 0),
               struct.pack(">IH", 0x80000000, 0),
               struct.pack(">I", 4) + b"ab\0\0",
               pack_string("name") + b"\0"]
        for option in (OPT_INFO, OPT_GO):
            for data in bad:
                with self.subTest(option=option, data=data), \
                        self.server.greet() as conn:
                    self.assert_reply(conn.opt(option, data), ERR_INVALID,
                                      ERR_TOO_BIG)
                    self.assertEqual(len(conn.last), 1)
                    conn.go().disconnect()

    def test_names_that_are_no_strings(self):
        for name in (b"nul\0inside", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80"):
            with self.subTest(name=name), self.server.greet() as conn:
                kind = conn.opt(OPT_INFO, info_data(name))
                self.assert_reply(kind, ERR_INVALID, ERR_UNKNOWN)
                kind = conn.opt(OPT_GO, info_data(name))
                self.assert_reply(kind, ERR_INVALID, ERR_UNKNOWN)
                conn.go().disconnect()


class NameLengths(HandshakeTest):
    def test_longest_name(self):
        name = "n" * 4096
        with self.server.greet() as conn:
            self.assertEqual(conn.info(name).size, SIZE)
            conn.go(name).disconnect()
        with self.server.greet() as conn:
            conn.export_name(name).disconnect()

    def test_name_one_too_long(self):
        name = "n" * 4097
        for option in (OPT_INFO, OPT_GO):
            with self.subTest(option=option), self.server.greet() as conn:
                kind = conn.opt(option, info_data(name))
                self.assert_reply(kind, ERR_TOO_BIG, ERR_INVALID)
                conn.go().disconnect()
        with self.server.greet() as conn:
            conn.send_option(OPT_EXPORT_NAME, name.encode())
            conn.expect_eof()

    def test_context_names_at_their_limits(self):
        with self.server.greet() as conn:
            conn.structured_reply()
            good = "x-abc:" + "q" * 4090
            self.assertEqual(conn.set_meta("n" * 4096, [good]), {})
            for option in (OPT_SET_META_CONTEXT, OPT_LIST_META_CONTEXT):
                for data in (meta_data("n" * 4097, ()),
                             meta_data("", [good + "q"])):
                    self.assert_reply(conn.opt(option, data), ERR_TOO_BIG,
                                      ERR_INVALID)
            conn.go().disconnect()

    def test_enormous_option_lengths(self):
        """Only the header comes: nothing is allocated for what may follow,
        and the answer, if any, is an error or the end."""
        before = self.server.rss()
        for length in (1 << 31, (1 << 32) - 1, 256 << 20):
            for option in (*range(1, 12), 77):
                with self.subTest(option=option, length=length), \
                        self.server.greet() as conn:
                    conn.send_option(option, bytes(64), length=length)
                    conn.sock.shutdown(1)
                    try:
                        kind = conn.option_reply(option)[0]
                        self.assertTrue(kind & REP_ERR
                                        or option == OPT_ABORT, hex(kind))
                        conn.drain()
                    except Closed:
                        pass
        if not self.server.sanitized():
            self.assertLess(self.server.rss(), before + (16 << 20))

    def test_skipped_option_data_is_counted_exactly(self):
        """Unknown options with data up to the limit are skipped, and the
        next one is understood."""
        for length in (1, 4096, 4097, 8192):
            with self.subTest(length=length), self.server.greet() as conn:
                self.assert_reply(conn.opt(77, bytes(length)), ERR_UNSUP,
                                  ERR_TOO_BIG)
                conn.go().disconnect()


class SimpleOptions(HandshakeTest):
    def test_list_names_the_default_export(self):
        with self.server.greet() as conn:
            exports = conn.list()
            self.assertEqual([name for name, _ in exports], [""])
            conn.go().disconnect()

    def test_data_where_none_belongs(self):
        for option in (OPT_LIST, OPT_STARTTLS, OPT_STRUCTURED_REPLY,
                       OPT_EXTENDED_HEADERS):
            for length in (1, 4, 4096):
                with self.subTest(option=option, length=length), \
                        self.server.greet() as conn:
                    self.assert_reply(conn.opt(option, bytes(length)),
                                      ERR_INVALID)
                    client = conn.go()
                    client.read(0, 512)     # simple: nothing was negotiated
                    client.disconnect()

    def test_abort(self):
        for data in (b"", b"ignored"):
            with self.subTest(data=data), self.server.greet() as conn:
                self.assert_reply(conn.opt(OPT_ABORT, data), REP_ACK)
                conn.expect_eof()

    def test_starttls_is_refused_by_policy(self):
        with self.server.greet() as conn:
            self.assert_reply(conn.opt(OPT_STARTTLS), ERR_POLICY)
            conn.structured_reply()
            self.assert_reply(conn.opt(OPT_STARTTLS), ERR_POLICY)
            client = conn.go()
            client.read(0, 512)             # structured replies have stayed
            client.disconnect()

    def test_unknown_options(self):
        for option in (0, OPT_PEEK_EXPORT, 12, 13, 255, 1 << 16, 1 << 31,
                       (1 << 32) - 1):
            for data in (b"", b"xyz"):
                with self.subTest(option=option, data=data), \
                        self.server.greet() as conn:
                    self.assert_reply(conn.opt(option, data), ERR_UNSUP)
                    conn.go().disconnect()

    def test_structured_after_extended(self):
        with self.server.greet() as conn:
            conn.extended_headers()
            self.assert_reply(conn.opt(OPT_STRUCTURED_REPLY),
                              ERR_EXT_HEADER_REQD)
            client = conn.go()
            client.read(0, 512)             # extended replies have stayed
            client.disconnect()

    def test_extended_after_structured(self):
        with self.server.greet() as conn:
            conn.structured_reply()
            conn.extended_headers()
            client = conn.go()
            client.read(0, 512)
            client.disconnect()

    def test_repeated_negotiation_keeps_what_was_agreed(self):
        for option in (OPT_STRUCTURED_REPLY, OPT_EXTENDED_HEADERS):
            with self.subTest(option=option), self.server.greet() as conn:
                self.assert_reply(conn.opt(option), REP_ACK)
                self.assert_reply(conn.opt(option), REP_ACK, ERR_INVALID)
                conn.structured = option == OPT_STRUCTURED_REPLY
                conn.extended = option == OPT_EXTENDED_HEADERS
                client = conn.go()
                client.read(0, 512)
                client.disconnect()

    def test_options_one_byte_at_a_time(self):
        with self.server.greet() as conn:
            data = struct.pack(">QII", IHAVEOPT, OPT_STRUCTURED_REPLY, 0)
            for byte in data:
                conn.send(bytes([byte]))
            self.assertEqual(conn.option_replies(8), [(REP_ACK, b"")])
            conn.structured = True
            client = conn.go()
            client.read(0, 512)
            client.disconnect()

    def test_pipelined_options_are_answered_in_order(self):
        with self.server.greet() as conn:
            conn.send_option(OPT_STRUCTURED_REPLY)
            conn.send_option(OPT_LIST)
            conn.send_option(99)
            conn.send_option(OPT_GO, info_data(""))
            self.assertEqual(conn.option_replies(8), [(REP_ACK, b"")])
            self.assertEqual(conn.option_replies(3)[-1][0], REP_ACK)
            self.assertEqual(conn.option_replies(99)[0][0], ERR_UNSUP)
            conn.structured = True
            conn.last = conn.option_replies(7)
            client = conn.enter(conn.parse_infos(), "")
            client.read(0, 512)
            client.disconnect()

    def test_an_option_behind_go_ends_the_connection(self):
        with self.server.greet() as conn:
            conn.go()
            conn.send_option(OPT_LIST, bytes(16))   # a request's 32 bytes
            self.assertEqual(conn.drain(), b"")


class WithoutStructured(HandshakeTest):
    options = ("--no-sr",)

    def test_structured_reply_is_unknown(self):
        with self.server.greet() as conn:
            self.assert_reply(conn.opt(OPT_STRUCTURED_REPLY), ERR_UNSUP)
            client = conn.go()
            client.read(0, 512)
            client.disconnect()

    def tearDown(self):
        with self.server.greet() as conn:
            conn.go().disconnect()


if __name__ == "__main__":
    unittest.main()
