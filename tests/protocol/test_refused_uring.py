#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""The file plugin where io_uring is refused, as it is in many containers:
clients get byte for byte the same answers as where it is not."""

import errno
import os
import shlex
import shutil
import subprocess
import unittest
from unittest import mock

from constants import *
from server import Server, program, temporary_directory
from test_transmission import STYLES

HERE = os.path.dirname(os.path.abspath(__file__))
KIB, MIB = 1 << 10, 1 << 20
SIZE = 32 * MIB


def rings(server):
    """How many io_urings the server has."""
    found, folder = 0, "/proc/%d/fd" % server.pid
    for fd in os.listdir(folder):
        try:
            found += "io_uring" in os.readlink(os.path.join(folder, fd))
        except FileNotFoundError:
            pass
    return found


def describe(reply):
    return (reply.command, reply.flags, reply.offset, reply.length,
            reply.error, reply.error_at, reply.text, reply.extents,
            reply.data if reply.command == CMD_READ and not reply.error
            else None)


class Answers:
    """To all commands, one after the other and many at once."""

    def __init__(self, server, how):
        self.list = []
        with server.client(**how) as client:
            self.list.append(client.export)
            self.one_by_one(client)
            self.at_once(client)
            client.disconnect()

    def call(self, client, *arguments, **more):
        self.list.append(describe(client.call(*arguments, **more)))

    def one_by_one(self, client):
        pattern = bytes(range(256)) * (3 * MIB // 256)
        for flags in (0, FUA):
            self.call(client, CMD_WRITE, 4096, payload=pattern[:4096],
                      flags=flags)
            self.call(client, CMD_WRITE, 8 * MIB, payload=pattern, flags=flags)
            self.call(client, CMD_WRITE_ZEROES, 9 * MIB, 64 * KIB, flags)
            self.call(client, CMD_WRITE_ZEROES, 10 * MIB, 64 * KIB,
                      flags | NO_HOLE)
            self.call(client, CMD_TRIM, 8 * MIB, 128 * KIB, flags)
        if client.export.block_min == 1:
            self.call(client, CMD_WRITE, 12345, payload=pattern[:54321])
            self.call(client, CMD_READ, 12333, 77777)
        self.call(client, CMD_FLUSH)
        self.call(client, CMD_READ, 4096, 4096)
        self.call(client, CMD_READ, 7 * MIB, 5 * MIB)
        if client.export.flags & SEND_CACHE:
            self.call(client, CMD_CACHE, 0, MIB)
        self.call(client, CMD_READ, SIZE - 4096, 8192)
        self.call(client, CMD_WRITE, SIZE, payload=pattern[:4096])
        if client.contexts:
            self.call(client, CMD_BLOCK_STATUS, 0, SIZE)
            self.call(client, CMD_BLOCK_STATUS, 8 * MIB, 4 * MIB,
                      flags=REQ_ONE)

    def at_once(self, client):
        """More than a ring holds, each answered in its own time."""
        cookies, data = [], []
        for n in range(600):
            cookie, message = client.submit(
                CMD_WRITE, (4096 + n) * 4096, payload=b"%04d" % n * 1024,
                send=False)
            cookies.append(cookie)
            data.append(message)
        client.pump(b"".join(data))
        self.collect(client, cookies)
        cookies = [client.submit(CMD_READ, (4096 + n) * 4096, 4096)[0]
                   for n in range(600)]
        self.collect(client, cookies)

    def collect(self, client, cookies):
        replies = client.receive_all()
        self.list += [describe(replies[cookie]) for cookie in cookies]


class RefusedUring(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if not compiler:
            raise unittest.SkipTest("no C compiler")
        cls.directory = cls.enterClassContext(temporary_directory())
        cls.launcher = os.path.join(cls.directory, "refuse_uring")
        subprocess.run([compiler, "-std=gnu11", "-Wall", "-Werror", "-o",
                        cls.launcher, os.path.join(HERE, "..", "fault",
                                                   "refuse_uring.c")],
                       check=True)
        tried = subprocess.run([cls.launcher, "1", "true"], check=False,
                               capture_output=True, text=True)
        if tried.returncode == 77:
            raise unittest.SkipTest(tried.stderr.strip())

    def refused(self, number):
        """The program under test is run by the launcher."""
        return mock.patch.dict(os.environ, {
            "ABDKIT": self.launcher,
            "ABDKIT_ARGS": shlex.join([str(number), *program()])})

    def answers(self, how, direct):
        """(what a client was answered, the file, rings)"""
        path = os.path.join(self.directory, "image")
        with open(path, "wb") as file:
            file.truncate(SIZE)
        with Server("file", "file=" + path, "direct=" + direct) as server:
            found = Answers(server, how).list
            count = rings(server)
        with open(path, "rb") as file:
            return found, file.read(), count

    def check(self, direct):
        for style, how in STYLES.items():
            expected, content, count = self.answers(how, direct)
            if count == 0:
                self.skipTest("no io_uring here, so all was tested without")
            for number in (errno.EPERM, errno.ENOSYS):
                with self.subTest(style=style, error=errno.errorcode[number]):
                    with self.refused(number):
                        found, left, count = self.answers(how, direct)
                    self.assertEqual(count, 0)
                    self.assertEqual(len(found), len(expected))
                    for ours, theirs in zip(found, expected):
                        self.assertEqual(ours, theirs)
                    self.assertTrue(left == content, "the files differ")

    def test_through_the_page_cache(self):
        self.check("false")

    def test_direct(self):
        path = os.path.join(self.directory, "direct")
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT))
        except OSError as error:
            self.skipTest("no O_DIRECT here: %s" % error)
        self.check("true")


if __name__ == "__main__":
    unittest.main()
