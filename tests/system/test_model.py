#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Chains of filters over a wild plugin, against a model of bytes: a client of
each kind on an area of its own, and two that are in their way."""

import os
import random
import unittest

import system
from constants import *
from model import Model, Stray, drive

SIZE = 4 << 20
SEED = int(os.environ.get("ABD_SEED", "20261125"))
COUNT = int(os.environ.get("ABD_COUNT", "60" if os.environ.get("ABD_SAMPLE")
                           or os.environ.get("ABD_SANITIZED") else "150"))

DISKS = {
    "plain": [],
    "small": ["max_transfer=4096", "max_zero=8192", "max_trim=12288"],
    "bare": ["lacks=zero", "lacks=trim", "lacks=extents", "lacks=flush",
             "lacks=cache", "fua=none"],
    "no zeroes": ["lacks=zero", "fua=emulate"],
    "refuses zeroes": ["refuse_zero=500", "max_zero=65536", "fast_zero=1"],
    "blocks": ["block_min=4096", "max_transfer=65536", "block_max=1M"],
    "one at a time": ["max_requests=1", "fua=emulate"],
    "five, parallel": ["max_requests=5", "parallel=1", "lends=1"],
    "lends": ["lends=1", "lend_min=512"],
    "lends small": ["lends=1", "max_transfer=16384", "parallel=1"],
    "fails": ["errors=50", "lends=1", "fua=emulate"],
    "fails, parallel": ["errors=50", "lends=1", "parallel=1",
                        "max_transfer=8192", "refuse_zero=100"],
}
FILTERS = ("delay", "error", "log", "stats", "noextents", "nozero", "limit",
           "kids", "kids-quick", "kids-one", "kids-client", "kids-back")
PARAMETERS = {"delay": ["rdelay=1ms"], "nozero": ["zeromode=emulate"],
              "limit": ["limit=20"], "log": ["logfile=/dev/null"],
              "stats": ["statsfile=/dev/null"]}
HOW = {"kids": ("copy", "cancel", "mirror", "split", "reopen", "turn"),
       "kids-quick": ("copy", "cancel", "mirror"),
       "kids-one": ("copy", "split", "mirror"),
       "kids-client": ("copy", "reopen"), "kids-back": ("copy",)}


class ModelCase(system.ServedCase):
    plugin = "wild"

    def choose_chain(self, rng):
        chain = rng.sample(FILTERS, rng.randrange(5))
        # Each has four children for one request: more are too many.
        for name in [name for name in chain if name in HOW][2:]:
            chain.remove(name)
        parameters = [p for name in chain for p in PARAMETERS.get(name, [])]
        parameters += ["%s-how=%s" % (name, rng.choice(HOW[name]))
                       for name in chain if name in HOW]
        return chain, parameters

    def players(self, server, name, seed, disk, parameters):
        kinds = [{}, {"structured": True, "meta": True},
                 {"extended": True, "meta": True}]
        # What is cancelled may end in the middle.
        may_fail = "fails" in disk or any(
            p.endswith("-how=cancel") for p in parameters)
        area = SIZE // 4
        # What is turned once is all 0x5a at first.
        fresh = not any(p.endswith("-how=turn") for p in parameters)
        players = []
        for n, kind in enumerate(kinds):
            player = Model(server.client(name=name, **kind), seed + n,
                           n * area, (n + 1) * area, may_fail=may_fail)
            if not fresh:
                player.forget(0, area)
            players.append(player)
        players.append(Stray(server.client(name=name, **kinds[2]), seed + 3,
                             3 * area, SIZE))
        players.append(Stray(server.client(name=name, **kinds[1]), seed + 4,
                             0, SIZE))
        players[4].commands = [word for word in players[4].commands
                               if word not in ("write", "zero", "trim")]
        return players

    def work(self, players):
        drive(players, COUNT)
        for player in players[:3]:
            player.check_all()
        for player in players:
            player.client.disconnect()

    def check(self, disk, mode, chain, parameters, seed, name=""):
        options = ["--loops=%d" % (1, 2, 4)[seed % 3]]
        # What children without a parent are lent needs more than that.
        if seed % 2 and "kids-back" not in chain:
            options.append("--memory=4M")
        server = self.serve(
            system.plugin(self.plugin), "size=%d" % SIZE, "seed=%d" % seed,
            "mode=" + mode, *DISKS[disk], *parameters, chain=chain,
            options=options)
        players = self.players(server, name, seed, disk, parameters)
        for player in players:
            self.addCleanup(player.client.close)
        try:
            self.work(players)
        except Exception as error:
            raise AssertionError("%s\n%s" % (
                " ".join(server.command), server.stderr()[-4000:])) from error
        server.stop()

    def run_matrix(self, rng, names, **more):
        for disk in names:
            for mode in ("inline", "timer", "thread", "random"):
                chain, parameters = self.choose_chain(rng)
                seed = rng.randrange(1 << 30)
                with self.subTest(disk=disk, mode=mode, chain=chain,
                                  parameters=parameters, seed=seed):
                    self.check(disk, mode, chain, parameters, seed, **more)


class Shared(ModelCase):
    def test_matrix(self):
        self.run_matrix(random.Random(SEED), DISKS)


class PerClient(ModelCase):
    plugin = "wild-client"

    def test_matrix(self):
        self.run_matrix(random.Random(SEED + 1),
                        ("plain", "lends small", "fails", "one at a time"))


class Named(ModelCase):
    plugin = "wild-exports"

    def test_matrix(self):
        self.run_matrix(random.Random(SEED + 2),
                        ("plain", "blocks", "fails, parallel"), name="disk1")


if __name__ == "__main__":
    unittest.main()
