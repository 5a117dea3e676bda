#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""The command line: every option in every spelling, what is said about wrong
ones, and that an error leaves nothing behind."""

import ctypes
import os
import pwd
import re
import resource
import unittest

from constants import *
from server import Server, is_sanitized, run, temporary_directory

PR_CAPBSET_DROP, CAP_IPC_LOCK, CAP_SYS_RESOURCE = 24, 14, 24
libc = ctypes.CDLL(None)

SPELLINGS = [
    ["-4", "--ipv4-only"], ["-6", "--ipv6-only"],
    ["-e x", "--export x", "--export-name x", "--exportname x",
     "--exportname=x"],
    ["-f", "--foreground", "--no-fork"],
    ["-n", "--newstyle", "--new-style"], ["-o", "--oldstyle", "--old-style"],
    ["-r", "--readonly", "--read-only"], ["-v", "--verbose"],
    ["-t 4", "--threads 4", "--threads=4"],
    ["-P pid", "--pidfile pid", "--pid-file pid", "--pidfile=pid"],
    ["-D server.requests=1", "--debug server.requests=1"],
    ["--filter=delay", "--filter delay"], ["--log=stderr", "--log stderr"],
    ["--log=null"], ["--log=syslog"], ["--mask-handshake=1"], ["--no-sr"],
    ["--tls=off"], ["--exit-with-parent"], ["--loops=2"], ["--memory=8M"],
    ["--max-connections=7"], ["--handshake-timeout=3"], ["--timeout=3"],
    ["--drain-timeout=3"], ["--work-threads=2"], ["--keepalive"],
    ["--plugin-path=/nonexistent"], ["--filter-path=/nonexistent"],
    ["--status=st"],
]
LONG = """ipv4-only ipv6-only debug drain-timeout dump-config dump-plugin
exit-with-parent export export-name exportname filter filter-path foreground
no-fork group handshake-timeout help ip-addr ipaddr keepalive log loops
mask-handshake max-connections memory new-style newstyle no-sr old-style
oldstyle pid-file pidfile plugin-path port print-uri read-only readonly run
selinux-label single status status-of stdin swap threads timeout tls
tls-certificates tls-psk tls-verify-peer unix user verbose version vsock
work-threads""".split()
SHORT = list("46DefginoPprstUuvV")

# arguments in front of "memory 1M", and what the message must contain
REFUSED = [
    (["--nonsense"], "nonsense"),
    (["-Z"], "-Z"),
    (["--memroy=8M"], "memory"),
    (["--memory=1M"], "memory"),
    (["--memory=many"], "many"),
    (["--memory"], "memory"),
    (["--loops=0"], "loops"),
    (["--loops=x"], "loops"),
    (["--threads=0"], "threads"),
    (["--threads=-3"], "-3"),
    (["-t", "nine"], "nine"),
    (["--work-threads=0"], "work-threads"),
    (["--max-connections=0"], "max-connections"),
    (["--handshake-timeout=soon"], "soon"),
    (["--drain-timeout=-1"], "-1"),
    (["--timeout=1x"], "1x"),
    (["--log=paper"], "paper"),
    (["--mask-handshake=z"], "mask-handshake"),
    (["--tls=on"], "TLS"),
    (["--tls=require"], "TLS"),
    (["--tls=maybe"], "maybe"),
    (["--tls-certificates=/tmp"], "TLS"),
    (["--tls-psk=/tmp/x"], "TLS"),
    (["--tls-verify-peer"], "TLS"),
    (["--selinux-label=a:b:c"], "SELinux"),
    (["-D", "nothing"], "nothing"),
    (["-D", "memory.nothing=1"], "nothing"),
    (["-D", "memory.nothing"], "memory.nothing"),
    (["-e", "x" * 4097], "4096"),
    (["--filter=nosuchfilter"], "nosuchfilter"),
    (["--filter="], "filter"),
    (["--readonly=yes"], "readonly"),
    (["-u", "no-such-user-here"], "no-such-user-here"),
    (["-g", "no-such-group-here"], "no-such-group-here"),
    (["-s", "--run", "true"], "--run"),
]
# the plugin and its parameters
REFUSED_PLUGINS = [
    (["nosuchplugin"], "nosuchplugin"),
    (["./nosuchplugin.so"], "nosuchplugin"),
    (["../memory", "1M"], "../memory"),
    (["/dev/null"], "/dev/null"),
    (["memory"], "size"),
    (["memory", "1M", "nosuchkey=1"], "nosuchkey"),
    (["memory", "size=huge"], "huge"),
    (["memory", "size=-1"], "-1"),
    (["memory", "size=9223372036854775808"], "9223372036854775808"),
    (["null", "size=1Q"], "1Q"),
    (["file"], "file"),
    (["file", "nosuchkey=1", "file=x"], "nosuchkey"),
    (["memory", "1M", "rdelay=1"], "rdelay"),
]
REFUSED_FILTERS = [
    ("delay", "rdelay=slow", "slow"), ("delay", "rdelay=-1", "-1"),
    ("error", "error=ENOSUCH", "ENOSUCH"),
    ("error", "error-rate=2", "error-rate"),
    ("limit", "limit=x", "limit"),
]


class CommandLine(unittest.TestCase):
    def setUp(self):
        directory = temporary_directory()
        self.dir = directory.__enter__()
        self.addCleanup(directory.__exit__, None, None, None)

    def run_here(self, *args, **more):
        return run(*args, cwd=self.dir, **more)

    def assert_refused(self, done, text):
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(text, done.stderr)
        self.assertTrue(done.stderr.endswith("\n"))
        self.assertLess(len(done.stderr), 2000)
        self.assertEqual(os.listdir(self.dir), [])

    def test_every_spelling(self):
        for group in SPELLINGS:
            for spelling in group:
                with self.subTest(spelling=spelling):
                    tcp = spelling in ("-4", "--ipv4-only", "-6",
                                       "--ipv6-only")
                    done = self.run_here(
                        *spelling.split(), "-U", "sock", "--run",
                        "test -S \"$unixsocket\" && exit 9", "memory", "1M")
                    self.assertEqual(done.returncode, 9,
                                     done.stderr + str(tcp))
                    self.assertEqual(os.listdir(self.dir), [])

    def test_options_behind_the_plugin(self):
        done = self.run_here("memory", "1M", "-U", "-", "--run", "exit 3")
        self.assertEqual(done.returncode, 3, done.stderr)

    def test_long_and_short_options(self):
        lines = run("--long-options").stdout.split()
        for name in LONG:
            self.assertIn("--" + name, lines)
        self.assertEqual(len(lines), len(set(lines)))
        lines = run("--short-options").stdout.split()
        for letter in SHORT:
            self.assertIn("-" + letter, lines)

    def test_help_mentions_every_option(self):
        done = run("--help")
        self.assertEqual(done.returncode, 0)
        groups = [{"export", "export-name", "exportname"},
                  {"foreground", "no-fork"}, {"ip-addr", "ipaddr"},
                  {"new-style", "newstyle"}, {"old-style", "oldstyle"},
                  {"pid-file", "pidfile"}, {"read-only", "readonly"},
                  {"single", "stdin"}, {"handshake-timeout", "timeout"}]
        alone = set(LONG) - {"long-options", "short-options"}.union(*groups)
        for group in groups:
            self.assertRegex(done.stdout, r"--(%s)\b" % "|".join(group))
        for name in alone:
            self.assertRegex(done.stdout, r"--%s\b" % name)
        done = run("memory", "--help")
        self.assertEqual(done.returncode, 0)

    def test_version(self):
        for spelling in ("-V", "--version"):
            done = run(spelling)
            self.assertEqual(done.returncode, 0)
            self.assertRegex(done.stdout, r"^abdkit \d+\.\d+")

    def test_dump_config(self):
        done = run("--dump-config")
        self.assertEqual(done.returncode, 0)
        values = dict(line.split("=", 1) for line in done.stdout.splitlines())
        for key in ("plugindir", "filterdir", "version", "name"):
            self.assertIn(key, values)

    def test_dump_plugin(self):
        for plugin in ("memory", "null", "pattern", "file"):
            with self.subTest(plugin=plugin):
                done = run("--dump-plugin", plugin)
                self.assertEqual(done.returncode, 0, done.stderr)
                values = dict(line.split("=", 1)
                              for line in done.stdout.splitlines())
                self.assertEqual(values["name"], plugin)
                self.assertTrue(os.path.exists(values["path"]))

    def test_plugin_by_path(self):
        out = run("--dump-plugin", "memory").stdout
        path = re.search(r"(?m)^path=(.*)$", out).group(1)
        done = self.run_here(path, "1M", "-U", "-", "--run", "exit 5")
        self.assertEqual(done.returncode, 5, done.stderr)
        os.symlink(path, os.path.join(self.dir, "abdkit-other-plugin.so"))
        done = self.run_here("./abdkit-other-plugin.so", "1M", "-U", "-",
                             "--run", "exit 6")
        self.assertEqual(done.returncode, 6, done.stderr)
        done = self.run_here("--plugin-path=" + self.dir, "other", "1M", "-U",
                             "-", "--run", "exit 8")
        self.assertEqual(done.returncode, 8, done.stderr)
        os.unlink(os.path.join(self.dir, "abdkit-other-plugin.so"))

    def test_wrong_options_are_named(self):
        for args, text in REFUSED:
            with self.subTest(args=args):
                where = [] if args[0] == "-s" else ["-U", "sock"]
                self.assert_refused(self.run_here(
                    "-f", *where, "-P", "pid", *args, "memory", "1M"), text)

    def test_wrong_plugins_are_named(self):
        for args, text in REFUSED_PLUGINS:
            with self.subTest(args=args):
                self.assert_refused(self.run_here(
                    "-f", "-U", "sock", "-P", "pid", *args), text)

    def test_wrong_filter_values_are_named(self):
        for name, parameter, text in REFUSED_FILTERS:
            with self.subTest(parameter=parameter):
                self.assert_refused(self.run_here(
                    "-f", "-U", "sock", "-P", "pid", "--filter=" + name,
                    "memory", "1M", parameter), text)

    def test_no_plugin(self):
        self.assert_refused(self.run_here("-f"), "plugin")

    def test_errors_reach_the_terminal_in_the_background_too(self):
        self.assert_refused(self.run_here("-U", "sock", "-P", "pid", "memory",
                                          "size=huge"), "huge")

    def test_missing_file_is_an_error_of_its_name(self):
        """At start or when a client comes, but never silently."""
        done = self.run_here("-f", "-U", "-", "file", "file=no-such-image",
                             "--run", "exit 77")
        if done.returncode != 77:
            self.assert_refused(done, "no-such-image")


    def test_what_is_wrong_is_said_once(self):
        """By who knows it best; nobody repeats it as "Invalid argument"."""
        for arguments in (["memory"], ["file", "no-such-image"],
                          ["memory", "1M", "--memory=4M", "--loops=64"]):
            done = self.run_here("-f", "-U", "sock", *arguments)
            self.assertEqual(done.returncode, 1)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        done = self.run_here("-f", "-U", "sock", "memory", "1Q")
        self.assertRegex(done.stderr, "size=1Q was refused$")


class Meanings(unittest.TestCase):
    def test_export_name_is_for_run_only(self):
        """As with nbdkit: what the server offers stays the same."""
        with Server("memory", "1M", options=["-e", "disk-1"]) as server:
            with server.greet() as conn:
                self.assertEqual([name for name, _ in conn.list()], [""])
            for name in ("", "disk-1"):
                with server.client(name=name) as client:
                    client.read(0, 512)
                    client.disconnect()

    def test_log_null_is_silent(self):
        with Server("memory", "1M", options=["--log=null", "-v"]) as server:
            with server.connect() as conn:
                conn.greet(0xffff)
                conn.expect_eof()
            server.check_good()
            self.assertEqual(server.stderr(), "")

    def test_verbose_says_something(self):
        with Server("memory", "1M", options=["-v"]) as server:
            server.check_good()
            self.assertNotEqual(server.stderr(), "")

    def test_control_characters_of_clients_are_quoted_in_the_log(self):
        with Server("memory", "1M", options=["-v", "--filter=log"]) as server:
            with server.client(name="a\x1b[31m\nb") as client:
                client.read(0, 512)
                client.disconnect()
            with server.greet() as conn:
                conn.opt(OPT_INFO, b"\0\0\0\x04\x1b\n\rx\0\0")
            self.assertNotRegex(server.stderr(), r"[\x00-\x08\x0b-\x1f]")

    def test_filters_outermost_first(self):
        """limit=1 outside of a delay; and one filter twice."""
        with Server("memory", "1M", "rdelay=1ms", options=[
                "--filter=log", "--filter=delay", "--filter=log"]) as server:
            server.check_good()

    def test_a_parameter_goes_to_the_first_that_knows_it(self):
        with Server("memory", "1M", "error-pread=EIO", "error-pread-rate=1",
                    options=["--filter=delay", "--filter=error"]) as server, \
                server.client() as client:
            self.assertEqual(client.call(CMD_READ, 0, 512).error, EIO)
            client.disconnect()

    def test_threads_and_loops(self):
        for loops in (1, 2, 4):
            with Server("memory", "1M",
                        options=["--loops=%d" % loops]) as server:
                server.check_good()
                self.assertLessEqual(server.threads(), loops + 2)

    def test_debug_requests(self):
        """Also for more of them than the budget has room for."""
        with Server("memory", "1M", options=["-D", "server.requests=1",
                                             "--memory=4M"]) as server, \
                server.client() as client:
            for n in range(2000):
                client.write(n % 200 * 4096, b"%4d" % n * 1024)
                client.read(n % 200 * 4096, 4096)
            client.disconnect()

    @unittest.skipUnless(os.getuid() == 0, "needs root to change the user")
    def test_user_and_group(self):
        nobody = pwd.getpwnam("nobody")
        for user in ("nobody", str(nobody.pw_uid)):
            with Server("memory", "1M", options=["-u", user],
                        mode=0o777) as server:
                self.assertEqual(server.status("Uid"), nobody.pw_uid)
                server.check_good()
        with Server("memory", "1M",
                    options=["-g", str(nobody.pw_gid)],
                    mode=0o777) as server:
            self.assertEqual(server.status("Gid"), nobody.pw_gid)

    @unittest.skipUnless(
        os.getuid() == 0 or resource.getrlimit(
            resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY,
        "needs root or ulimit -l unlimited to lock memory")
    def test_swap(self):
        with Server("memory", "1M", options=["--swap"]) as server:
            server.check_good()

    @unittest.skipUnless(os.getuid() == 0, "needs root to change the user")
    def test_swap_without_rights(self):
        """What is missing is named, whichever memory it is missing for."""
        if is_sanitized():
            self.skipTest("sanitizers do not lock memory")
        for limit in (64 << 10, 8 << 20):
            def limited():
                for capability in (CAP_IPC_LOCK, CAP_SYS_RESOURCE):
                    libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
                resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))

            with self.subTest(limit=limit):
                done = run("--swap", "-U", "-", "null", "--run", "true",
                           preexec_fn=limited)
                self.assertEqual(done.returncode, 1)
                self.assertIn("--swap", done.stderr)
                self.assertIn("ulimit -l", done.stderr)

    def test_limit_refuses_a_second_client(self):
        with Server("memory", "1M", "limit=1",
                    options=["--filter=limit"]) as server, \
                server.client() as client:
            with server.connect() as conn:
                conn.greet()
                kind = conn.opt(OPT_GO, b"\0\0\0\0\0\0")
                self.assertTrue(kind & REP_ERR)
            client.read(0, 512)
            client.disconnect()

    def test_exitlast(self):
        with Server("memory", "1M", options=["--filter=exitlast"]) as server:
            with server.client() as client:
                client.disconnect()
            self.assertEqual(server.wait(), 0)

    def test_readonly_filter(self):
        with Server("memory", "1M", options=["--filter=readonly"]) as server, \
                server.client() as client:
            self.assertTrue(client.export.flags & READ_ONLY)
            self.assertEqual(client.call(CMD_WRITE, 0, payload=b"x").error,
                             EPERM)
            client.disconnect()


if __name__ == "__main__":
    unittest.main()
