#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""libnbd through its Python module (what nbdsh uses): every command, options
by hand, block status, and hundreds of requests at once."""

import random
import unittest

from clients import ClientTest, Server, need

try:
    import nbd
except ImportError:
    nbd = None


class LibNbd(ClientTest):
    @classmethod
    def setUpClass(cls):
        if nbd is None:
            need("python3-libnbd")
        cls.server = Server("memory", "16M")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def connect(self, opt_mode=False, structured=True):
        handle = nbd.NBD()
        handle.add_meta_context("base:allocation")
        handle.set_request_structured_replies(structured)
        handle.set_opt_mode(opt_mode)
        handle.connect_unix(self.server.path)
        return handle

    def test_all_commands(self):
        for structured in (True, False):
            with self.subTest(structured=structured):
                handle = self.connect(structured=structured)
                self.assertEqual(handle.get_size(), 16 << 20)
                data = random.randbytes(100000)
                handle.pwrite(data, 12345)
                handle.pwrite(data, 1 << 20, nbd.CMD_FLAG_FUA)
                self.assertEqual(handle.pread(100000, 12345), data)
                self.assertEqual(handle.pread(100000, 1 << 20), data)
                handle.flush()
                handle.zero(50000, 12345)
                handle.zero(50000, 1 << 20, nbd.CMD_FLAG_NO_HOLE
                            | nbd.CMD_FLAG_FUA)
                expected = bytes(50000) + data[50000:]
                self.assertEqual(handle.pread(100000, 12345), expected)
                self.assertEqual(handle.pread(100000, 1 << 20), expected)
                if handle.can_trim():
                    handle.trim(16 << 20, 0)
                if handle.can_cache():
                    handle.cache(1 << 20, 0)
                handle.shutdown()

    def test_errors(self):
        handle = self.connect()
        handle.set_strict_mode(0)
        for call in (lambda: handle.pread(512, 16 << 20),
                     lambda: handle.pwrite(b"x" * 512, (16 << 20) - 1),
                     lambda: handle.trim(1, 16 << 20),
                     lambda: handle.block_status(1, 16 << 20,
                                                 lambda *args: 0)):
            self.assertRaises(nbd.Error, call)
        self.assertEqual(len(handle.pread(512, 0)), 512)
        handle.shutdown()

    def test_block_status(self):
        handle = self.connect()
        handle.trim(16 << 20, 0)
        handle.pwrite(b"d" * 65536, 1 << 20)
        seen = []

        def extent(context, offset, entries, error):
            self.assertEqual(context, "base:allocation")
            seen.extend(zip(entries[::2], entries[1::2]))
        handle.block_status(16 << 20, 0, extent)
        self.assertEqual(seen[:2], [(1 << 20, 3), (65536, 0)])
        self.assertEqual(sum(length for length, _ in seen), 16 << 20)
        seen.clear()
        handle.block_status((16 << 20) - 4096, 4096, extent,
                            nbd.CMD_FLAG_REQ_ONE)
        self.assertEqual(seen, [((1 << 20) - 4096, 3)])
        handle.shutdown()

    def test_structured_read(self):
        handle = self.connect()
        handle.trim(16 << 20, 0)
        handle.pwrite(b"d" * 65536, 1 << 20)
        for flags in (0, nbd.CMD_FLAG_DF):
            pieces = []
            data = handle.pread_structured(
                2 << 20, 0, lambda buf, offset, status, error:
                pieces.append((offset, len(buf), status)), flags)
            self.assertEqual(data, bytes(1 << 20) + b"d" * 65536
                             + bytes((1 << 20) - 65536))
            kinds = {status for _, _, status in pieces}
            if flags:
                self.assertEqual(len(pieces), 1)
            else:
                self.assertEqual(kinds, {nbd.READ_DATA, nbd.READ_HOLE})
        handle.shutdown()

    def test_options_by_hand(self):
        handle = self.connect(opt_mode=True)
        names = []
        handle.opt_list(lambda name, text: names.append(name))
        self.assertEqual(names, [""])
        contexts = []
        handle.opt_list_meta_context(contexts.append)
        self.assertEqual(contexts, ["base:allocation"])
        handle.set_export_name("something")
        handle.opt_info()
        self.assertEqual(handle.get_size(), 16 << 20)
        handle.set_export_name("")
        handle.opt_go()
        self.assertTrue(handle.can_meta_context("base:allocation"))
        self.assertEqual(len(handle.pread(512, 0)), 512)
        handle.shutdown()
        handle = self.connect(opt_mode=True)
        handle.opt_abort()

    def test_hundreds_in_flight(self):
        with Server("memory", "16M", "rdelay=50ms", "wdelay=50ms",
                    options=["--filter=delay"]) as server:
            handle = nbd.NBD()
            handle.connect_unix(server.path)
            data = random.randbytes(512 * 4096)
            done = []

            def start(call, *args):
                call(*args, completion=lambda error: done.append(error) or 1)
            for n in range(512):
                start(handle.aio_pwrite,
                      nbd.Buffer.from_bytearray(
                          bytearray(data[n * 4096:(n + 1) * 4096])), n * 4096)
            while len(done) < 512:
                self.assertGreater(handle.poll(30000), 0)
            buffers = [nbd.Buffer(4096) for _ in range(512)]
            for n in range(512):
                start(handle.aio_pread, buffers[n], n * 4096)
            while len(done) < 1024:
                self.assertGreater(handle.poll(30000), 0)
            self.assertEqual(b"".join(bytes(one.to_bytearray())
                                      for one in buffers), data)
            handle.shutdown()

    def test_captive_nbdsh(self):
        need("nbdsh")
        self.check("nbdsh", "-u", self.uri(self.server), "-c",
                   "h.pwrite(b'nbdsh', 77); assert h.pread(5, 77) == "
                   "bytearray(b'nbdsh'); h.shutdown()")


if __name__ == "__main__":
    unittest.main()
