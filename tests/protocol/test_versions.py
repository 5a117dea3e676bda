#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Plugins and filters built with another version of the headers: with the same
ABI and a smaller or bigger struct they serve, with another ABI they are refused
by a message that names both versions."""

import os
import unittest

from server import Server, build, run, temporary_directory

OURS = 1        # ABD_ABI
# As in the headers: the least that must be there, and more.
LEAST_FILTER = "offsetof(struct abd_filter, flags)"
LEAST_PLUGIN = "offsetof(struct abd_plugin, create)"
SOME_PLUGIN = "offsetof(struct abd_plugin, config)"
BIGGER = "+64"


class Versions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = cls.enterClassContext(temporary_directory())
        cls.built = 0

    def build(self, kind, **macros):
        type(self).built += 1
        return build("aged", kind, "aged%d" % self.built, self.directory,
                     "-include", "stddef.h",
                     *["-DAGED_%s=(%s)" % item for item in macros.items()])

    def check_served(self, *plugin, options=(), text=""):
        with Server(*plugin, options=list(options)) as server:
            with server.client(structured=True) as client:
                self.assertEqual(client.read(4096, 8192), b"a" * 8192)
                client.disconnect()
            self.assertIn(text, server.stderr())

    def check_refused(self, arguments, *texts):
        """Also where it is only asked what it is."""
        for more in ((), ("--dump-plugin",)):
            done = run("-f", "-U", os.path.join(self.directory, "sock"), *more,
                       *arguments)
            self.assertNotEqual(done.returncode, 0)
            for text in texts:
                self.assertIn(text, done.stderr)
            self.assertFalse(os.path.exists(
                os.path.join(self.directory, "sock")))

    def check_abi(self, abi, path, arguments):
        newer = "; a newer server is needed"
        self.check_refused(
            arguments, "%s: it was built for ABI %d of abdkit, this server has "
            "%d%s" % (path, abi, OURS, newer if abi > OURS else "\n"))

    def test_plugin_of_another_abi(self):
        for abi in (0, 2, 99):
            with self.subTest(abi=abi):
                path = self.build("plugin", ABI=abi)
                self.check_abi(abi, path, [path])

    def test_filter_of_another_abi(self):
        for what in ("ABI", "PLUGIN_ABI"):
            for abi in (0, 2, 99):
                with self.subTest(what=what, abi=abi):
                    path = self.build("filter", **{what: abi})
                    self.check_abi(abi, path, ["--filter=" + path, "null"])

    def test_plugin_with_more_fields(self):
        path = self.build("plugin", SIZE="sizeof(struct abd_plugin)" + BIGGER)
        self.check_served(path)

    def test_plugin_with_fewer_fields(self):
        """So far all that came after the first version is nothing: the last
        field is one that is needed."""
        path = self.build("plugin", SIZE="offsetof(struct abd_plugin, close)")
        self.check_refused([path], path + ": a plugin needs close()")
        path = self.build("plugin", SIZE=LEAST_PLUGIN + "-1")
        self.check_refused([path], path + ": its struct_size is ", "at least ")

    def test_filter_with_more_fields(self):
        plugin = self.build("plugin")
        path = self.build(
            "filter", SIZE="sizeof(struct abd_filter)" + BIGGER,
            PLUGIN_SIZE="sizeof(struct abd_plugin)" + BIGGER)
        self.check_served(plugin, options=["--filter=" + path],
                          text="the filter is here")

    def test_filter_with_fewer_fields(self):
        """What it does not have is nothing, whatever lies there."""
        plugin = self.build("plugin")
        for size in (LEAST_FILTER, "offsetof(struct abd_filter, background)"):
            with self.subTest(size=size):
                path = self.build("filter", SIZE=size, PLUGIN_SIZE=SOME_PLUGIN)
                self.check_served(plugin, options=["--filter=" + path],
                                  text="the filter is here")

    def test_filter_with_too_few_fields(self):
        for what, size in (("SIZE", LEAST_FILTER), ("PLUGIN_SIZE",
                                                    LEAST_PLUGIN)):
            with self.subTest(what=what):
                path = self.build("filter", **{what: size + "-1"})
                self.check_refused(["--filter=" + path, "null"],
                                   path + ": its struct_size is ", "at least ")


if __name__ == "__main__":
    unittest.main()
