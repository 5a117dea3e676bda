#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""A file that loses its end while a range of it is on the way to a client.

The client asks for far more than sockets hold and does not read, so whatever
the server has done when the file is cut, most of the range has not left.  With
chunks the rest comes as zeroes and an error that names the place; a simple
reply has promised data, so the server must disconnect, without a byte that is
not the file's.  Others are served all the time."""

import os
import select
import subprocess
import tempfile
import unittest

from constants import *
from nbdproto import Handshake, TIMEOUT
from server import Server, program
from test_transmission import STYLES

MIB = 1 << 20
SIZE, AT, LENGTH = 48 * MIB, 3 * MIB, 32 * MIB
IN_SOCKETS = 8 * MIB        # far more than they hold
LEFT = AT + 5 * MIB + 100   # a cut in the range, behind what sockets hold


class Pipes:
    """As much of a socket as a client needs, made of two pipes."""
    family = None

    def __init__(self, process):
        self.process = process

    def settimeout(self, timeout):
        self.timeout = timeout

    def gettimeout(self):
        return self.timeout

    def sendall(self, data):
        self.process.stdin.write(data)

    def recv(self, count):
        out = self.process.stdout
        if not select.select([out], [], [], self.timeout)[0]:
            raise TimeoutError("nothing on the pipe")
        return os.read(out.fileno(), count)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()


def wait_begun(client):
    """Until the server has begun to send, without taking anything."""
    sock = client.sock
    poll = select.poll()
    poll.register(sock.process.stdout if isinstance(sock, Pipes) else sock,
                  select.POLLIN)
    if not poll.poll(TIMEOUT * 1000):
        raise TimeoutError("no reply has begun")


def handshake(client, how):
    shaken = Handshake(client, TIMEOUT).greet()
    if "extended" in how:
        shaken.extended_headers()
    elif how:
        shaken.structured_reply()
    return shaken.go()


class Shrinking(unittest.TestCase):
    def image(self, folder=None):
        directory = self.enterContext(tempfile.TemporaryDirectory(
            prefix="abdtest-", dir=folder))
        self.path = os.path.join(directory, "image")
        self.fill()
        return "file=" + self.path

    def fill(self):
        with open(self.path, "wb") as file:
            for _ in range(SIZE // MIB):
                file.write(b"f" * MIB)

    def check_simple(self, client, cut):
        head = client.drain_or_reply(16)
        self.assertEqual(head[:8], bytes.fromhex("67446698") + bytes(4))
        data = client.drain_or_reply(LENGTH)
        self.assertLess(len(data), max(cut - AT, 0) + IN_SOCKETS)
        self.assertEqual(data, b"f" * len(data))
        client.expect_eof()

    def check_chunks(self, client, cut):
        _, reply = client.receive()
        self.assertEqual(reply.error, EIO, reply.text)
        self.assertGreaterEqual(reply.error_at, max(cut, AT))
        lost = 0                # what was gone and came nevertheless
        for offset, length, data in reply.pieces:
            # Each is the file's up to some place, then zeroes.
            data = bytes(length) if data is None else data
            kept = data.rstrip(b"\0")
            self.assertEqual(kept, b"f" * len(kept))
            lost += max(offset + len(kept) - max(offset, cut), 0)
            if offset <= reply.error_at < offset + length:
                self.assertEqual(offset + len(kept), reply.error_at)
            elif offset + length <= cut:
                self.assertEqual(len(kept), length)
        self.assertLess(lost, IN_SOCKETS)
        # The connection has stayed in step.
        self.assertEqual(client.call(CMD_FLUSH).error, 0)
        self.assertEqual(client.call(CMD_READ, SIZE - 512, 512).error, EIO)
        client.disconnect()

    def check(self, client, style, cut):
        client.submit(CMD_READ, AT, LENGTH)
        wait_begun(client)
        os.truncate(self.path, cut)
        yield
        if style == "simple":
            self.check_simple(client, cut)
        else:
            self.check_chunks(client, cut)
        yield

    def play(self, image, *options):
        with Server("file", image, options=options) as server:
            for style, how in STYLES.items():
                for cut in (4096, AT, LEFT):
                    with self.subTest(style=style, cut=cut):
                        self.fill()
                        other = server.client(structured=True)
                        with server.client(**how) as client:
                            steps = self.check(client, style, cut)
                            next(steps)
                            self.assertEqual(other.read(0, 4096), b"f" * 4096)
                            next(steps)
                        self.assertEqual(other.read(0, 4096), b"f" * 4096)
                        other.disconnect()
            self.fill()
            with server.client() as client:
                self.assertEqual(client.read(AT, MIB), b"f" * MIB)
                client.disconnect()

    def test_on_a_disk(self):
        self.play(self.image())

    def test_one_loop(self):
        """Where the one that can't go on shares its thread with all."""
        self.play(self.image(), "--loops=1")

    def test_in_memory(self):
        if not os.path.isdir("/dev/shm"):
            self.skipTest("there is no /dev/shm")
        self.play(self.image("/dev/shm"))

    def test_into_a_pipe(self):
        """There is no sendfile() to it."""
        image = self.image()
        for style, how in STYLES.items():
            with self.subTest(style=style):
                self.fill()
                process = subprocess.Popen(
                    program() + ["-s", "file", image], stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, bufsize=0)
                try:
                    with handshake(Pipes(process), how) as client:
                        steps = self.check(client, style, LEFT)
                        next(steps)
                        next(steps)
                    self.assertEqual(process.wait(TIMEOUT), 0)
                finally:
                    process.kill()
                    process.wait()


if __name__ == "__main__":
    unittest.main()
