#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""What once was wrong in the server, and only a hostile client, an unlucky
plugin or a chain of filters could see.  The plugin keeps requests until the
test lets them go (class Gate), so that nothing here depends on a clock."""

import fcntl
import os
import select
import socket
import struct
import subprocess
import termios
import time
import unittest

from constants import *
from nbdproto import info_data
from server import (Server, build_filter, build_plugin, clean_environment,
                    program, temporary_directory, wait_until)

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PATIENCE = 10   # seconds, for what takes milliseconds


class Gate:
    """The test's end of the plugin's gate."""

    def __init__(self):
        self.ours, self.plugins = socket.socketpair()
        self.ours.settimeout(PATIENCE)

    def kept(self, count=1):
        """Waits until the plugin has kept count more."""
        while count:
            count -= len(self.ours.recv(count))

    def kept_all(self):
        """Waits until the plugin is given no more."""
        while select.select([self.ours], [], [], 0.3)[0]:
            self.ours.recv(4096)

    def let_go(self, count=1):
        self.ours.sendall(b"." * count)

    def close(self):
        self.ours.close()
        self.plugins.close()

    def open(self):
        self.ours.sendall(b"o")


def waiting(file):
    """Bytes that can be read."""
    return struct.unpack("i", fcntl.ioctl(file, termios.FIONREAD, bytes(4)))[0]


def wait_taken(client, timeout=PATIENCE):
    """Waits until the server has received all that was sent to it."""
    wait_until(lambda: fcntl.ioctl(client.sock, termios.TIOCOUTQ, bytes(4))
               == bytes(4), timeout, "the server takes it")


def wait_stuck(file):
    """Waits until no more comes, because the reader does not read."""
    last = [0, time.monotonic()]

    def is_stuck():
        now = waiting(file)
        if now != last[0]:
            last[:] = now, time.monotonic()
        return now and time.monotonic() - last[1] > 0.2
    wait_until(is_stuck, PATIENCE, "a full socket")


class ReviewCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = cls.enterClassContext(temporary_directory())
        cls.plugin = build_plugin("review", cls.directory)

    def serve(self, *parameters, options=(), filters=(), loops=1):
        """Ended, at the latest, when the test ends."""
        self.gate = Gate()
        self.addCleanup(self.gate.close)
        os.set_inheritable(self.gate.plugins.fileno(), True)
        fd = self.gate.plugins.fileno()
        server = Server(self.plugin, "gate=%d" % fd, *parameters, options=[
            "--loops=%d" % loops, *options,
            *["--filter=" + name for name in filters]], pass_fds=[fd])
        self.addCleanup(server.kill)
        return server

    def filter(self, **macros):
        return build_filter("review", self.directory, **macros)

    def client(self, server, name="fast", **style):
        client = server.client(name=name, **style)
        client.sock.settimeout(PATIENCE)
        self.addCleanup(client.close)
        return client

    @staticmethod
    def submit(client, command, count, length=0, **more):
        client.send(b"".join(client.submit(
            command, 0, length, send=False, **more)[1] for _ in range(count)))


class Memory(ReviewCase):
    def test_loop_cannot_take_all_requests(self):
        """What one loop once used for requests others can use later."""
        server = self.serve("lends=1", options=["--memory=4M"], loops=2)
        greedy = self.client(server, "slow")
        others = [self.client(server, "fast%d" % n) for n in range(5)]
        self.submit(greedy, CMD_FLUSH, 4000)
        self.gate.kept_all()
        self.gate.open()
        greedy.receive_all()
        for other in others:
            self.assertEqual(other.read(0, 4096), b"U" * 4096)
        server.stop()

    def test_whole_read_over_odd_max_transfer(self):
        """More parts than there may be buffers in one take."""
        server = self.serve("transfer=516K", options=["--memory=512M"])
        client = self.client(server)
        length = client.export.block_max
        self.assertEqual(client.read(0, length), b"U" * length)
        server.stop()

    def test_maximum_over_many_children(self):
        """All that is advertised can be had, though each part of it may
        need 17 requests; and it does not stop others."""
        server = self.serve("transfer=4096", options=["--memory=16M"],
                            filters=[self.filter(CHILDREN=16)])
        large, small = self.client(server), self.client(server)
        small.read(0, 4096)
        length = min(large.export.block_max, 64 * MIB)
        self.assertEqual(large.read(0, length), b"U" * length)
        self.submit(small, CMD_READ, 300, 4096)
        for reply in small.receive_all().values():
            self.assertEqual(reply.error, 0)
        server.stop()

    def test_long_lent_read_goes_on(self):
        """Short of requests, it waits for parts that are being sent."""
        server = self.serve("lends=1", "transfer=1M",
                            options=["--memory=4M"])
        first = self.client(server, extended=True)
        second = self.client(server, "fast2", extended=True)
        length = 4 * GIB        # 4096 parts
        self.submit(first, CMD_READ, 1, length)
        wait_stuck(first.sock)
        self.submit(second, CMD_READ, 1, 4096)
        wait_taken(second)
        self.receive_and_forget(first)
        self.assertEqual(second.receive()[1].data, b"U" * 4096)
        server.stop()

    def receive_and_forget(self, client):
        """The answer to a READ, of which only the bounds are remembered."""
        done = False
        while not done:
            cookie, reply = client.receive_message()
            if reply.pieces:
                reply.pieces[-1] = (*reply.pieces[-1][:2], None)
            done = reply.done
        del client.pending[cookie]
        self.assertEqual(reply.error, 0)

    def test_no_memory_for_the_rest(self):
        """The first part of a READ is lent, its rest can get no memory: one
        answer, with or without an error, and the connection goes on."""
        server = self.serve("lends=1", "transfer=32M", "lend_min=32M",
                            "requests=1", options=["--memory=40M"])
        client = self.client(server, "slow", structured=True)
        self.submit(client, CMD_READ, 1, 63 * MIB)
        self.gate.kept()
        others = [self.client(server, extended=True) for _ in range(13)]
        for other in others:
            self.submit(other, CMD_READ, 1, 128 * GIB)
        for other in others[:1]:
            wait_stuck(other.sock)
        self.gate.open()
        wait_stuck(client.sock)
        for other in others:
            other.close()
        self.assertIn(client.receive()[1].error, (0, ENOMEM))
        self.assertEqual(client.read(0, 512), b"U" * 512)
        server.stop()

    def test_header_without_a_buffer(self):
        """A header that came while there was no buffer is not lost."""
        server = self.serve("lends=1", "requests=1", options=["--memory=80M"])
        client = self.client(server)
        self.submit(client, CMD_READ, 1000, 64 * KIB)
        for _ in range(20):
            self.submit(self.client(server, "slow"), CMD_FLUSH, 40)
        self.gate.kept()
        wait_stuck(client.sock)
        for _ in range(100):
            self.submit(client, CMD_READ, 1, 64 * KIB)
            try:
                wait_taken(client, 0.02)
            except TimeoutError:
                pass    # it does not listen before we read
        for reply in client.receive_all().values():
            self.assertEqual(reply.error, 0)
        self.gate.open()
        server.stop()

    def test_refused_names_leave_nothing(self):
        """A filter that refuses before it opens what is below."""
        server = self.serve(filters=[self.filter(REFUSE=1)])

        def ask(first, count):
            with server.greet() as handshake:
                for n in range(first, first + count):
                    self.assertEqual(
                        handshake.opt(OPT_INFO, info_data(
                            "%d" % n + "x" * 3000)), ERR_UNKNOWN)
        ask(0, 500)
        before = server.rss()
        for first in range(500, 3500, 500):
            ask(first, 500)
        if not server.sanitized():
            self.assertLess(server.rss() - before, 2 * MIB)
        server.stop()


class Loans(ReviewCase):
    def test_through_two_filters(self):
        name = self.filter()
        server = self.serve("lends=1", filters=[name, name])
        client = self.client(server)
        for _ in range(1000):
            self.assertEqual(client.read(0, 4096), b"U" * 4096)
        server.stop()

    def test_kept_by_background_children(self):
        """A child has ended though what it lent is not sent yet."""
        server = self.serve("lends=1", filters=[self.filter(
            CHILDREN=0, BACKGROUND=2)])
        client = self.client(server)
        for _ in range(40):
            self.submit(client, CMD_READ, 1, MIB)
            wait_taken(client)
        for reply in client.receive_all().values():
            self.assertEqual(reply.data, b"U" * MIB)
        server.stop()

    def test_hole_above_4_gib(self):
        """A hole chunk's length has 32 bits."""
        server = self.serve("lends=1", "holes=1", "transfer=64G")
        client = self.client(server, extended=True)
        length = 4 * GIB + 8192
        reply = client.call(CMD_READ, 0, length)
        self.assertEqual(sum(piece[1] for piece in reply.pieces), length)
        server.stop()


class Turns(ReviewCase):
    def test_room_is_passed_on(self):
        """Room in a disk, given to who must wait for something else."""
        for before in (2, 3, 4, 5):
            with self.subTest(before=before):
                server = self.serve("requests=1")
                deaf = self.client(server, "slow")
                other = self.client(server, "slow")
                self.submit(deaf, CMD_READ, 100, MIB)
                for _ in range(before):
                    self.gate.kept()
                    self.gate.let_go()
                self.gate.kept()
                self.submit(other, CMD_READ, 1, 512)
                wait_taken(other)
                self.gate.let_go()
                self.let_go_until_answered(other)
                self.assertEqual(other.receive()[1].data, b"U" * 512)
                self.gate.open()
                deaf.close()
                server.stop()

    def let_go_until_answered(self, client):
        """Each that comes is let go, until the answer is there."""
        while True:
            ready = select.select([client.sock, self.gate.ours], [], [],
                                  PATIENCE)[0]
            self.assertTrue(ready, "neither a request nor an answer")
            if client.sock in ready:
                return
            self.gate.kept()
            self.gate.let_go()

    def test_reopened_disk_starts_afresh(self):
        """Asked for while it is closed, for being idle, it is opened again
        without what the first open() had said."""
        server = self.serve()
        with server.greet() as handshake:
            old = handshake.info("again", (INFO_NAME,))
        self.assertEqual(old.name, "only the first time")
        self.assertFalse(old.flags & READ_ONLY)
        for n in range(70):
            with server.greet() as handshake:
                handshake.info("other%d" % n)
        self.gate.kept()    # its close()
        with server.greet() as handshake:
            handshake.send_option(OPT_INFO, info_data("again", (INFO_NAME,)))
            wait_taken(handshake)
            self.gate.open()
            handshake.last = handshake.option_replies(OPT_INFO)
            new = handshake.parse_infos()
        self.assertEqual(new.name or "again", "again")
        self.assertTrue(new.flags & READ_ONLY)
        server.stop()

    def test_disconnect_while_the_client_moves(self):
        """A filter of each client hangs up while the client goes to the loop
        of the disk that is shared below."""
        server = self.serve(filters=[self.filter(HANGS_UP=1)], loops=2)
        for _ in range(600):
            with server.greet() as handshake:
                handshake.send_option(OPT_GO, info_data("fast"))
                handshake.drain()
        server.stop()


class Pipes(unittest.TestCase):
    """-s between two pipes."""

    def start(self, *arguments):
        process = subprocess.Popen(
            program() + ["-s", *arguments], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, bufsize=0, env=clean_environment())
        self.addCleanup(process.kill)
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.stdout.close)
        self.read(process, 18)
        process.stdin.write(struct.pack(">I", 3))
        process.stdin.write(struct.pack(">QII", IHAVEOPT, OPT_EXPORT_NAME, 0))
        self.read(process, 10)
        return process

    @staticmethod
    def read(process, count):
        data = b""
        while len(data) < count:
            part = process.stdout.read(count - len(data))
            if not part:
                raise AssertionError("%r and then the end" % data)
            data += part
        return data

    @staticmethod
    def request(command, cookie, length=0):
        return struct.pack(">IHHQQI", REQUEST_MAGIC, 0, command, cookie, 0,
                           length)

    def test_half_closed(self):
        """The end of the commands is not the end of the answers."""
        process = self.start("--filter=delay", "memory", "16M",
                             "rdelay=100ms")
        process.stdin.write(self.request(CMD_READ, 7, 512))
        process.stdin.close()
        self.assertEqual(self.read(process, 16 + 512), struct.pack(
            ">IIQ", SIMPLE_REPLY_MAGIC, 0, 7) + bytes(512))
        self.assertEqual(process.stdout.read(1), b"")
        self.assertEqual(process.wait(PATIENCE), 0)

    def test_reader_goes_away(self):
        """Nobody reads a full pipe any more: that is the end."""
        for rest in (b"", self.request(CMD_DISC, 8)):
            with self.subTest(disconnects=bool(rest)):
                process = self.start("memory", "16M")
                process.stdin.write(self.request(CMD_READ, 7, 8 * MIB) + rest)
                wait_stuck(process.stdout)
                process.stdout.close()
                process.wait(PATIENCE)


if __name__ == "__main__":
    unittest.main()
