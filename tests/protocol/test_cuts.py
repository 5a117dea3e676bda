#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Connections that end in the wrong place: all a client sends, cut at every
byte; all it should read, left off at every byte; by FIN and by RST.  A client
that behaves is served all the while, nothing is left open, and what was not
yet complete is not executed."""

import os
import struct
import unittest

from constants import *
from nbdproto import Closed, info_data, meta_data
from server import Server, TcpServer, temporary_directory, wait_until
from test_transmission import STYLES


def option(number, data=b""):
    return struct.pack(">QII", IHAVEOPT, number, len(data)) + data


def request(extended, command, offset=0, length=0, flags=0, payload=b""):
    if payload:
        length = len(payload)
        flags |= PAYLOAD_LEN if extended else 0
    return struct.pack(
        ">IHHQQQ" if extended else ">IHHQQI",
        EXT_REQUEST_MAGIC if extended else REQUEST_MAGIC, flags, command,
        0xc0041e00 + command, offset, length) + payload


def conversation(style):
    """(handshake, requests): all bytes of a whole, legal client."""
    extended = style == "extended"
    shake = struct.pack(">I", 3) + option(OPT_LIST)
    if style == "structured":
        shake += option(OPT_STRUCTURED_REPLY)
    if extended:
        shake += option(OPT_EXTENDED_HEADERS)
    if style != "simple":
        shake += option(OPT_SET_META_CONTEXT,
                        meta_data("name", ["base:allocation"]))
    shake += option(OPT_GO, info_data("name", (0, 1, 2, 3)))
    work = [request(extended, CMD_READ, 4096, 300),
            request(extended, CMD_WRITE, 8192, payload=b"w" * 40),
            request(extended, CMD_FLUSH),
            request(extended, CMD_TRIM, 0, 4096),
            request(extended, CMD_WRITE_ZEROES, 0, 4096),
            request(extended, CMD_BLOCK_STATUS, 0, 65536)]
    if extended:
        work.append(request(True, CMD_READ, 0, payload=b"unwanted"))
    work.append(request(extended, CMD_DISC))
    return shake, b"".join(work)


class Cuts(unittest.TestCase):
    def setUp(self):
        self.server = self.start()
        self.addCleanup(self.server.kill)
        self.good = self.server.client(structured=True)
        self.addCleanup(self.good.close)
        self.count = 0
        # Everything that the first connections set up is there.
        self.server.check_good()
        self.good.read(0, 512)
        self.idle_fds = self.server.fds()

    def tearDown(self):
        self.good.read(0, 4096)
        wait_until(lambda: self.server.fds() <= self.idle_fds,
                   what="descriptors given back")
        self.good.disconnect()
        self.server.check_good()
        self.server.stop()

    def start(self):
        return Server("memory", "1M")

    def served(self):
        """Every now and then the good client asks for something."""
        self.count += 1
        if self.count % 32 == 0:
            self.good.read(self.count * 512 % (1 << 19), 512)

    def reply_length(self, style):
        shake, work = conversation(style)
        with self.server.connect() as conn:
            conn.send(shake + work)
            return len(conn.drain())


class SendingCuts(Cuts):
    def cut_everywhere(self, leave):
        for style in STYLES:
            whole = b"".join(conversation(style))
            for position in range(len(whole) + 1):
                with self.server.connect() as conn:
                    conn.send(whole[:position])
                    leave(conn)
                self.served()

    def test_close(self):
        self.cut_everywhere(lambda conn: conn.close())

    def test_half_close(self):
        """The server must end the connection itself, after all replies."""
        def leave(conn):
            conn.sock.shutdown(1)
            conn.drain()
        self.cut_everywhere(leave)

    def test_close_after_reading_the_greeting(self):
        def leave(conn):
            try:
                conn.read_greeting()
            except Closed:
                pass
            conn.close()
        self.cut_everywhere(leave)


class ReplyCuts(Cuts):
    def test_close_after_reading_some(self):
        for style in STYLES:
            whole = b"".join(conversation(style))
            for position in range(self.reply_length(style) + 1):
                with self.server.connect() as conn:
                    conn.send(whole)
                    try:
                        conn.recv(position)
                    except Closed as error:
                        self.fail("reply ended at %d: %s" % (position, error))
                self.served()

    def test_cut_between_handshake_and_requests(self):
        """As above, but the requests follow a finished handshake."""
        for style, how in STYLES.items():
            work = conversation(style)[1]
            with self.server.client(**how) as client:
                client.send(work)
                length = len(client.drain())
            for position in range(length + 1):
                with self.server.client(**how) as client:
                    client.send(work)
                    client.recv(position)
                self.served()


class TcpCuts(Cuts):
    def start(self):
        return TcpServer("memory", "1M")

    def test_reset_after_sending_some(self):
        for style in STYLES:
            whole = b"".join(conversation(style))
            for position in range(0, len(whole) + 1, 3):
                with self.server.connect() as conn:
                    conn.send(whole[:position])
                    conn.reset()
                self.served()

    def test_reset_after_reading_some(self):
        for style in STYLES:
            whole = b"".join(conversation(style))
            for position in range(0, self.reply_length(style) + 1, 5):
                with self.server.connect() as conn:
                    conn.send(whole)
                    conn.recv(position)
                    conn.reset()
                self.served()


class PartialWrites(unittest.TestCase):
    def test_a_cut_write_is_not_half_executed_when_small(self):
        """A write whose payload never came whole is not answered; what it
        covers is the old or the new byte, never something else."""
        with Server("memory", "8M") as server:
            with server.client() as client:
                client.write(0, b"o" * (4 << 20))
                client.disconnect()
            for sent in (0, 1, 511, 4096, 65536, (4 << 20) - 1):
                with server.client() as client:
                    client.send(client.encode(CMD_WRITE, 0, 4 << 20)
                                + b"n" * sent)
                    client.sock.shutdown(1)
                    self.assertEqual(client.drain(), b"")
                with server.client() as client:
                    data = client.read(0, 4 << 20)
                    self.assertLessEqual(set(data), set(b"on"))
                    self.assertEqual(set(data[sent:]), set(b"o"))
                    client.write(0, b"o" * (4 << 20))
                    client.disconnect()


class NothingIsOpened(unittest.TestCase):
    """A port scan opens no disk: seen by the file plugin's descriptor."""

    def opened(self, server, image):
        links = []
        for fd in os.listdir("/proc/%d/fd" % server.pid):
            try:
                links.append(os.readlink("/proc/%d/fd/%s" % (server.pid, fd)))
            except FileNotFoundError:
                pass
        return image in links

    def test_only_a_choice_opens(self):
        with temporary_directory() as path:
            image = os.path.join(os.path.realpath(path), "image")
            with open(image, "wb") as file:
                file.truncate(1 << 20)
            with Server("file", "file=" + image) as server:
                self.scan(server, image)

    def scan(self, server, image):
        shake = struct.pack(">I", 3) + option(OPT_LIST) \
            + option(OPT_STRUCTURED_REPLY) + option(OPT_STARTTLS) + option(99)
        half = option(OPT_GO, info_data("name", (3,)))[:-1]
        waiting = []
        for position in range(0, len(shake + half) + 1):
            conn = server.connect()
            waiting.append(conn)
            conn.send((shake + half)[:position])
            if position % 2:
                waiting.pop().close()
            else:
                conn.read_greeting()
            self.assertFalse(self.opened(server, image))
        with server.greet() as conn:
            conn.opt(OPT_ABORT)
            conn.expect_eof()
        with server.connect() as conn:
            conn.send(b"GET / HTTP/1.1\r\nHost: nowhere\r\n\r\n")
            conn.drain()
        self.assertFalse(self.opened(server, image))
        with server.greet() as conn:
            conn.info()
        with server.client() as client:
            client.read(0, 512)
            self.assertTrue(self.opened(server, image))
            client.disconnect()
        for conn in waiting:
            conn.close()


if __name__ == "__main__":
    unittest.main()
