#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Filters that answer by requests of their own (kids_filter.c says how), and
who shares which disk."""

import json
import os
import threading
import unittest

import system
from constants import *
from model import Model, drive
from nbdproto import info_data
from server import temporary_directory, wait_until

KIB, MIB = 1 << 10, 1 << 20


class ChildrenCase(system.ServedCase):
    def setUp(self):
        self.directory = self.enterContext(temporary_directory())

    def serve_wild(self, *parameters, chain=(), plugin="wild", **more):
        self.counts = os.path.join(self.directory, "counts")
        return self.serve(system.plugin(plugin), "counts=" + self.counts,
                          *parameters, chain=chain, **more)

    def client(self, server, **kind):
        client = server.client(**kind)
        self.addCleanup(client.close)
        return client

    def counted(self, server):
        server.stop()
        with open(self.counts) as file:
            return json.load(file)


class Ways(ChildrenCase):
    def play(self, server, seed, name="", count=150):
        kinds = ({}, {"structured": True, "meta": True}, {"extended": True})
        clients = [self.client(server, name=name, **kind) for kind in kinds]
        area = clients[0].export.size // len(clients) // 4096 * 4096
        models = [Model(client, seed + n, n * area, (n + 1) * area)
                  for n, client in enumerate(clients)]
        drive(models, count)
        for model in models:
            model.check_all()
        return clients

    def test_read_modify_write(self):
        """Single bytes over blocks of 4 KiB, whoever completes them."""
        for mode in ("inline", "random"):
            with self.subTest(mode=mode):
                server = self.serve_wild(
                    "block_min=4096", "max_transfer=64K", "mode=" + mode,
                    "kids-how=rmw", chain=["kids"])
                clients = self.play(server, 1)
                self.assertEqual(clients[0].export.block_min, 1)
                server.stop()

    def test_next_child_inside_ended(self):
        """One at once is enough for one after the other, also where requests
        have taken all memory there is."""
        server = self.serve_wild(
            "block_min=4096", "mode=random", "kids-single-how=rmw",
            chain=["kids-single"], options=["--memory=4M"])
        client = self.client(server)
        for turn in range(3):
            data = b"".join(client.submit(
                CMD_WRITE, n * 512, payload=b"%c" % (turn + n % 100) * 512,
                send=False)[1] for n in range(4000))
            client.pump(data)
            client.receive_all()
        for n in range(4000):
            self.assertEqual(client.read(n * 512, 512),
                             b"%c" % (2 + n % 100) * 512)
        server.stop()

    def test_two_disks_below(self):
        """The second half is another export; a command over the border goes
        to both."""
        server = self.serve_wild(
            "size=1M", "exports=3", "mode=random", "kids-how=other",
            "kids-other=disk2", chain=["kids"], plugin="wild-exports")
        self.play(server, 2, "disk1")
        first = self.client(server, name="disk1")
        second = self.client(server, name="disk2")
        self.assertEqual(first.export.size, 2 * MIB)
        first.write(MIB - 3, b"abcdef")
        self.assertEqual(first.read(MIB - 3, 6), b"abcdef")
        self.assertEqual(second.read(0, 3), b"def")
        self.assertEqual(second.read(MIB, 3), b"def")
        self.assertEqual(first.call(CMD_FLUSH).error, 0)
        self.assertEqual(self.counted(server)["opens"], 2)

    def test_second_disk_is_unknown(self):
        """Its name fails, again and again; the first one is given back."""
        server = self.serve_wild(
            "exports=2", "kids-how=other", "kids-other=nobody",
            chain=["kids"], plugin="wild-exports")
        with server.greet() as handshake:
            for _ in range(100):
                self.assertEqual(handshake.opt(OPT_GO, info_data("disk1")),
                                 ERR_UNKNOWN)
        server.stop()

    def test_reopens_while_requests_wait(self):
        """A client's own disk is really closed, and opened again."""
        server = self.serve_wild("mode=random", "kids-how=reopen",
                                 chain=["kids"], plugin="wild-client")
        client = self.client(server)
        for turn in range(20):
            data = b"".join(client.submit(
                CMD_WRITE, n * KIB, payload=b"%c" % (turn + n) * KIB,
                send=False)[1] for n in range(30))
            client.pump(data)
            client.receive_all()
        for n in range(30):
            self.assertEqual(client.read(n * KIB, KIB),
                             b"%c" % (19 + n) * KIB)
        client.disconnect()
        counts = self.counted(server)
        self.assertGreater(counts["opens"], 10)
        self.assertEqual(counts["admits"], counts["opens"])

    def test_reopened_disk_does_not_admit(self):
        """Who was admitted by the one before has no disk any more."""
        server = self.serve_wild("admits_most=2", "kids-how=reopen",
                                 chain=["kids"], plugin="wild-client")
        client = self.client(server)
        errors = [client.call(CMD_READ, 0, 512).error for _ in range(70)]
        self.assertEqual(errors[:40], [0] * 40)
        self.assertEqual(set(errors[45:]), {EPERM})
        client.disconnect()
        counts = self.counted(server)
        self.assertEqual(counts["admits"], 2)

    def test_reopens_a_shared_disk(self):
        """Those who were admitted keep it open; each leaves it once."""
        server = self.serve_wild("mode=random", "kids-client-how=reopen",
                                 chain=["kids-client"])
        clients = [self.client(server) for _ in range(3)]
        for turn in range(50):
            for client in clients:
                client.write(turn * 512, b"%c" % turn * 512)
        for client in clients:
            self.assertEqual(client.read(49 * 512, 512), b"1" * 512)
            client.disconnect()
        counts = self.counted(server)
        self.assertEqual((counts["opens"], counts["admits"]), (1, 3))

    def test_reopens_when_what_was_lent_is_back(self):
        """The client has not read its replies yet."""
        server = self.serve_wild("mode=inline", "lends=1", "size=4M",
                                 "kids-client-how=reopen",
                                 chain=["kids-client"], plugin="wild-client")
        client = self.client(server)
        for _ in range(200):
            client.submit(CMD_READ, 0, 128 * KIB)
        errors = {reply.error for reply in client.receive_all().values()}
        self.assertEqual(errors, {0})
        client.disconnect()
        self.assertGreater(self.counted(server)["opens"], 1)

    def test_nobody_is_let_in_past_a_disk_that_is_away(self):
        """The plugin can't be asked whether it admits the client."""
        server = self.serve_wild("admits_most=2", "kids-how=away",
                                 chain=["kids"])
        client = self.client(server)
        self.assertEqual(client.call(CMD_FLUSH).error, 0)
        with server.greet() as handshake:
            self.assertEqual(handshake.opt(OPT_GO, info_data("")), ERR_POLICY)
        self.assertEqual(client.call(CMD_FLUSH).error, 0)
        self.client(server).read(0, 512)
        with server.greet() as handshake:
            self.assertEqual(handshake.opt(OPT_GO, info_data("")), ERR_POLICY)
        self.assertEqual(self.counted(server)["admits"], 2)

    def test_same_filter_twice(self):
        """Two instances: what the first was told the second does not know."""
        server = self.serve_wild("kids-how=turn", chain=["kids", "kids"])
        client = self.client(server)
        self.assertEqual(client.read(0, 100), b"\x5a" * 100)
        client.write(0, b"twice")
        self.assertEqual(client.read(0, 5), b"twice")
        server.stop()

    def test_cancelled_children_end(self):
        """The plugin hears of it, and completes them all the same."""
        server = self.serve_wild("mode=timer", "kids-quick-how=cancel",
                                 chain=["kids-quick"])
        client = self.client(server)
        for n in range(50):
            self.assertEqual(client.call(CMD_READ, n, 100).error, 0)
        self.assertEqual(self.counted(server)["cancels"], 50)

    def test_loans_are_handed_over(self):
        """Through two filters whose children are lent."""
        chain = ["kids-quick", "kids-client"]
        server = self.serve_wild("lends=1", "mode=random", chain=chain)
        client = self.client(server, structured=True)
        client.write(5000, b"lent" * 5000)
        for _ in range(50):
            self.assertEqual(client.read(0, 100000), bytes(5000) +
                             b"lent" * 5000 + bytes(75000))
        self.assertGreaterEqual(self.counted(server)["loans"], 50)

    def test_errors_are_handed_over(self):
        """With their text and their place."""
        server = self.serve_wild("errors=1000", "mode=random",
                                 chain=["kids-quick", "kids"])
        client = self.client(server, structured=True)
        texts = places = 0
        for n in range(60):
            reply = client.call(CMD_READ, n * 512, 4096)
            self.assertIn(reply.error, (EIO, ENOSPC, EPERM, ENOMEM, EINVAL))
            texts += "chance had it" in reply.text
            places += reply.error_at is not None
        self.assertGreater(texts, 10)
        self.assertGreater(places, 5)
        server.stop()

    def test_extents_are_handed_over(self):
        """A filter that asks by a child brings what the disk says."""
        found = []
        for chain in ([], ["kids"], ["kids-quick", "kids-back"]):
            server = self.serve("memory", "8M", chain=chain)
            client = self.client(server, structured=True, meta=True)
            for n in (1, 3, 4, 90):
                client.write(n * 65536, b"x" * 65536)
            reply = client.call(CMD_BLOCK_STATUS, 1000, 8 * MIB - 1000)
            found.append(list(reply.extents.values()))
            server.stop()
        self.assertGreater(len(found[0][0]), 5)
        self.assertEqual(found[1], found[0])
        self.assertEqual(found[2], found[0])

    def test_client_vanishes(self):
        """With children in flight, again and again."""
        for chain in (["kids", "kids-quick"], ["kids-back"],
                      ["kids-client"]):
            with self.subTest(chain=chain):
                server = self.serve_wild("mode=random", "lends=1",
                                         *(
                                             ["kids-how=mirror"]
                                             if "kids" in chain else []),
                                         chain=chain)
                for turn in range(15):
                    client = self.client(server)
                    client.pump(b"".join(client.submit(
                        CMD_READ, n * 4096, 200000, send=False)[1]
                        for n in range(40)))
                    if turn % 2:
                        client.receive()
                    client.reset()
                server.check_good()
                server.stop()


class Sharing(ChildrenCase):
    def opens(self, chain, plugin):
        """How often three clients at once made the plugin open a disk."""
        server = self.serve_wild(chain=chain, plugin=plugin)
        clients = [self.client(server) for _ in range(3)]
        for client in clients:
            client.write(0, b"shared")
        for client in clients:
            self.assertEqual(client.read(0, 6), b"shared")
        return self.counted(server)["opens"]

    def test_filter_of_a_client_over_a_shared_disk(self):
        self.assertEqual(self.opens(["kids-client"], "wild"), 1)

    def test_filter_over_disks_of_clients(self):
        self.assertEqual(self.opens(["kids"], "wild-client"), 3)

    def test_one_for_all(self):
        """ABD_FILTER_ONE: what is below is shared, too."""
        self.assertEqual(self.opens(["kids-one"], "wild-client"), 1)

    def test_one_below_a_filter_of_a_client(self):
        self.assertEqual(self.opens(["kids-client", "kids-one"],
                                    "wild-client"), 1)

    def test_clients_own_is_closed_behind_it(self):
        """A thousand clients leave nothing."""
        server = self.serve_wild(chain=["kids-client"], plugin="wild-client")
        for _ in range(100):
            server.check_good()
        before, fds = server.rss(), server.fds()
        for _ in range(1000):
            server.check_good()
        wait_until(lambda: server.fds() <= fds, what="closed connections")
        if not server.sanitized():
            self.assertLess(server.rss() - before, 2 * MIB)
        self.assertEqual(self.counted(server)["opens"], 1100)


class Promised(ChildrenCase):
    """What abd-filter.h promises to filters and to the disks below."""

    def test_disk_gets_aligned_data(self):
        server = self.serve_wild("aligned=1", "mode=thread", "kids-how=split",
                                 chain=["kids"])
        client = self.client(server)
        client.write(1, b"x" * 1001)
        self.assertEqual(client.read(1, 1001), b"x" * 1001)
        server.stop()

    def test_advertised_maximum_over_children_of_none(self):
        server = self.serve_wild("lends=1", "max_transfer=8192",
                                 chain=["kids-back"], options=["--memory=4M"])
        client = self.client(server)
        client.sock.settimeout(5)
        length = min(client.export.block_max, 4 * MIB)
        self.assertEqual(client.read(0, length), bytes(length))
        server.stop()

    def serve_many(self, *parameters):
        """Each export that is opened reserves so many requests that it shows
        in what is left for clients."""
        return self.serve_wild("exports=3", *parameters, plugin="wild-exports",
                               chain=["kids-many", "delay"],
                               options=["--memory=4M", "--loops=1"])

    def test_opened_while_all_requests_are_in_use(self):
        server = self.serve_many("rdelay=1")
        busy = self.client(server, name="disk1")
        for _ in range(2000):
            busy.submit(CMD_READ, 0, 512)
        opened = []
        opener = threading.Thread(target=lambda: opened.append(
            self.client(server, name="disk2")))
        opener.start()
        busy.receive_all()
        opener.join()
        opened[0].read(0, 512)
        server.stop()

    def test_long_read_waits_for_more_than_there_will_be(self):
        """It is answered, and all after it, when another export takes of what
        it waits for."""
        server = self.serve_many("rdelay=1", "max_transfer=4096", "size=4M")
        busy = self.client(server, name="disk1")
        longest = self.client(server, name="disk1")
        for _ in range(50):
            busy.submit(CMD_READ, 0, 512)
        cookie, _ = longest.submit(CMD_READ, 0, longest.export.block_max)
        opener = threading.Thread(target=self.client, args=(server,),
                                  kwargs={"name": "disk2"})
        opener.start()
        self.assertIn(longest.receive_all()[cookie].error, (0, ENOMEM))
        opener.join()
        busy.receive_all()
        busy.read(0, 512)
        server.stop()


if __name__ == "__main__":
    unittest.main()
