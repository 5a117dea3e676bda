# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""The client's transmission phase: requests out, strictly checked replies in.

A Client takes over the socket of a finished Handshake.  Requests are sent by
submit() or call(); every reply message is matched with its request by cookie,
its style (simple, structured, extended) must be the negotiated one, and its
chunks must obey all rules about bounds, overlap and completeness."""

import dataclasses
import struct

from constants import *
from nbdproto import Conn, check_string, require


@dataclasses.dataclass
class Reply:
    """The whole answer to one request, growing while chunks arrive."""
    command: int
    flags: int
    offset: int
    length: int             # effect length, also of a payload form
    contexts: frozenset = frozenset()   # status chunks owed
    error: int = 0
    text: str = ""
    error_at: int = None
    done: bool = False
    pieces: list = dataclasses.field(default_factory=list)
    holes: int = 0
    extents: dict = dataclasses.field(default_factory=dict)
    chunks: int = 0

    @property
    def data(self):
        """What was read, holes as zeroes."""
        result = bytearray(self.length)
        for offset, length, data in self.pieces:
            if data is not None:
                at = offset - self.offset
                result[at:at + length] = data
        return bytes(result)


class Client(Conn):
    def __init__(self, handshake):
        self.sock, self.inbox = handshake.sock, handshake.inbox
        self.export = handshake.export
        self.contexts = handshake.contexts
        self.extended = handshake.extended
        self.structured = handshake.structured and not handshake.extended
        self.pending = {}
        self.cookie = 0x1122334455667700

    # Requests

    def encode(self, command, offset=0, length=0, flags=0, cookie=0,
               magic=None):
        layout = ">IHHQQQ" if self.extended else ">IHHQQI"
        if magic is None:
            magic = EXT_REQUEST_MAGIC if self.extended else REQUEST_MAGIC
        return struct.pack(layout, magic, flags, command, cookie, offset,
                           length)

    def submit(self, command, offset=0, length=0, flags=0, payload=None,
               effect=None, ids=None, send=True):
        """Sends one request (or only registers it, with send=False) and
        returns (cookie, bytes).  A write's length is that of its payload."""
        if payload is not None:
            length = len(payload)
            if self.extended and command == CMD_WRITE:
                flags |= PAYLOAD_LEN
        self.cookie += 1
        owed = self.contexts if ids is None else ids
        if command != CMD_DISC:
            self.pending[self.cookie] = Reply(
                command, flags, offset, length if effect is None else effect,
                frozenset(owed if command == CMD_BLOCK_STATUS else ()))
        data = self.encode(command, offset, length, flags, self.cookie)
        data += payload or b""
        if send:
            self.send(data)
        return self.cookie, data

    def call(self, command, offset=0, length=0, flags=0, **more):
        """One request and its answer; nothing else may arrive between."""
        cookie, _ = self.submit(command, offset, length, flags, **more)
        answered, reply = self.receive()
        require(answered == cookie, "reply to another request")
        return reply

    def read(self, offset, length, flags=0):
        reply = self.call(CMD_READ, offset, length, flags)
        require(reply.error == 0, "READ %#x+%#x: error %d %s", offset, length,
                reply.error, reply.text)
        return reply.data

    def write(self, offset, data, flags=0):
        reply = self.call(CMD_WRITE, offset, flags=flags, payload=data)
        require(reply.error == 0, "WRITE %#x+%#x: error %d %s", offset,
                len(data), reply.error, reply.text)

    def disconnect(self):
        """A soft disconnect: the server must close without a word."""
        self.send(self.encode(CMD_DISC))
        self.expect_eof()
        self.close()

    # Replies

    def receive(self):
        """Reads messages until one request is answered: (cookie, Reply)."""
        while True:
            cookie, reply = self.receive_message()
            if reply.done:
                del self.pending[cookie]
                return cookie, reply

    def receive_all(self):
        """Answers to everything pending: {cookie: Reply}."""
        replies = {}
        while self.pending:
            cookie, reply = self.receive()
            replies[cookie] = reply
        return replies

    def find(self, cookie):
        require(cookie in self.pending, "reply with unknown cookie %#x",
                cookie)
        return self.pending[cookie]

    def receive_message(self):
        magic, = self.unpack(">I")
        if magic == SIMPLE_REPLY_MAGIC:
            return self.receive_simple()
        if magic == STRUCTURED_REPLY_MAGIC:
            require(self.structured, "structured reply, not negotiated")
            flags, kind, cookie, length = self.unpack(">HHQI")
            reply = self.find(cookie)
        elif magic == EXT_REPLY_MAGIC:
            require(self.extended, "extended reply, not negotiated")
            flags, kind, cookie, offset, length = self.unpack(">HHQQQ")
            reply = self.find(cookie)
            require(offset == reply.offset, "reply's offset %#x, not %#x",
                    offset, reply.offset)
        else:
            require(False, "reply magic %#x", magic)
        require(flags & ~REPLY_DONE == 0, "reply flags %#x", flags)
        require(length <= MAX_PAYLOAD + 4200, "chunk of %d bytes", length)
        self.receive_chunk(reply, kind, self.recv(length))
        if flags & REPLY_DONE:
            reply.done = True
            self.check_complete(reply)
        else:
            require(kind != CHUNK_NONE, "NONE without DONE")
        return cookie, reply

    def receive_simple(self):
        error, cookie = self.unpack(">IQ")
        reply = self.find(cookie)
        require(not self.extended, "simple reply with extended headers")
        require(not self.structured or reply.command != CMD_READ,
                "simple reply to a structured READ")
        require(reply.chunks == 0, "simple reply among chunks")
        if error:
            self.set_error(reply, error)
        elif reply.command == CMD_READ:
            data = self.recv(reply.length)
            reply.pieces.append((reply.offset, reply.length, data))
        else:
            require(not reply.contexts, "simple reply to BLOCK_STATUS")
        reply.done = True
        return cookie, reply

    @staticmethod
    def set_error(reply, error):
        require(error in ERRORS, "error %d is not the protocol's", error)
        if error == EOVERFLOW:
            require(reply.command not in (CMD_WRITE, CMD_FLUSH),
                    "EOVERFLOW to command %d", reply.command)
        if error == ENOTSUP:
            require(reply.command == CMD_WRITE_ZEROES
                    and reply.flags & FAST_ZERO, "ENOTSUP to command %d",
                    reply.command)
        require(reply.error == 0, "two errors for one request")
        reply.error = error

    def receive_chunk(self, reply, kind, data):
        reply.chunks += 1
        if kind == CHUNK_NONE:
            require(not data, "NONE of %d bytes", len(data))
        elif kind in (CHUNK_DATA, CHUNK_HOLE):
            require(reply.command == CMD_READ, "content for command %d",
                    reply.command)
            self.receive_content(reply, kind, data)
        elif kind in (CHUNK_BLOCK_STATUS, CHUNK_BLOCK_STATUS_EXT):
            require(reply.command == CMD_BLOCK_STATUS, "status for %d",
                    reply.command)
            require(self.extended == (kind == CHUNK_BLOCK_STATUS_EXT),
                    "status chunk %d of the wrong kind", kind)
            self.receive_status(reply, data)
        elif kind in (CHUNK_ERROR, CHUNK_ERROR_OFFSET):
            self.receive_error(reply, kind, data)
        else:
            require(False, "chunk type %#x", kind)

    def receive_content(self, reply, kind, data):
        if kind == CHUNK_DATA:
            require(len(data) >= 9, "data chunk of %d bytes", len(data))
            offset, = struct.unpack(">Q", data[:8])
            content, length = data[8:], len(data) - 8
            require(length <= self.export.limit, "data chunk above maximum")
        else:
            require(len(data) == 12, "hole chunk of %d bytes", len(data))
            offset, length = struct.unpack(">QI", data)
            content = None
            reply.holes += 1
        require(length > 0, "empty content")
        require(offset >= reply.offset and offset + length <=
                reply.offset + reply.length, "content %#x+%#x outside", offset,
                length)
        for other, size, _ in reply.pieces:
            require(offset + length <= other or other + size <= offset,
                    "content %#x+%#x overlaps", offset, length)
        require(reply.error_at is None or not offset <= reply.error_at
                < offset + length, "content behind an error at its place")
        require(not reply.flags & DF or not reply.pieces, "fragments with DF")
        reply.pieces.append((offset, length, content))

    def receive_error(self, reply, kind, data):
        fixed = 6 if kind == CHUNK_ERROR else 14
        require(len(data) >= fixed, "error chunk of %d bytes", len(data))
        error, length = struct.unpack(">IH", data[:6])
        require(length == len(data) - fixed, "error text's length %d", length)
        self.set_error(reply, error)
        reply.text = check_string(data[6:6 + length], "error text")
        if kind == CHUNK_ERROR_OFFSET:
            require(reply.command != CMD_FLUSH, "FLUSH's error has an offset")
            reply.error_at, = struct.unpack(">Q", data[-8:])
            require(reply.offset <= reply.error_at
                    < reply.offset + reply.length, "error at %#x outside",
                    reply.error_at)

    def receive_status(self, reply, data):
        if self.extended:
            require(len(data) >= 24 and (len(data) - 8) % 16 == 0,
                    "status of %d bytes", len(data))
            ident, count = struct.unpack(">II", data[:8])
            require(count * 16 + 8 == len(data), "descriptor count %d", count)
            found = list(struct.iter_unpack(">QQ", data[8:]))
        else:
            require(len(data) >= 12 and (len(data) - 4) % 8 == 0,
                    "status of %d bytes", len(data))
            ident, = struct.unpack(">I", data[:4])
            found = list(struct.iter_unpack(">II", data[4:]))
        require(ident in reply.contexts, "status of context %d", ident)
        require(ident not in reply.extents, "context %d twice", ident)
        require(len(found) <= 1 << 20, "%d extents", len(found))
        low = self.export.block_min or 1
        for length, status in found:
            require(length > 0, "empty extent")
            require(length % low == 0, "extent of %d bytes", length)
            require(status & ~3 == 0, "status %#x", status)
        total = sum(length for length, _ in found)
        require(reply.offset + total <= self.export.size,
                "extents reach past the end")
        require(total - found[-1][0] < reply.length,
                "an extent begins behind the request")
        if reply.flags & REQ_ONE:
            require(len(found) == 1 and total <= reply.length,
                    "REQ_ONE: %r", found)
        reply.extents[ident] = found

    @staticmethod
    def check_complete(reply):
        if reply.error:
            return
        if reply.command == CMD_READ:
            total = sum(length for _, length, _ in reply.pieces)
            require(total == reply.length, "read of %d brought %d",
                    reply.length, total)
        if reply.command == CMD_BLOCK_STATUS and reply.contexts:
            require(set(reply.extents) == set(reply.contexts),
                    "status for %r instead of %r", set(reply.extents),
                    set(reply.contexts))
