#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Where clients come from and what is left afterwards: unix sockets, TCP,
several at once, sockets of a superserver, stdin, --run, the background."""

import fcntl
import os
import select
import signal
import socket
import subprocess
import time
import unittest

from constants import *
from nbdproto import Handshake, TIMEOUT, connect_unix
from server import DirectoryWatch, Server, TcpServer, clean_environment, \
    free_port, program, run, temporary_directory


def finish(process):
    """Nothing is left running, however the test ended."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe and not pipe.closed:
            pipe.close()


class InDirectory(unittest.TestCase):
    def setUp(self):
        directory = temporary_directory()
        self.dir = directory.__enter__()
        self.addCleanup(directory.__exit__, None, None, None)

    def path(self, name):
        return os.path.join(self.dir, name)

    def use(self, sock):
        with Handshake(sock) as conn:
            client = conn.greet().go()
            client.write(0, b"hello" * 100)
            self.assertEqual(client.read(0, 500), b"hello" * 100)
            client.disconnect()


class Run(InDirectory):
    def test_exit_status_is_the_commands(self):
        for status in (0, 1, 42, 255):
            done = run("-U", "-", "memory", "1M", "--run",
                       "exit %d" % status)
            self.assertEqual(done.returncode, status, done.stderr)

    def test_command_killed_by_a_signal(self):
        done = run("-U", "-", "memory", "1M", "--run", "kill -9 $$")
        self.assertNotEqual(done.returncode, 0)

    VARIABLES = "uri nbd unixsocket port exportname tls"

    def variables(self, *args):
        script = "; ".join("printf '%%s=%%s\\n' %s \"$%s\"" % (name, name)
                           for name in self.VARIABLES.split())
        done = run(*args, "memory", "1M", "--run", script)
        self.assertEqual(done.returncode, 0, done.stderr)
        return dict(line.split("=", 1) for line in done.stdout.splitlines())

    def test_variables_on_a_unix_socket(self):
        found = self.variables("-U", "-", "-e", "x y")
        self.assertTrue(found["unixsocket"].startswith("/"))
        self.assertFalse(os.path.exists(found["unixsocket"]))
        self.assertFalse(os.path.exists(
            os.path.dirname(found["unixsocket"]) + "/nothing"))
        self.assertEqual(found["exportname"], "x y")
        self.assertEqual(found["port"], "")
        self.assertIn(found["tls"], ("", "0", "off"))
        self.assertTrue(found["uri"].startswith("nbd+unix:///"))
        self.assertIn(found["unixsocket"], found["uri"])
        self.assertIn("x%20y", found["uri"])
        self.assertIn(found["unixsocket"], found["nbd"])

    def test_variables_on_a_port(self):
        port = str(free_port())
        found = self.variables("-i", "127.0.0.1", "-p", port)
        self.assertEqual(found["port"], port)
        self.assertEqual(found["unixsocket"], "")
        self.assertRegex(found["uri"], r"^nbd://[^/]*:%s" % port)

    def test_private_socket_vanishes(self):
        done = run("-U", "-", "memory", "1M", "--run",
                   "echo $unixsocket; test -S $unixsocket")
        self.assertEqual(done.returncode, 0)
        path = done.stdout.strip()
        self.assertFalse(os.path.exists(path))
        self.assertFalse(os.path.isdir(os.path.dirname(path))
                         and "abdkit" in os.path.dirname(path))

    def test_the_command_can_be_a_client(self):
        """The command's own connection is served while it runs."""
        script = ("import sys; sys.path.insert(0, %r); import nbdproto as p;"
                  "c = p.Handshake(p.connect_unix(sys.argv[1])).greet().go();"
                  "c.read(0, 512); c.disconnect()" % os.path.dirname(
                      os.path.abspath(__file__)))
        done = run("-U", "-", "memory", "1M", "--run",
                   "/usr/bin/python3 -c '%s' $unixsocket"
                   % script.replace("'", '"'))
        self.assertEqual(done.returncode, 0, done.stderr)


class Files(InDirectory):
    def test_pidfile_and_socket_live_as_long_as_the_server(self):
        server = Server("memory", "1M")
        try:
            self.assertEqual(server.pid, server.process.pid)
            with open(server.pidfile) as file:
                self.assertEqual(file.read(), "%d\n" % server.pid)
            server.check_good()
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait(), 0)
            self.assertFalse(os.path.exists(server.path))
            self.assertFalse(os.path.exists(server.pidfile))
        finally:
            server.stop()

    def test_socket_in_use(self):
        with Server("memory", "1M") as server:
            done = run("-f", "-U", server.path, "-P", self.path("pid"),
                       "memory", "1M")
            self.assertEqual(done.returncode, 1)
            self.assertIn(server.path, done.stderr)
            self.assertRegex(done.stderr, "in use|exists")
            self.assertFalse(os.path.exists(self.path("pid")))
            server.check_good()

    def test_socket_in_a_missing_directory(self):
        done = run("-f", "-U", self.path("none/sock"), "-P",
                   self.path("pid"), "memory", "1M")
        self.assertEqual(done.returncode, 1)
        self.assertIn("none/sock", done.stderr)
        self.assertEqual(os.listdir(self.dir), [])

    def test_socket_path_that_is_too_long(self):
        done = run("-f", "-U", self.path("s" * 200), "memory", "1M")
        self.assertEqual(done.returncode, 1)
        self.assertIn("s" * 50, done.stderr)

    def test_pidfile_in_a_missing_directory(self):
        done = run("-f", "-U", self.path("sock"), "-P",
                   self.path("none/pid"), "memory", "1M")
        self.assertEqual(done.returncode, 1)
        self.assertIn("none/pid", done.stderr)
        self.assertEqual(os.listdir(self.dir), [])


class Tcp(InDirectory):
    def test_loopback(self):
        with TcpServer("memory", "1M") as server:
            self.use(server.connect().sock)

    def test_nagle_is_off(self):
        """Small replies of pipelined requests come without delay (40 ms each
        if the server waited for acknowledgements, which come at once only in
        the beginning).  On a busy machine some take long all the same."""
        rounds = []
        with TcpServer("memory", "1M") as server, server.client() as client:
            for n in range(200):
                start = time.monotonic()
                client.submit(CMD_READ, 0, 700)
                client.submit(CMD_READ, 4096, 700)
                client.receive_all()
                rounds.append(time.monotonic() - start)
            client.disconnect()
        self.assertLess(sorted(rounds[100:])[10], 0.03)

    def test_port_in_use(self):
        with TcpServer("memory", "1M") as server:
            done = run("-f", "-i", "127.0.0.1", "-p", str(server.port), "-P",
                       self.path("pid"), "memory", "1M")
            self.assertEqual(done.returncode, 1)
            self.assertIn(str(server.port), done.stderr)
            self.assertIn("in use", done.stderr)
            self.assertEqual(os.listdir(self.dir), [])
            server.check_good()

    def test_bad_addresses_and_ports(self):
        for args, text in ((["-i", "no.such.host.invalid", "-p", "1"],
                            "no.such.host.invalid"),
                           (["-p", "65536"], "65536"),
                           (["-p", "no-such-service"], "no-such-service"),
                           (["-i", "203.0.113.77", "-p", "9"],
                            "203.0.113.77")):
            with self.subTest(args=args):
                done = run("-f", *args, "memory", "1M")
                self.assertEqual(done.returncode, 1)
                self.assertIn(text, done.stderr)

    def test_unix_and_tcp_together(self):
        port = free_port()
        with Server("memory", "1M", options=[
                "-i", "127.0.0.1", "-p", str(port)]) as server:
            self.use(connect_unix(server.path))
            self.use(socket.create_connection(("127.0.0.1", port), TIMEOUT))
            with server.client() as one:
                one.write(4096, b"shared" * 10)
                other = Handshake(socket.create_connection(
                    ("127.0.0.1", port), TIMEOUT)).greet().go()
                self.assertEqual(other.read(4096, 60), b"shared" * 10)
                other.disconnect()
                one.disconnect()

    def test_ipv4_only(self):
        port = free_port()
        with Server("memory", "1M", unix=False, options=[
                "-4", "-p", str(port)]):
            self.use(socket.create_connection(("127.0.0.1", port), TIMEOUT))
            with self.assertRaises(OSError):
                socket.create_connection(("::1", port), TIMEOUT)

    def test_vsock_works_or_says_why_not(self):
        done = run("--vsock", "-p", "12345", "memory", "1M", "--run",
                   "exit 55")
        if done.returncode != 55:
            self.assertEqual(done.returncode, 1)
            self.assertIn("vsock", done.stderr.lower())


class Activation(InDirectory):
    def start(self, sockets, *args, pid="$$", count=None):
        """The server with listening sockets at descriptors 3 and up."""
        high = [fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD, 50)
                for sock in sockets]

        def place():
            for n, fd in enumerate(high):
                os.dup2(fd, 3 + n)
        command = "LISTEN_PID=%s LISTEN_FDS=%d exec \"$@\"" % (
            pid, len(sockets) if count is None else count)
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", command, "sh", *program(), *args],
                preexec_fn=place, pass_fds=range(3, 3 + len(high)),
                env=clean_environment(), stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE)
            self.addCleanup(finish, process)
            return process
        finally:
            for fd in high:
                os.close(fd)

    def listener(self, name):
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(self.path(name))
        sock.listen(10)
        self.addCleanup(sock.close)
        return sock

    def test_two_sockets(self):
        inet = socket.socket()
        inet.bind(("127.0.0.1", 0))
        inet.listen(10)
        self.addCleanup(inet.close)
        process = self.start([self.listener("one"), inet], "memory", "1M")
        try:
            for _ in range(3):
                self.use(connect_unix(self.path("one")))
                self.use(socket.create_connection(inet.getsockname(),
                                                  TIMEOUT))
            process.terminate()
            self.assertEqual(process.wait(TIMEOUT), 0)
            self.assertTrue(os.path.exists(self.path("one")),
                            "a socket of the superserver was removed")
        finally:
            finish(process)

    def test_listening_options_contradict(self):
        for args in (["-U", "x"], ["-p", "10999"], ["-s"],
                     ["--run", "true"], ["-i", "127.0.0.1"]):
            with self.subTest(args=args):
                process = self.start([self.listener("s%s" % args[0])], *args,
                                     "memory", "1M")
                _, stderr = process.communicate(timeout=TIMEOUT)
                self.assertEqual(process.returncode, 1)
                self.assertIn(args[0].encode(), stderr)

    def test_a_descriptor_that_is_no_socket(self):
        with open("/dev/null") as null:
            process = self.start([null], "memory", "1M")
            _, stderr = process.communicate(timeout=TIMEOUT)
            self.assertEqual(process.returncode, 1)
            self.assertNotEqual(stderr, b"")

    def test_somebody_elses_sockets_are_not_taken(self):
        process = self.start([self.listener("one")], "-U", "-", "memory",
                             "1M", "--run", "exit 12", pid="1")
        process.communicate(timeout=TIMEOUT)
        self.assertEqual(process.returncode, 12)


class Single(InDirectory):
    def start(self, *args, **more):
        process = subprocess.Popen([*program(), *args, "memory", "1M"],
                                   stderr=subprocess.DEVNULL,
                                   env=clean_environment(), **more)
        self.addCleanup(finish, process)
        return process

    def test_socketpair(self):
        for spelling in ("-s", "--single", "--stdin"):
            with self.subTest(spelling=spelling):
                ours, theirs = socket.socketpair()
                process = self.start(spelling, stdin=theirs, stdout=theirs)
                theirs.close()
                ours.settimeout(TIMEOUT)
                self.use(ours)
                self.assertEqual(process.wait(TIMEOUT), 0)

    def test_two_pipes(self):
        process = self.start("-s", stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
        with Handshake(PipePair(process.stdout, process.stdin)) as conn:
            client = conn.greet().go()
            client.write(0, b"pipe" * 1000)
            self.assertEqual(client.read(0, 4000), b"pipe" * 1000)
            client.disconnect()
        self.assertEqual(process.wait(TIMEOUT), 0)

    def test_the_clients_end_is_the_end(self):
        ours, theirs = socket.socketpair()
        process = self.start("-s", stdin=theirs, stdout=theirs)
        theirs.close()
        conn = Handshake(ours)
        conn.read_greeting()
        conn.close()
        self.assertIn(process.wait(TIMEOUT), (0, 1))


class PipePair:
    """Two pipes that look like a socket to Conn."""
    family = None

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def settimeout(self, timeout):
        self.timeout = timeout

    def recv(self, count):
        ready, _, _ = select.select([self.reader], [], [], self.timeout)
        if not ready:
            raise TimeoutError("no reply on the pipe")
        return os.read(self.reader.fileno(), count)

    def sendall(self, data):
        self.writer.write(data)
        self.writer.flush()

    def close(self):
        self.writer.close()
        self.reader.close()


class Background(InDirectory):
    def wait_gone(self, pid):
        """A process that is not our child has ended."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        ready, _, _ = select.select([pidfd], [], [], TIMEOUT)
        os.close(pidfd)
        self.assertTrue(ready, "process %d still runs" % pid)

    def test_relative_paths_are_of_the_starting_directory(self):
        with open(self.path("disk.img"), "wb") as file:
            file.truncate(1 << 20)
        done = run("-U", "sock", "-P", "pid", "file", "disk.img",
                   cwd=self.dir)
        self.assertEqual(done.returncode, 0, done.stderr)
        # The parent has ended, so clients can connect.
        with open(self.path("pid")) as file:
            pid = int(file.read())
        try:
            self.assertEqual(os.readlink("/proc/%d/cwd" % pid), "/")
            self.use(connect_unix(self.path("sock")))
        finally:
            os.kill(pid, signal.SIGTERM)
            self.wait_gone(pid)
        with open(self.path("disk.img"), "rb") as file:
            self.assertEqual(file.read(5), b"hello")
        self.assertEqual(os.listdir(self.dir), ["disk.img"])

    def test_exit_with_parent(self):
        watch = DirectoryWatch(self.dir)
        parent = subprocess.Popen(
            ["/bin/sh", "-c", "\"$@\" & read nothing", "sh", *program(),
             "--exit-with-parent", "-U", self.path("sock"), "-P",
             self.path("pid"), "memory", "1M"],
            stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=clean_environment())
        pidfd = os.pidfd_open(parent.pid)
        try:
            self.assertTrue(watch.wait_for(self.path("pid"), pidfd))
            with open(self.path("pid")) as file:
                pid = int(file.read())
            self.use(connect_unix(self.path("sock")))
        finally:
            parent.kill()
            parent.communicate()
            os.close(pidfd)
            watch.close()
        self.wait_gone(pid)

    def test_print_uri(self):
        process = subprocess.Popen(
            [*program(), "-f", "--print-uri", "-U", self.path("sock"),
             "memory", "1M"], stdout=subprocess.PIPE, text=True,
            stderr=subprocess.PIPE, env=clean_environment())
        try:
            ready, _, _ = select.select([process.stdout, process.stderr], [],
                                        [], TIMEOUT)
            self.assertTrue(ready)
            line = ready[0].readline()
            self.assertRegex(line, r"nbd\+unix:///\?socket=")
            self.assertIn("sock", line)
            self.use(connect_unix(self.path("sock")))
            process.terminate()
            self.assertEqual(process.wait(TIMEOUT), 0)
        finally:
            finish(process)


if __name__ == "__main__":
    unittest.main()
