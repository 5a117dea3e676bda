# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Runs one file of unittest tests and writes a line of JSON for each test to
the file named first: name, result, seconds, text.  For tests/run."""

import importlib.util
import json
import os
import sys
import time
import traceback
import unittest


class JsonResult(unittest.TestResult):
    """Each test is one line, however many of its parts failed."""

    def __init__(self, out):
        super().__init__()
        self.out = out
        self.texts, self.result, self.began = [], None, None

    def write(self, name, result, seconds, text):
        json.dump({"name": name, "result": result, "seconds": seconds,
                   "text": text}, self.out)
        self.out.write("\n")
        self.out.flush()

    def startTest(self, test):
        super().startTest(test)
        self.texts, self.result, self.began = [], "passed", time.monotonic()

    def stopTest(self, test):
        super().stopTest(test)
        self.write(test.id(), self.result, time.monotonic() - self.began,
                   "\n".join(self.texts))
        self.began = None

    def note(self, test, result, text):
        if self.began is None:      # of a class or module, not of a test
            self.write(test.id(), result, 0, text)
            return
        if self.result != "failed":
            self.result = result
        self.texts.append(text)

    def failed(self, test, err):
        self.note(test, "failed", "%s:\n%s" % (
            test, "".join(traceback.format_exception(*err))))

    def addError(self, test, err):
        self.failed(test, err)

    def addFailure(self, test, err):
        self.failed(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.failed(subtest, err)

    def addSkip(self, test, reason):
        self.note(test, "skipped", reason)

    def addUnexpectedSuccess(self, test):
        self.note(test, "failed", "unexpected success")


def main():
    path = os.path.abspath(sys.argv[2])
    sys.path.insert(0, os.path.dirname(path))
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with open(sys.argv[1], "w") as out:
        result = JsonResult(out)
        try:
            spec.loader.exec_module(module)
        except unittest.SkipTest as skip:
            result.write(name, "skipped", 0, str(skip))
            return
        suite = unittest.TestSuite(
            test for group in unittest.defaultTestLoader
            .loadTestsFromModule(module) for test in own(group, name))
        suite.run(result)


def own(group, module):
    """Leaves out the tests of classes that the file imported."""
    for test in group:
        if isinstance(test, unittest.TestSuite):
            yield from own(test, module)
        elif type(test).__module__ == module:
            yield test


if __name__ == "__main__":
    main()
