#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Every option in every order up to length 4, against a small state model.

The model predicts the final reply of each option and what the transmission
phase looks like if the sequence leads there (reply style, flags, whether block
status works).  A walk ends where the connection does, so longer sequences
behind GO, EXPORT_NAME and ABORT are the same walks.  Walks are shared out to
a few processes.  ABD_SAMPLE=N takes N random ones (seed ABD_SEED, printed)."""

import itertools
import multiprocessing
import os
import random
import unittest

from constants import *
from nbdproto import Closed, info_data, meta_data
from server import Server

BASE = "base:allocation"
UNKNOWN = 4242
MAX_LENGTH = 4
JOBS = 3


class Model:
    """What has been negotiated, and what each step must bring."""

    def __init__(self):
        self.structured = self.extended = False
        self.context = None     # the export whose contexts are selected

    @property
    def chunks(self):
        return self.structured or self.extended

    def structured_reply(self):
        if self.extended:
            return (ERR_EXT_HEADER_REQD,)
        repeated, self.structured = self.structured, True
        return (REP_ACK, ERR_INVALID) if repeated else (REP_ACK,)

    def extended_headers(self):
        repeated, self.extended = self.extended, True
        return (REP_ACK, ERR_INVALID) if repeated else (REP_ACK,)

    def list_meta(self):
        if not self.chunks:     # MAY refuse
            return (REP_ACK, ERR_INVALID, ERR_EXT_HEADER_REQD)
        return (REP_ACK,)

    def set_meta(self, export):
        self.context = None
        if not self.chunks:
            return (ERR_INVALID, ERR_EXT_HEADER_REQD)
        self.context = export
        return (REP_ACK,)

    def set_meta_badly(self):
        self.context = None
        return (ERR_INVALID,) if self.chunks else (ERR_INVALID,
                                                   ERR_EXT_HEADER_REQD)


# letter: (option, data, the model's step)
STEPS = {
    "list": (OPT_LIST, b"", lambda m: (REP_ACK,)),
    "tls": (OPT_STARTTLS, b"", lambda m: (ERR_POLICY,)),
    "info": (OPT_INFO, info_data("", (3,)), lambda m: (REP_ACK,)),
    "structured": (OPT_STRUCTURED_REPLY, b"", Model.structured_reply),
    "listmeta": (OPT_LIST_META_CONTEXT, meta_data("", [BASE]),
                 Model.list_meta),
    "setmeta": (OPT_SET_META_CONTEXT, meta_data("", [BASE]),
                lambda m: m.set_meta("")),
    "setother": (OPT_SET_META_CONTEXT, meta_data("other", [BASE]),
                 lambda m: m.set_meta("other")),
    "setbad": (OPT_SET_META_CONTEXT, b"\0\0\0\0\0\0\0\1",
               Model.set_meta_badly),
    "extended": (OPT_EXTENDED_HEADERS, b"", Model.extended_headers),
    "unknown": (UNKNOWN, b"??", lambda m: (ERR_UNSUP,)),
    "peek": (OPT_PEEK_EXPORT, b"", lambda m: (ERR_UNSUP,)),
}
ENDS = ("go", "export", "abort")


def walks():
    for length in range(1, MAX_LENGTH + 1):
        for start in itertools.product(STEPS, repeat=length - 1):
            for last in (*STEPS, *ENDS):
                yield (*start, last)


def check_options(conn, walk, model):
    for letter in walk:
        option, data, step = STEPS[letter]
        allowed = step(model)
        conn.structured = model.structured
        conn.extended = model.extended
        kind = conn.opt(option, data)
        assert kind in allowed, "%s: %#x, not %s" % (
            letter, kind, [hex(one) for one in allowed])
        if letter == "info":
            export = conn.parse_infos()
            check_payload_flag(export, model)
        if option == OPT_SET_META_CONTEXT:
            conn.contexts = {}
            if kind == REP_ACK:
                found = conn.parse_contexts()
                assert list(found) == [BASE], found
                conn.contexts = {found[BASE]: BASE}
                conn.context_export = model.context


def check_payload_flag(export, model):
    """"SHOULD NOT advertise this bit ... if the client does not negotiate
    metacontexts"; without extended headers it MUST NOT (checked elsewhere)."""
    expected = model.extended and model.context == ""
    assert bool(export.flags & BLOCK_STATUS_PAYLOAD) == expected, \
        "payload flag in %#x" % export.flags


def check_transmission(client, model):
    check_payload_flag(client.export, model)
    client.read(512, 1024)
    reply = client.call(CMD_BLOCK_STATUS, 0, 4096)
    works = model.chunks and model.context == ""
    assert reply.error == (0 if works else EINVAL), reply
    assert len(reply.extents) == (1 if works else 0), reply
    if client.extended:
        reply = client.call(CMD_READ, 0, 512, PAYLOAD_LEN, payload=b"x" * 512)
        assert reply.error == EINVAL, reply
        client.read(0, 512)
    client.disconnect()


def check_walk(server, walk):
    model = Model()
    *start, last = walk
    with server.greet() as conn:
        check_options(conn, start if last in ENDS else walk, model)
        if last == "go":
            check_transmission(conn.go(), model)
        elif last == "export":
            if model.extended:
                conn.send_option(OPT_EXPORT_NAME)
                conn.expect_eof()
            else:
                check_transmission(conn.export_name(), model)
        elif last == "abort":
            assert conn.opt(OPT_ABORT) == REP_ACK
            conn.expect_eof()


def check_share(arguments):
    """One process's share; returns the failures as text."""
    server, share = arguments
    failures = []
    for walk in share:
        try:
            check_walk(server, walk)
        except (AssertionError, Closed, OSError) as error:
            failures.append("%s: %s: %s" % (" ".join(walk),
                                            type(error).__name__, error))
            if len(failures) >= 20:
                break
    return failures


class Address:
    """What of a Server a child process needs."""
    greet, connect = Server.greet, Server.connect

    def __init__(self, path):
        self.path = path


class OptionSequences(unittest.TestCase):
    def test_every_order_agrees_with_the_model(self):
        chosen = list(walks())
        total = len(chosen)
        sample = int(os.environ.get("ABD_SAMPLE", "0"))
        if sample and sample < total:
            seed = int(os.environ.get("ABD_SEED",
                                      random.SystemRandom().getrandbits(32)))
            chosen = random.Random(seed).sample(chosen, sample)
            print("option sequences: %d of %d, ABD_SEED=%d" % (
                sample, total, seed), flush=True)
        with Server("memory", "16M") as server:
            before = server.rss()
            shares = [(Address(server.path), chosen[n::JOBS])
                      for n in range(JOBS)]
            with multiprocessing.Pool(JOBS) as pool:
                failures = sum(pool.map(check_share, shares), [])
            self.assertEqual(failures, [])
            self.assertTrue(server.alive())
            if not server.sanitized():
                self.assertLess(server.rss(), before + (16 << 20))
            server.check_good()

    def test_the_number_of_walks(self):
        steps, ends = len(STEPS), len(ENDS)
        expected = sum(steps ** (n - 1) * (steps + ends)
                       for n in range(1, MAX_LENGTH + 1))
        self.assertEqual(sum(1 for _ in walks()), expected)


if __name__ == "__main__":
    unittest.main()
