# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""A client that speaks NBD byte by byte and believes nothing.

Every byte that the server sends is checked against what the specification
allows at that point; what it forbids raises ProtocolError.  Tests may send
what they like.  Nothing waits without a limit: a socket that stays silent for
TIMEOUT raises TimeoutError."""

import dataclasses
import os
import select
import socket
import struct

from constants import *

TIMEOUT = float(os.environ.get("ABD_TEST_TIMEOUT", "30"))


class ProtocolError(AssertionError):
    """The server sent what it must not send."""


class Closed(Exception):
    """The server closed the connection where more bytes were expected."""


def require(condition, text, *args):
    if not condition:
        raise ProtocolError(text % args)


def check_string(data, what):
    require(len(data) <= MAX_STRING, "%s of %d bytes", what, len(data))
    require(b"\0" not in data, "%s with a NUL: %r", what, data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ProtocolError("%s is not UTF-8: %r" % (what, data)) from None


class Conn:
    """A connected socket: exact sends and receives."""

    def __init__(self, sock, timeout=TIMEOUT):
        self.sock = sock
        self.inbox = bytearray()    # what pump() received
        sock.settimeout(timeout)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        """Goes away without a farewell (a TCP RST; on a unix socket the
        server's unread replies make it ECONNRESET)."""
        if self.sock.family in (socket.AF_INET, socket.AF_INET6):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                 struct.pack("ii", 1, 0))
        self.sock.close()

    def send(self, data):
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed(str(error)) from None

    def pump(self, data):
        """Like send(), but receives meanwhile what the server sends, so that
        neither side waits for the other."""
        left = memoryview(data)
        limit = self.sock.gettimeout()
        poll = select.poll()
        poll.register(self.sock, select.POLLIN | select.POLLOUT)
        while left:
            events = poll.poll(limit * 1000)
            if not events:
                raise TimeoutError("the server neither reads nor writes")
            try:
                if events[0][1] & select.POLLIN:
                    part = self.sock.recv(1 << 20)
                    if not part:
                        raise Closed("while sending")
                    self.inbox += part
                if events[0][1] & select.POLLOUT:
                    left = left[self.sock.send(left, socket.MSG_DONTWAIT):]
            except BlockingIOError:
                pass
            except (BrokenPipeError, ConnectionResetError) as error:
                raise Closed(str(error)) from None

    def recv(self, count):
        parts = []
        if self.inbox:
            parts.append(bytes(self.inbox[:count]))
            del self.inbox[:count]
            count -= len(parts[0])
        while count:
            try:
                part = self.sock.recv(min(count, 1 << 20))
            except ConnectionResetError:
                part = b""
            if not part:
                raise Closed("%d bytes missing" % count)
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def unpack(self, layout):
        return struct.unpack(layout, self.recv(struct.calcsize(layout)))

    def expect_eof(self):
        """The server must now close, without another byte."""
        require(not self.inbox, "bytes instead of the end")
        try:
            rest = self.sock.recv(4096)
        except ConnectionResetError:
            rest = b""
        require(not rest, "bytes instead of the end: %r", rest[:64])

    def drain_or_reply(self, count):
        """At most count bytes: fewer if the server closes before."""
        parts = [bytes(self.inbox)]
        del self.inbox[:]
        count -= len(parts[0])
        try:
            while count and (part := self.sock.recv(min(count, 1 << 20))):
                parts.append(part)
                count -= len(part)
        except ConnectionResetError:
            pass
        return b"".join(parts)

    def drain(self):
        """Reads until the server closes; returns what came."""
        parts = [bytes(self.inbox)]
        try:
            while part := self.sock.recv(1 << 20):
                parts.append(part)
        except ConnectionResetError:
            pass
        return b"".join(parts)


@dataclasses.dataclass
class Export:
    """What the handshake said about the export."""
    size: int
    flags: int
    name: str = None
    description: str = None
    block_min: int = None
    block_preferred: int = None
    block_max: int = None

    @property
    def limit(self):
        return self.block_max or MAX_PAYLOAD


def pack_string(name):
    data = name.encode() if isinstance(name, str) else name
    return struct.pack(">I", len(data)) + data


def info_data(name, infos=()):
    return (pack_string(name) + struct.pack(">H", len(infos))
            + b"".join(struct.pack(">H", info) for info in infos))


def meta_data(name, queries):
    return (pack_string(name) + struct.pack(">I", len(queries))
            + b"".join(pack_string(query) for query in queries))


class Handshake(Conn):
    """The option phase.  After greet() the caller haggles with opt(); the
    convenience calls below it remember what was negotiated."""

    def __init__(self, sock, timeout=TIMEOUT):
        super().__init__(sock, timeout)
        self.handshake_flags = None
        self.structured = self.extended = False
        self.contexts = {}      # id -> name
        self.context_export = None
        self.export = None

    def read_greeting(self):
        magic, opt, flags = self.unpack(">QQH")
        require(magic == NBDMAGIC, "greeting %#x", magic)
        require(opt == IHAVEOPT, "greeting %#x", opt)
        require(flags & ~3 == 0, "handshake flags %#x", flags)
        self.handshake_flags = flags
        return flags

    def greet(self, flags=C_FIXED_NEWSTYLE | C_NO_ZEROES):
        self.read_greeting()
        self.send(struct.pack(">I", flags))
        return self

    def send_option(self, option, data=b"", length=None):
        self.send(struct.pack(">QII", IHAVEOPT, option,
                              len(data) if length is None else length) + data)

    def option_reply(self, option):
        magic, echo, kind, length = self.unpack(">QIII")
        require(magic == REP_MAGIC, "option reply magic %#x", magic)
        require(echo == option, "reply to option %d instead of %d", echo,
                option)
        require(length <= 3 * MAX_STRING, "option reply of %d bytes", length)
        data = self.recv(length)
        if kind & REP_ERR:
            require(ERR_UNSUP <= kind <= ERR_EXT_HEADER_REQD,
                    "unknown error reply %#x", kind)
            require(kind != ERR_TLS_REQD, "ERR_TLS_REQD without TLS")
            check_string(data, "option error text")
        else:
            require(kind in (REP_ACK, REP_SERVER, REP_INFO, REP_META_CONTEXT),
                    "unknown reply type %d", kind)
            if kind == REP_ACK:
                require(not data, "ACK with data %r", data)
        return kind, data

    def option_replies(self, option):
        """All replies up to the final one: a list of (type, data)."""
        allowed = {OPT_LIST: REP_SERVER, OPT_INFO: REP_INFO, OPT_GO: REP_INFO,
                   OPT_LIST_META_CONTEXT: REP_META_CONTEXT,
                   OPT_SET_META_CONTEXT: REP_META_CONTEXT}.get(option)
        replies = []
        while True:
            kind, data = self.option_reply(option)
            replies.append((kind, data))
            if kind == REP_ACK or kind & REP_ERR:
                return replies
            require(kind == allowed, "reply type %d to option %d", kind,
                    option)

    def opt(self, option, data=b"", length=None):
        """Sends an option and returns the final reply's type."""
        self.send_option(option, data, length)
        self.last = self.option_replies(option)
        return self.last[-1][0]

    def list(self):
        """[(name, description), ...] of OPT_LIST, which must succeed."""
        kind = self.opt(OPT_LIST)
        require(kind == REP_ACK, "LIST: %#x", kind)
        exports = []
        for _, data in self.last[:-1]:
            require(len(data) >= 4, "REP_SERVER of %d bytes", len(data))
            length, = struct.unpack(">I", data[:4])
            require(length <= len(data) - 4, "name of %d bytes in %d", length,
                    len(data))
            exports.append((check_string(data[4:4 + length], "name"),
                            check_string(data[4 + length:], "description")))
        return exports

    def structured_reply(self):
        kind = self.opt(OPT_STRUCTURED_REPLY)
        require(kind == REP_ACK, "STRUCTURED_REPLY: %#x", kind)
        self.structured = True

    def extended_headers(self):
        kind = self.opt(OPT_EXTENDED_HEADERS)
        require(kind == REP_ACK, "EXTENDED_HEADERS: %#x", kind)
        self.extended = True

    def parse_contexts(self):
        """The context replies of the last option: {name: id}."""
        found = {}
        for _, data in self.last[:-1]:
            require(len(data) > 4, "REP_META_CONTEXT of %d bytes", len(data))
            name = check_string(data[4:], "context name")
            require(":" in name, "context name without a colon: %r", name)
            require(name not in found, "context %r twice", name)
            found[name], = struct.unpack(">I", data[:4])
        return found

    def list_meta(self, name="", queries=()):
        kind = self.opt(OPT_LIST_META_CONTEXT, meta_data(name, queries))
        require(kind == REP_ACK, "LIST_META_CONTEXT: %#x", kind)
        return self.parse_contexts()

    def set_meta(self, name="", queries=("base:allocation",)):
        kind = self.opt(OPT_SET_META_CONTEXT, meta_data(name, queries))
        self.contexts = {}
        require(kind == REP_ACK, "SET_META_CONTEXT: %#x", kind)
        found = self.parse_contexts()
        require(len(set(found.values())) == len(found), "same id twice")
        self.contexts = {ident: context for context, ident in found.items()}
        self.context_export = name
        return found

    def parse_infos(self):
        """The INFO replies of the last option as an Export, or None."""
        seen, export = {}, None
        for _, data in self.last[:-1]:
            require(len(data) >= 2, "REP_INFO of %d bytes", len(data))
            kind, = struct.unpack(">H", data[:2])
            require(kind not in seen, "information %d twice", kind)
            seen[kind] = data[2:]
        if INFO_EXPORT in seen:
            require(len(seen[INFO_EXPORT]) == 10, "INFO_EXPORT's length")
            export = Export(*struct.unpack(">QH", seen.pop(INFO_EXPORT)))
            self.check_export(export)
        for kind, data in seen.items():
            require(export is not None, "information without INFO_EXPORT")
            if kind == INFO_NAME:
                export.name = check_string(data, "name")
            elif kind == INFO_DESCRIPTION:
                export.description = check_string(data, "description")
            elif kind == INFO_BLOCK_SIZE:
                self.check_block_size(export, data)
            else:
                raise ProtocolError("information %d is not known" % kind)
        return export

    def check_export(self, export):
        flags = export.flags
        require(flags & HAS_FLAGS, "flags %#x lack HAS_FLAGS", flags)
        require(flags & ~0x1fff == 0, "unknown flags in %#x", flags)
        require(not flags & SEND_RESIZE, "RESIZE is not ours")
        require(bool(flags & SEND_DF) == (self.structured or self.extended),
                "flags %#x: DF must follow structured replies", flags)
        require(not flags & BLOCK_STATUS_PAYLOAD or self.extended,
                "flags %#x: payload without extended headers", flags)
        require(not flags & SEND_FAST_ZERO or flags & SEND_WRITE_ZEROES,
                "flags %#x: FAST_ZERO without WRITE_ZEROES", flags)
        require(export.size < 1 << 63, "size %#x", export.size)

    @staticmethod
    def check_block_size(export, data):
        require(len(data) == 12, "INFO_BLOCK_SIZE of %d bytes", len(data) + 2)
        low, preferred, high = struct.unpack(">III", data)
        require(low and low & (low - 1) == 0 and low <= 65536,
                "minimum block size %d", low)
        require(preferred & (preferred - 1) == 0
                and preferred >= max(low, 512), "preferred %d", preferred)
        require(high >= preferred, "maximum %d < %d", high, preferred)
        export.block_min, export.block_preferred = low, preferred
        export.block_max = high

    def info(self, name="", infos=()):
        kind = self.opt(OPT_INFO, info_data(name, infos))
        require(kind == REP_ACK, "INFO: %#x", kind)
        export = self.parse_infos()
        require(export is not None, "INFO without INFO_EXPORT")
        return export

    def enter(self, export, name):
        if self.context_export != name:
            self.contexts = {}
        self.export = export
        from transmission import Client
        return Client(self)

    def go(self, name="", infos=(INFO_BLOCK_SIZE,)):
        """Enters transmission; returns the Client that goes on."""
        kind = self.opt(OPT_GO, info_data(name, infos))
        require(kind == REP_ACK, "GO: %#x", kind)
        export = self.parse_infos()
        require(export is not None, "GO without INFO_EXPORT")
        return self.enter(export, name)

    def read_export_name(self, no_zeroes=True):
        export = Export(*self.unpack(">QH"))
        self.check_export(export)
        if not no_zeroes:
            require(self.recv(124) == bytes(124), "padding is not zero")
        return export

    def export_name(self, name="", no_zeroes=True):
        self.send_option(OPT_EXPORT_NAME, name.encode())
        return self.enter(self.read_export_name(no_zeroes), name)


def connect_unix(path, timeout=TIMEOUT):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # A blocking connect with the kernel's time limit: without blocking, a full
    # backlog is an error instead of a wait.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO,
                    struct.pack("ll", int(timeout), 0))
    sock.connect(path)
    sock.settimeout(timeout)
    return sock
