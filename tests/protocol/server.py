# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Starts the server under test, watches it and ends it.

The program comes from the environment: ABDKIT, and ABDKIT_ARGS for arguments
in front of all others.  Each server lives in a private directory.  It counts
as started when its pidfile is there (clients can connect then), and must end
by SIGTERM with status 0 and without a sanitizer's report on stderr."""

import contextlib
import ctypes
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from nbdproto import Handshake, TIMEOUT, connect_unix

REPORTS = re.compile(
    r"(AddressSanitizer|LeakSanitizer|ThreadSanitizer|MemorySanitizer"
    r"|runtime error:|Assertion .* failed|==\d+==ERROR)")
IN_CLOSE_WRITE, IN_MOVED_TO = 0x8, 0x80


def program():
    path = os.environ.get("ABDKIT")
    if not path:
        raise unittest.SkipTest("ABDKIT is not set to the server's path")
    return [path] + shlex.split(os.environ.get("ABDKIT_ARGS", ""))


def clean_environment(**more):
    """The environment of a server: none of a test's own sockets."""
    env = {key: value for key, value in os.environ.items()
           if not key.startswith("LISTEN_")}
    env.update(more)
    return env


class DirectoryWatch:
    """Tells, through inotify, that something in a directory was written."""

    def __init__(self, path):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0 or libc.inotify_add_watch(
                self.fd, os.fsencode(path), IN_CLOSE_WRITE | IN_MOVED_TO) < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def wait_for(self, path, pidfd, timeout=TIMEOUT):
        """True: the file has content.  False: the process ended before."""
        end = time.monotonic() + timeout
        while not (os.path.exists(path) and os.path.getsize(path)):
            left = end - time.monotonic()
            ready, _, _ = select.select([self.fd, pidfd], [], [], max(0, left))
            if self.fd in ready:
                os.read(self.fd, 65536)
            elif pidfd in ready:
                return bool(os.path.exists(path) and os.path.getsize(path))
            elif left <= 0:
                raise TimeoutError("no %s after %d s" % (path, timeout))
        return True

    def close(self):
        os.close(self.fd)


class Server:
    """server = Server("memory", "16M", options=["--loops=2"]); a context
    manager that ends it with stop()."""

    def __init__(self, *plugin, options=(), unix=True, env=None,
                 foreground=True, mode=0o700, **popen):
        self.dir = tempfile.mkdtemp(prefix="abdtest-")
        os.chmod(self.dir, mode)
        self.ended = False      # the test has looked at the exit status
        self.path = os.path.join(self.dir, "sock")
        self.pidfile = os.path.join(self.dir, "pid")
        self.stderr_path = os.path.join(self.dir, "stderr")
        self.process = None
        command = program() + (["-f"] if foreground else [])
        command += ["-U", self.path] if unix else []
        command += ["-P", self.pidfile, *options, *plugin]
        self.command = command
        popen.setdefault("stdin", subprocess.DEVNULL)
        popen.setdefault("stdout", subprocess.DEVNULL)
        watch = DirectoryWatch(self.dir)
        try:
            with open(self.stderr_path, "wb") as stderr:
                self.process = subprocess.Popen(
                    command, stderr=stderr, env=env or clean_environment(),
                    **popen)
            self.pidfd = os.pidfd_open(self.process.pid)
            if not watch.wait_for(self.pidfile, self.pidfd):
                raise AssertionError("%s ended with %d: %s" % (
                    " ".join(command), self.process.wait(), self.stderr()))
        except BaseException:
            self.kill()
            raise
        finally:
            watch.close()
        with open(self.pidfile) as file:
            self.pid = int(file.read())

    def __enter__(self):
        return self

    def __exit__(self, kind, *exc):
        if kind is None:
            self.stop()
        else:
            self.kill()

    def stderr(self):
        with open(self.stderr_path, errors="replace") as file:
            return file.read()

    def connect(self, timeout=TIMEOUT):
        """A Handshake that has read nothing yet."""
        return Handshake(connect_unix(self.path, timeout), timeout)

    def greet(self, flags=3):
        return self.connect().greet(flags)

    def client(self, structured=False, extended=False, meta=False, name=""):
        """A client in transmission."""
        handshake = self.greet()
        if structured or (meta and not extended):
            handshake.structured_reply()
        if extended:
            handshake.extended_headers()
        if meta:
            handshake.set_meta(name)
        return handshake.go(name)

    def check_good(self):
        """A client of its own, from connect to disconnect, works."""
        with self.client(structured=True) as client:
            client.read(0, 512)
            client.disconnect()

    def signal(self, number):
        os.kill(self.pid, number)

    def alive(self):
        return self.process.poll() is None

    def wait(self, timeout=TIMEOUT):
        """The exit status, which the test then judges instead of stop()."""
        status = self.process.wait(timeout)
        self.ended = True
        self.check_stderr()
        return status

    def check_stderr(self):
        text = self.stderr()
        found = REPORTS.search(text)
        if found:
            raise AssertionError("report on stderr:\n" + text[-8000:])

    def stop(self, expect=0, timeout=TIMEOUT):
        """SIGTERM; checks the exit status, the log, and what is left."""
        try:
            if self.alive():
                self.signal(signal.SIGTERM)
            status = self.process.wait(timeout)
            self.check_stderr()
            if status != expect and not self.ended:
                raise AssertionError("exit status %d instead of %d: %s" % (
                    status, expect, self.stderr()[-4000:]))
        finally:
            self.kill()

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if getattr(self, "pidfd", None) is not None:
            os.close(self.pidfd)
            self.pidfd = None
        shutil.rmtree(self.dir, ignore_errors=True)

    # What /proc says

    def status(self, key):
        with open("/proc/%d/status" % self.pid) as file:
            for line in file:
                if line.startswith(key + ":"):
                    return int(line.split()[1])
        raise KeyError(key)

    def rss(self):
        return self.status("VmRSS") * 1024

    def peak_rss(self):
        return self.status("VmHWM") * 1024

    def threads(self):
        return self.status("Threads")

    def fds(self):
        return len(os.listdir("/proc/%d/fd" % self.pid))

    def cpu_ticks(self):
        with open("/proc/%d/stat" % self.pid) as file:
            fields = file.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def sanitized(self):
        """True where memory cannot be compared with plain builds."""
        if os.environ.get("ABD_SANITIZED"):
            return True
        with open("/proc/%d/maps" % self.pid) as file:
            text = file.read()
        with open("/proc/%d/comm" % self.pid) as file:
            comm = file.read()
        return "libasan" in text or "libtsan" in text or "memcheck" in comm


def is_sanitized():
    """The build under test, not the process: before it is started."""
    with open(program()[0], "rb") as file:
        data = file.read()
    return b"__asan_init" in data or b"__tsan_init" in data


def run(*args, timeout=TIMEOUT, input=None, env=None, **more):
    """The program with these arguments, to its end; stderr is checked for
    reports.  Returns the CompletedProcess with text output."""
    done = subprocess.run(program() + list(args), capture_output=True,
                          text=True, errors="replace", timeout=timeout,
                          input=input, env=env or clean_environment(), **more)
    if REPORTS.search(done.stderr):
        raise AssertionError("report on stderr:\n" + done.stderr)
    return done


@contextlib.contextmanager
def temporary_directory():
    with tempfile.TemporaryDirectory(prefix="abdtest-") as path:
        yield path


def wait_until(question, timeout=TIMEOUT, what="condition"):
    """For what has no event to wait for (another process's /proc): asks
    again, with a short pause that grows."""
    end, pause = time.monotonic() + timeout, 0.001
    while not question():
        if time.monotonic() > end:
            raise TimeoutError("%s not met in %g s" % (what, timeout))
        time.sleep(pause)
        pause = min(pause * 2, 0.1)


def free_port():
    """A TCP port of the loopback that nobody used a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class TcpServer(Server):
    """The same on a TCP port of 127.0.0.1."""

    def __init__(self, *plugin, options=(), **more):
        for attempt in range(5):    # somebody may take the port before it
            self.port = free_port()
            try:
                super().__init__(*plugin, unix=False, options=[
                    "-i", "127.0.0.1", "-p", str(self.port), *options],
                    **more)
                return
            except AssertionError as error:
                if "in use" not in str(error) or attempt == 4:
                    raise

    def connect(self, timeout=TIMEOUT):
        sock = socket.create_connection(("127.0.0.1", self.port), timeout)
        return Handshake(sock, timeout)


def build_plugin(name, directory):
    """Compiles NAME_plugin.c of this folder against the public headers."""
    return build(name, "plugin", name, directory)


def build_filter(name, directory, **macros):
    """The same for NAME_filter.c; macros are part of the file's name."""
    variant = name + "".join("-%s-%s" % item for item in macros.items())
    return build(name, "filter", variant, directory,
                 *["-D%s=%s" % item for item in macros.items()])


def build(name, kind, variant, directory, *flags):
    here = os.path.dirname(os.path.abspath(__file__))
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if not compiler:
        raise unittest.SkipTest("no C compiler for a test's plugin")
    path = os.path.join(directory, "abdkit-%s-%s.so" % (variant, kind))
    subprocess.run([
        compiler, "-shared", "-fPIC", "-std=gnu11", "-Wall", "-Wextra",
        "-Werror", "-Wno-missing-field-initializers", *flags, "-o", path,
        "-I", os.path.join(here, "..", "..", "include"),
        os.path.join(here, "%s_%s.c" % (name, kind))], check=True)
    return path
