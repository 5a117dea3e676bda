# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Random commands against a model of bytes.

A Model is one client's view of one area of an export that nobody else writes
to.  It keeps several commands in flight whose ranges do not overlap, and
compares all that comes back with what must be there; where a command failed,
or a trim may have left anything, the bytes are unknown until they are written
again.  A Stray is a client that gets in everybody's way, and only asks for
answers.  drive() lets many of them work at the same time."""

import random
import select
import threading

from constants import *
from nbdproto import require


class Player:
    """Some commands of a client in flight at once."""

    def __init__(self, client, seed, begin, end, depth=12):
        self.client, self.random = client, random.Random(seed)
        self.begin, self.end, self.depth = begin, end, depth
        self.unit = client.export.block_min or 1
        self.busy = {}      # cookie -> (what, at, length, data or None)
        self.left = 0
        self.failures = 0
        self.commands = self.allowed()

    def allowed(self):
        flags = self.client.export.flags
        words = ["read"] * 4 + ["cache"] * bool(flags & SEND_CACHE)
        if self.client.contexts:
            words += ["status"]
        if not flags & READ_ONLY:
            words += ["write"] * 4
        for bit, word in ((SEND_WRITE_ZEROES, "zero"), (SEND_TRIM, "trim"),
                          (SEND_FLUSH, "flush")):
            if flags & bit:
                words.append(word)
        return words

    def choose_range(self, what):
        units = (self.end - self.begin) // self.unit
        if what in ("read", "write"):
            units = min(units, self.client.export.limit // self.unit)
        length = self.random.randint(1, max(1, min(
            units, 1 << self.random.randrange(units.bit_length()))))
        at = self.random.randint(
            0, (self.end - self.begin) // self.unit - length)
        return at * self.unit, length * self.unit

    def is_free(self, at, length):
        return True

    def choose_flags(self, what):
        allowed, flags = self.client.export.flags, 0
        if allowed & SEND_FUA and self.random.randrange(4) == 0:
            flags |= FUA
        if what == "read" and allowed & SEND_DF and \
                self.random.randrange(4) == 0:
            flags |= DF
        if what == "zero":
            flags |= NO_HOLE if self.random.randrange(2) else 0
            if allowed & SEND_FAST_ZERO and self.random.randrange(3) == 0:
                flags |= FAST_ZERO
        if what == "status" and self.random.randrange(4) == 0:
            flags |= REQ_ONE
        return flags

    def submit_one(self):
        what = self.random.choice(self.commands)
        at, length = self.choose_range(what)
        if what == "flush":
            at = length = 0
        elif not self.is_free(at, length):
            return
        command = {"read": CMD_READ, "write": CMD_WRITE, "trim": CMD_TRIM,
                   "zero": CMD_WRITE_ZEROES, "flush": CMD_FLUSH,
                   "cache": CMD_CACHE, "status": CMD_BLOCK_STATUS}[what]
        payload = self.random.randbytes(length) if what == "write" else None
        cookie, data = self.client.submit(
            command, self.begin + at if length else 0, length,
            self.choose_flags(what), payload=payload, send=False)
        self.busy[cookie] = (what, at, length, payload)
        self.left -= 1
        self.client.pump(data)

    def receive_one(self):
        cookie, reply = self.client.receive()
        what, at, length, data = self.busy.pop(cookie)
        self.failures += bool(reply.error)
        self.check(what, at, length, data, reply)

    def check(self, what, at, length, data, reply):
        pass

    def step(self, may_receive):
        """Sends or receives once."""
        if self.left > 0 and len(self.busy) < self.depth and (
                not may_receive or self.random.randrange(2)):
            self.submit_one()
        elif self.busy and (may_receive or len(self.busy) >= self.depth
                            or self.left <= 0):
            self.receive_one()

    @property
    def is_done(self):
        return self.left <= 0 and not self.busy


class Stray(Player):
    pass


class Model(Player):
    def __init__(self, client, seed, begin, end, depth=12, may_fail=False):
        super().__init__(client, seed, begin, end, depth)
        self.may_fail = may_fail
        self.bytes = bytearray(end - begin)
        self.known = bytearray(b"\xff" * (end - begin))

    def is_free(self, at, length):
        return all(at + length <= a or a + n <= at
                   for _, a, n, _ in self.busy.values())

    def forget(self, at, length):
        self.bytes[at:at + length] = bytes(length)
        self.known[at:at + length] = bytes(length)

    def learn(self, at, data):
        self.bytes[at:at + len(data)] = data
        self.known[at:at + len(data)] = b"\xff" * len(data)

    def same(self, at, data):
        """What is known is the same."""
        length = len(data)
        if data == self.bytes[at:at + length]:
            return True
        mask = int.from_bytes(self.known[at:at + length], "big")
        return int.from_bytes(data, "big") & mask == int.from_bytes(
            self.bytes[at:at + length], "big")

    def check(self, what, at, length, data, reply):
        place = "%s at %#x of %d bytes, flags %#x" % (
            what, self.begin + at, length, reply.flags)
        if reply.error:
            fast = reply.error == ENOTSUP and reply.flags & FAST_ZERO
            require(self.may_fail or fast, "%s: error %d %s", place,
                    reply.error, reply.text)
        if what in ("write", "zero", "trim"):
            if reply.error or what == "trim":
                self.forget(at, length)
            else:
                self.learn(at, data or bytes(length))
        elif reply.error:
            pass
        elif what == "read":
            require(self.same(at, reply.data), "%s: wrong data", place)
        elif what == "status":
            self.check_extents(at, length, reply, place)

    def check_extents(self, at, length, reply, place):
        """What is said to read as zeroes does."""
        found, = reply.extents.values()
        for size, flags in found:
            part = min(size, length)
            if flags & 2:
                require(self.same(at, bytes(part)), "%s: no zeroes", place)
            at, length = at + part, length - part

    def check_all(self):
        step = min(self.client.export.limit, 1 << 20)
        at = 0
        while at < self.end - self.begin:
            length = min(step, self.end - self.begin - at)
            reply = self.client.call(CMD_READ, self.begin + at, length)
            if not reply.error:
                require(self.same(at, reply.data), "wrong data in the end")
            else:
                require(self.may_fail, "READ: error %d", reply.error)
            at += length


def play(player, count, failures):
    player.left = count
    try:
        while not player.is_done:
            can_send = player.left > 0 and len(player.busy) < player.depth
            ready, _, _ = select.select(
                [player.client.sock], [], [],
                0 if can_send or player.client.inbox
                else player.client.sock.gettimeout())
            require(ready or can_send or player.client.inbox, "no answer")
            player.step(bool(ready or player.client.inbox))
    except BaseException as error:  # the caller's thread raises it
        failures.append(error)


def drive(players, count):
    """Each does count commands, on a thread of its own: who reads is never
    kept from it by who waits."""
    failures = []
    threads = [threading.Thread(target=play, args=(player, count, failures))
               for player in players]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
