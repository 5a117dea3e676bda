#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Hostile transmission: clients that stall inside a payload, ask without end,
or vanish with everything in flight.  Others are served, and the server's
memory stays within its budget."""

import os
import threading
import unittest

from constants import *
from server import Server, temporary_directory, wait_until
from test_hostile import MIB, BoundedServer, raise_file_limit, \
    send_until_blocked
from test_transmission import STYLES


class StalledPayloads(BoundedServer):
    options = ("--memory=8M",)
    growth = 64 * MIB

    def test_others_get_memory_in_time(self):
        stalled = [self.server.client() for _ in range(20)]
        for n, client in enumerate(stalled):
            size = (MIB, 4 * MIB, 65536)[n % 3]
            client.send(client.encode(CMD_WRITE, 0, size, 0, n))
            send_until_blocked(client, bytes(4096), 0.05, size // 2)
        self.good.sock.settimeout(60)
        for n in range(30):
            self.good.write(0, bytes([n]) * MIB)
            self.assertEqual(self.good.read(0, MIB), bytes([n]) * MIB)
        for client in stalled:
            client.close()


class TrickledPayloads(BoundedServer):
    """A byte now and then is no progress."""
    options = ("--memory=8M", "--loops=1")
    growth = 64 * MIB

    def trickle(self, clients, stop):
        while not stop.wait(0.5):
            for client in clients:
                try:
                    client.sock.send(b"x")
                except OSError:
                    pass

    def test_others_get_memory_in_time(self):
        clients = [self.server.client() for _ in range(10)]
        for n, client in enumerate(clients):
            client.send(client.encode(CMD_WRITE, 0, MIB, 0, n) + bytes(100))
        stop = threading.Event()
        feeder = threading.Thread(target=self.trickle, args=(clients, stop))
        feeder.start()
        try:
            self.good.sock.settimeout(60)
            self.good.write(0, bytes(MIB))
        finally:
            stop.set()
            feeder.join()
        for client in clients:
            client.close()


class StalledPayloadGoesOn(BoundedServer):
    options = ("--memory=16M",)

    def test_a_payload_that_pauses_while_nobody_waits(self):
        """A slow client alone is not dropped."""
        with self.server.client() as client:
            _, data = client.submit(CMD_WRITE, 0, payload=b"p" * MIB,
                                    send=False)
            client.send(data[:300000])
            self.good.read(0, 512)
            client.send(data[300000:])
            self.assertEqual(client.receive()[1].error, 0)
            self.assertEqual(client.read(0, MIB), b"p" * MIB)
            client.disconnect()


class Trims(unittest.TestCase):
    def test_a_million_to_a_stalled_disk(self):
        with Server("memory", "1G", "tdelay=3600", options=[
                "--filter=delay", "--drain-timeout=5"]) as server:
            good = server.client(structured=True)
            good.read(0, 512)
            before = server.rss()
            with server.client() as client:
                one = b"".join(client.encode(CMD_TRIM, n * 4096, 4096,
                                             cookie=n) for n in range(10000))
                sent = send_until_blocked(client, one, limit=28 * 1000000)
                self.assertLess(sent, 28 * 1000000)
                good.read(0, 512)
                server.check_good()
            good.read(0, 512)
            if not server.sanitized():
                self.assertLess(server.peak_rss(), before + 100 * MIB)
            good.disconnect()

    def test_many_to_a_quick_disk(self):
        with Server("memory", "1G") as server, server.client() as client:
            count = 100000
            data = b"".join(client.encode(CMD_TRIM, n * 4096, 4096, cookie=n)
                            for n in range(count))
            client.pump(data + client.encode(CMD_DISC))
            replies = client.drain()
            self.assertEqual(len(replies), 16 * count)
            errors = {replies[at:at + 8] for at in range(0, 16 * count, 16)}
            self.assertEqual(errors, {bytes.fromhex("6744669800000000")})
            cookies = {replies[at:at + 8] for at in range(8, 16 * count, 16)}
            self.assertEqual(len(cookies), count)


class Vanishing(unittest.TestCase):
    def test_with_requests_in_flight(self):
        with Server("memory", "64M", "rdelay=700ms", "wdelay=700ms",
                    options=["--filter=delay"]) as server:
            good = server.client()
            server.check_good()
            fds = server.fds()
            for how in STYLES.values():
                for _ in range(5):
                    with server.client(**how) as client:
                        for n in range(64):
                            client.submit(CMD_WRITE, n * 65536,
                                          payload=bytes(65536))
                            client.submit(CMD_READ, n * 65536, 65536)
            good.read(0, 512)
            wait_until(lambda: server.fds() <= fds, what="descriptors back")
            good.disconnect()

    def test_while_lent_memory_is_half_sent(self):
        with Server("memory", "64M") as server:
            writer = server.client()
            for n in range(32):
                writer.write(n * MIB, bytes([n + 1]) * MIB)
            for turn in range(20):
                how = list(STYLES.values())[turn % 3]
                with server.client(**how) as client:
                    client.submit(CMD_READ, 0, 32 * MIB)
                    client.recv(100000)
                    # the pages that are lent are taken away under the reply
                    writer.call(CMD_TRIM, 0, 32 * MIB)
                    writer.write(4 * MIB, b"new" * 100000)
                writer.read(0, MIB)
            writer.disconnect()

    def test_lent_memory_that_is_trimmed_is_old_or_new(self):
        with Server("memory", "64M") as server:
            writer = server.client()
            writer.write(0, b"\xaa" * (32 * MIB))
            with server.client(structured=True) as client:
                client.submit(CMD_READ, 0, 32 * MIB, DF)
                head = client.recv(20 + 8 + 65536)
                self.assertEqual(head[28:], b"\xaa" * 65536)
                writer.call(CMD_TRIM, 0, 32 * MIB)
                writer.write(0, b"\xbb" * (32 * MIB))
                rest = client.recv(32 * MIB - 65536)
                self.assertLessEqual(set(rest), {0, 0xaa, 0xbb})
            writer.disconnect()

    def test_half_closed_and_waiting_costs_no_cpu(self):
        """Seeing the end of a client must not become a busy loop while its
        request is still with the disk."""
        with Server("memory", "1M", "rdelay=2",
                    options=["--filter=delay"]) as server, \
                server.client() as client:
            ticks = server.cpu_ticks()
            client.submit(CMD_READ, 0, 512)
            client.sock.shutdown(1)
            client.receive()
            client.expect_eof()
            used = server.cpu_ticks() - ticks
            self.assertLess(used, 0.5 * os.sysconf("SC_CLK_TCK"))


class Truncated(unittest.TestCase):
    def test_file_shrinks_in_the_middle_of_a_read(self):
        for style, how in STYLES.items():
            with self.subTest(style=style), temporary_directory() as path:
                self.check(style, how, os.path.join(path, "image"))

    def check(self, style, how, image):
        with open(image, "wb") as file:
            file.write(b"f" * (48 * MIB))
        with Server("file", "file=" + image) as server:
            for _ in range(3):
                with server.client(**how) as client:
                    self.read_while_it_shrinks(client, style, image)
                os.truncate(image, 0)
                with open(image, "wb") as file:
                    file.write(b"f" * (48 * MIB))
            with server.client() as client:
                self.assertEqual(client.read(0, 512), b"f" * 512)
                client.disconnect()

    def read_while_it_shrinks(self, client, style, image):
        client.submit(CMD_READ, 0, 32 * MIB)
        client.sock.recv(1, 2)      # MSG_PEEK: the reply has begun
        os.truncate(image, 4096)
        if style == "simple":
            # Success in full, an error, or the end after a started reply.
            head = client.drain_or_reply(16)
            if head[4:8] == bytes(4):
                data = client.drain_or_reply(32 * MIB)
                self.assertLessEqual(set(data), set(b"f\0"))
            return
        _, reply = client.receive()
        if not reply.error:
            self.assertLessEqual(set(reply.data), set(b"f\0"))
        # the connection has stayed in step
        reply = client.call(CMD_FLUSH)
        self.assertEqual(reply.error, 0)


class ManyClients(BoundedServer):
    growth = 48 * MIB
    options = ("--max-connections=400",)

    def test_300_idle_clients_cost_little(self):
        raise_file_limit()
        clients = []
        for _ in range(300):
            clients.append(self.server.client())
            clients[-1].read(0, 512)
        if not self.server.sanitized():
            self.assertLess(self.server.rss(), self.rss + 300 * 16384)
        self.assertLess(self.server.threads(), 12)
        for client in clients:
            client.disconnect()


if __name__ == "__main__":
    unittest.main()
