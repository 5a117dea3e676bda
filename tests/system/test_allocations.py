#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""The n-th allocation of the running server fails, for each n until there is
no n-th any more: alone, or with all behind it.

Whatever fails, every command is answered with success, ENOMEM or ENOSPC (when
the memory plugin can't store more), or its one connection is closed; another
client that is there meanwhile goes on, later ones are served, what was answered
with success is on the disk, and nothing is left when all have gone.
fault/failing_malloc.c is what fails."""

import ctypes
import mmap
import os
import shutil
import subprocess
import unittest

import system
from constants import *
from nbdproto import Closed, info_data
from server import clean_environment, temporary_directory, wait_until

KIB, MIB = 1 << 10, 1 << 20
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fault",
                      "failing_malloc.c")
STYLES = {"simple": {}, "structured": {"structured": True, "meta": True},
          "extended": {"extended": True, "meta": True}}
CHAIN = ("stats", "log", "delay", "error")
MOST = 400      # far more than there are


class Fault(ctypes.Structure):
    _fields_ = [("fail_at", ctypes.c_uint32), ("keep_on", ctypes.c_uint32),
                ("counted", ctypes.c_uint32), ("failed", ctypes.c_uint32),
                ("where", ctypes.c_char * 240)]


class Commands:
    """What one client asks for, and what it may be answered."""

    def __init__(self, client):
        self.client = client
        self.written = {}       # offset: data, of writes answered with success
        self.answers = []       # (command, error)
        size = client.export.size
        long = bytes(range(256)) * (3 * MIB // 256 + 1)
        self.asks = [
            (CMD_WRITE, 0, b"a" * 4096), (CMD_WRITE, MIB + 17, b"b" * 100000),
            (CMD_WRITE, 8 * MIB + 512, long), (CMD_READ, 0, 4096),
            (CMD_READ, 7 * MIB, 6 * MIB), (CMD_READ, 40 * MIB, 2 * MIB),
            (CMD_WRITE_ZEROES, 20 * MIB + 5, MIB), (CMD_FLUSH, 0, 0),
            (CMD_TRIM, 24 * MIB, 2 * MIB), (CMD_CACHE, 0, MIB),
            (CMD_READ, size - 10, 20), (99, 0, 4096)]
        if client.contexts:
            self.asks.append((CMD_BLOCK_STATUS, 0, 30 * MIB))

    def expected(self, command, offset):
        if command == 99 or offset == self.client.export.size - 10:
            return EINVAL
        return 0

    def ask_all(self):
        asked, data = {}, []
        for command, offset, what in self.asks:
            more = ({"payload": what} if isinstance(what, bytes)
                    else {"length": what})
            cookie, message = self.client.submit(command, offset, send=False,
                                                 **more)
            asked[cookie] = (command, offset, what)
            data.append(message)
        self.client.pump(b"".join(data))
        while self.client.pending:
            cookie, reply = self.client.receive()
            command, offset, what = asked[cookie]
            self.answers.append((command, reply.error))
            if reply.error not in (ENOMEM, ENOSPC,
                                   self.expected(command, offset)):
                raise AssertionError("command %d at %d: error %d %s" % (
                    command, offset, reply.error, reply.text))
            if command == CMD_WRITE and not reply.error:
                self.written[offset] = what

    def all_well(self):
        return (len(self.answers) == len(self.asks)
                and all(error in (0, EINVAL) for _, error in self.answers))


@unittest.skipIf(os.environ.get("ABD_SANITIZED"),
                 "sanitizers have their own malloc()")
class Allocations(system.ServedCase):
    @classmethod
    def setUpClass(cls):
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if not compiler:
            raise unittest.SkipTest("no C compiler")
        cls.directory = cls.enterClassContext(temporary_directory())
        cls.preload = os.path.join(cls.directory, "failing_malloc.so")
        subprocess.run([compiler, "-shared", "-fPIC", "-std=gnu11",
                        "-D_GNU_SOURCE", "-Wall", "-Werror", "-o", cls.preload,
                        SOURCE, "-ldl"], check=True)
        path = os.path.join(cls.directory, "fault")
        with open(path, "wb") as file:
            file.truncate(ctypes.sizeof(Fault))
        with open(path, "r+b") as file:
            cls.fault = Fault.from_buffer(mmap.mmap(file.fileno(), 0))
        cls.environment = clean_environment(
            LD_PRELOAD=cls.preload, ABD_FAULT_FILE=path)

    def start(self, chain, disk, arm=0):
        """arm: this allocation after the program's start is to fail."""
        self.arm(arm, 0)
        arguments = ["memory", "64M"]
        if disk == "file":
            image = os.path.join(self.directory, "image")
            with open(image, "wb") as file:
                file.truncate(64 * MIB)
            arguments = ["file", "file=" + image]
        if "log" in chain:
            arguments += ["rdelay=1us", "wdelay=1us", "error-rate=0%",
                          "logfile=" + os.path.join(self.directory, "log"),
                          "statsfile=" + os.path.join(self.directory, "stats")]
        if "limit" in chain:
            arguments += ["limit=9"]
        return self.serve(*arguments, chain=chain,
                          options=["--loops=2", "--memory=64M"],
                          env=self.environment)

    def visit(self, server, how):
        """The client, or None if the server said that it can't have one."""
        handshake = server.greet()
        self.addCleanup(handshake.close)
        if how.get("structured"):
            handshake.structured_reply()
        if how.get("extended"):
            handshake.extended_headers()
        if how.get("meta"):
            handshake.set_meta()
        kind = handshake.opt(OPT_GO, info_data("", ()))
        if kind == REP_ACK:
            handshake.export = handshake.parse_infos()
            return handshake.enter(handshake.export, "")
        self.assertIn(kind, (ERR_UNKNOWN, ERR_POLICY, ERR_PLATFORM))
        self.assertTrue(self.fault.failed, "refused without reason")
        handshake.close()
        return None

    def arm(self, n, keep_on):
        self.fault.counted = self.fault.failed = 0
        self.fault.where = b""
        self.fault.keep_on = keep_on
        self.fault.fail_at = n

    def disarm(self):
        self.fault.fail_at = 0

    def check_later(self, server, commands, how):
        """All is as it should be once there is memory again."""
        with server.client(**how) as client:
            for offset, data in (commands.written if commands else {}).items():
                self.assertEqual(client.read(offset, len(data)), data)
            again = Commands(client)
            again.ask_all()
            self.assertTrue(again.all_well(), again.answers)
            client.disconnect()
        if self.fds is None:    # nothing failed, and all said farewell
            self.fds = server.fds()
        wait_until(lambda: server.fds() == self.fds, what="closed descriptors")
        server.stop()

    def play(self, server, how, n, keep_on, before):
        """One server, one failure.  before: who is there already ("client",
        "another" or "").  Returns whether there was an n-th allocation."""
        commands = None
        bystander = server.client(structured=True) if before else None
        if bystander:
            bystander.write(60 * MIB, b"bystander")
        client = server.client(**how) if before == "client" else None
        self.arm(n, keep_on)
        try:
            client = client or self.visit(server, how)
            if client:
                commands = Commands(client)
                commands.ask_all()
                client.disconnect()
        except (Closed, ConnectionError):
            self.assertTrue(self.fault.failed, "closed without reason")
        finally:
            if client:
                client.close()
        failed = self.fault.failed
        self.disarm()
        if not failed:
            self.assertTrue(commands.all_well(), commands.answers)
        self.assertTrue(server.alive(), server.stderr()[-2000:])
        if bystander:
            self.assertEqual(bystander.read(60 * MIB, 9), b"bystander")
            bystander.disconnect()
        self.check_later(server, commands, how)
        return failed

    def fail_each(self, how, keep_on, before, chain, disk="memory"):
        self.fds = None
        for n in range(MOST):
            server = self.start(chain, disk)
            try:
                reached = self.play(server, how, n, keep_on, before)
            except BaseException as error:
                error.add_note("allocation %d, of %s\n%s" % (
                    n, self.fault.where.decode(), server.stderr()[-2000:]))
                raise
            if n and not reached:
                self.assertGreater(n, 1, "nothing was allocated")
                return
        self.fail("still allocations after %d" % MOST)

    def fail_each_way(self, before):
        for style, how in STYLES.items():
            for keep_on in (0, 1):
                for chain in (CHAIN, ()):
                    with self.subTest(style=style, keep_on=keep_on,
                                      chain=chain):
                        self.fail_each(how, keep_on, before, chain)

    def test_commands(self):
        """Of clients that have shaken hands already."""
        self.fail_each_way("client")

    def test_whole_visits(self):
        """From connect() to the farewell, of a disk that another uses."""
        self.fail_each_way("another")

    def test_first_visits(self):
        """The disk is opened, too."""
        self.fail_each_way("")

    def test_starting(self):
        """Either it serves, or it ends with a status and says why."""
        for n in range(1, MOST):
            with self.subTest(n=n):
                try:
                    server = self.start(CHAIN, "memory", arm=n)
                except AssertionError as error:
                    self.assertTrue(self.fault.failed)
                    self.assertRegex(str(error), "ended with 1: abdkit: ",
                                     self.fault.where)
                    continue
                failed = self.fault.failed
                self.disarm()
                server.check_good()
                server.stop()
                if not failed:
                    self.assertGreater(n, 50)
                    return
        self.fail("still allocations after %d" % MOST)

    def test_file(self):
        for keep_on in (0, 1):
            for before in ("client", ""):
                with self.subTest(keep_on=keep_on, before=before):
                    self.fail_each(STYLES["structured"], keep_on, before,
                                   ("limit", "noextents"), "file")
                    self.fail_each(STYLES["structured"], keep_on, before, (),
                                   "file")


if __name__ == "__main__":
    unittest.main()
