# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""What the tests of this folder share: the modules built for them, and the
byte-level client and the server of the protocol tests.

The modules are in ABD_TEST_MODULES, or else in tests/system of the build folder
that ABDKIT is in."""

import os
import sys
import unittest

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "protocol"))

from server import Server, is_sanitized, program      # noqa: E402


def folder():
    path = os.environ.get("ABD_TEST_MODULES")
    if path:
        return path
    return os.path.join(os.path.dirname(os.path.realpath(program()[0])),
                        "..", "tests", "system")


def built(name):
    """The path of a file that was built for these tests."""
    path = os.path.join(folder(), name)
    if not os.path.exists(path):
        raise unittest.SkipTest("%s is not built" % path)
    return os.path.abspath(path)


def plugin(name):
    return built("abdkit-%s-plugin.so" % name)


def filter_option(name):
    """For a filter of these tests, or of abdkit."""
    if name.startswith(("kids", "nap")):
        name = built("abdkit-%s-filter.so" % name)
    return "--filter=" + name


def serve(plugin, *parameters, chain=(), options=(), **more):
    """A Server with a chain of filters, outermost first."""
    return Server(plugin, *parameters, options=[
        *[filter_option(name) for name in chain], *options], **more)


class ServedCase(unittest.TestCase):
    """A test whose servers are ended, at the latest, when it ends."""

    def serve(self, *arguments, **more):
        server = serve(*arguments, **more)
        self.addCleanup(server.kill)
        return server
