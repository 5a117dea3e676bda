#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Clients that ask for much and never read: others are served (after a while
the idle ones are dropped if they hold what others wait for), and the server's
memory stays within its budget."""

import unittest

from constants import *
from test_hostile import MIB, BoundedServer, send_until_blocked


class NeverRead(BoundedServer):
    """80 MiB is the default budget; lent memory costs nothing."""
    growth = 140 * MIB
    plugin = ("pattern", "1G")

    def test_readers_that_do_not_read(self):
        clients = [self.server.client(structured=n % 2 == 1)
                   for n in range(20)]
        for n, client in enumerate(clients):
            size = (MIB, 4096, 32 * MIB, 65536)[n % 4]
            data = b"".join(client.submit(CMD_READ, i * 4096, size,
                                          send=False)[1] for i in range(200))
            send_until_blocked(client, data, limit=4 * MIB)
            self.good.read(n * MIB, 65536)
        for client in clients:
            client.close()
        self.good.read(0, 4096)


class NeverReadMemory(NeverRead):
    plugin = ("memory", "64M")

    def setUp(self):
        super().setUp()
        for n in range(64):
            self.good.write(n * MIB, bytes([n + 1]) * MIB)
        self.rss = self.server.rss()


if __name__ == "__main__":
    unittest.main()
