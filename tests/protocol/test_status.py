#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""--status=PATH answers each connection with one JSON object about exports,
connections and memory."""

import contextlib
import json
import os
import re
import select
import signal
import socket
import stat
import threading
import time
import unittest

from constants import *
from nbdproto import Conn, connect_unix
from server import (Server, build_plugin, run, temporary_directory,
                    wait_until)

MANUAL = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                      "..", "..", "docs", "abdkit-status.pod")
COMMANDS = ["read", "write", "flush", "trim", "cache", "write_zeroes",
            "block_status"]
ASKERS = 32                     # LIMIT_STATUS_CLIENTS
TURN_NS = 100_000_000           # a loop's clock may be that late, under load
LONG_NAME = '"' * 4096          # twice as long in JSON


def ask(path):
    with Conn(connect_unix(path)) as conn:
        text = conn.drain()
    assert text.endswith(b"}\n"), text[-100:]
    return json.loads(text.decode())


class StatusTest(unittest.TestCase):
    def start(self, *plugin, options=(), **more):
        self.directory = self.enterContext(temporary_directory())
        self.path = os.path.join(self.directory, "status")
        return Server(*plugin, options=["--status=" + self.path, *options],
                      **more)

    def ask(self):
        return ask(self.path)

    def assert_traffic(self, counted, requests, errors=0, read=0, written=0):
        self.assertEqual(
            [counted[key] for key in ("requests", "errors", "bytes_read",
                                      "bytes_written")],
            [requests, errors, read, written])

    def assert_idle(self, counted):
        self.assertEqual(counted["requests_in_flight"], 0)
        self.assertIsNone(counted["oldest_ns"])


class Contents(StatusTest):
    def test_of_an_idle_server(self):
        with self.start("memory", "16M", options=[
                "--loops=2", "--memory=20M", "--max-connections=7"]) as server:
            before = time.monotonic_ns()
            status = self.ask()
            self.assertEqual(status["pid"], server.pid)
            self.assertRegex(status["abdkit"], r"^\d+\.\d+\.\d+$")
            self.assertEqual(status["state"], "serving")
            self.assertEqual(status["clients"], 0)
            self.assertEqual(status["max_connections"], 7)
            self.assertEqual(status["memory"]["budget"], 20 << 20)
            self.assertEqual(status["memory"]["in_use"], 0)
            self.assertEqual(status["memory"]["waiting"], 0)
            self.assertEqual((status["exports"], status["disks"],
                              status["connections"]), ([], [], []))
            self.assertEqual([loop["loop"] for loop in status["loops"]],
                             [0, 1])
            self.assertEqual(list(status["latency"]), COMMANDS)
            self.assert_traffic(status, 0)
            self.assert_idle(status)
            again = self.ask()
            passed = time.monotonic_ns() - before
            self.assertLess(status["uptime_ns"], again["uptime_ns"])
            self.assertLessEqual(again["uptime_ns"] - status["uptime_ns"],
                                 passed)

    def test_counts_are_exact(self):
        with self.start("memory", "16M", options=["--loops=2"]) as server, \
                server.client() as one, \
                server.client(structured=True, meta=True) as two:
            for n in range(10):
                one.write(n * 4096, bytes(4096))
            for n in range(7):
                one.read(0, 512)
            two.read(0, 3 << 20)        # in several parts: still one
            for error in (one.call(CMD_READ, 16 << 20, 512),
                          one.call(CMD_WRITE, 16 << 20, payload=bytes(512)),
                          two.call(CMD_TRIM, 1 << 40, 512)):
                self.assertNotEqual(error.error, 0)
            for command in (CMD_TRIM, CMD_WRITE_ZEROES, CMD_CACHE,
                            CMD_BLOCK_STATUS):
                self.assertEqual(two.call(command, 0, 65536).error, 0)
            self.assertEqual(two.call(CMD_FLUSH).error, 0)
            status = self.ask()
            first, second = status["connections"]
            self.assert_traffic(first, 19, 2, 3584, 40960)
            self.assert_traffic(second, 7, 1, 3 << 20, 0)
            for counted in (status, status["exports"][0]):
                self.assert_traffic(counted, 26, 3, 3584 + (3 << 20), 40960)
                self.assert_idle(counted)
            self.assertEqual(
                [status["latency"][name]["count"] for name in COMMANDS],
                [9, 11, 1, 2, 1, 1, 1])
            self.assertEqual(status["clients"], 2)
            self.assertEqual(sum(loop["accepted"]
                                 for loop in status["loops"]), 2)
            one.disconnect()
            two.disconnect()
            wait_until(lambda: self.ask()["clients"] == 0)
            status = self.ask()         # what was done stays counted
            self.assert_traffic(status, 26, 3, 3584 + (3 << 20), 40960)
            self.assert_traffic(status["exports"][0], 26, 3,
                                3584 + (3 << 20), 40960)
            self.assertEqual(status["exports"][0]["users"], 0)
            self.assertEqual(status["connections"], [])

    def test_every_answer_counts_what_came_before_it(self):
        """Two loops, and each time a client who has its reply already."""
        with self.start("null", "1M", options=["--loops=2"]) as server, \
                server.client() as one, server.client() as two:
            for n in range(200):
                one.read(0, 512)
                two.write(0, bytes(100))
                status = self.ask()
                self.assert_traffic(status["exports"][0], 2 * n + 2, 0,
                                    512 * (n + 1), 100 * (n + 1))
                self.assert_traffic(status, 2 * n + 2, 0, 512 * (n + 1),
                                    100 * (n + 1))

    def test_exports_apart(self):
        with temporary_directory() as directory:
            plugin = build_plugin("names", directory)
            with self.start(plugin, "logfile=/dev/null", options=[
                    "--loops=2", "--filter=log"]) as server, \
                    server.client(name="a") as a, \
                    server.client(name="b") as b, \
                    server.client(name="b") as c:
                a.read(0, 1024)
                b.read(0, 512)
                self.assertEqual(
                    c.call(CMD_WRITE, payload=bytes(512)).error, ENOSPC)
                status = self.ask()
                self.check_exports(status)
                for client in (a, b, c):
                    client.disconnect()

    def check_exports(self, status):
        exports = {export["name"]: export for export in status["exports"]}
        self.assertEqual(sorted(exports), ["a", "b"])
        self.assert_traffic(exports["a"], 1, 0, 1024)
        self.assert_traffic(exports["b"], 2, 1, 512)
        self.assertEqual(exports["a"]["users"], 1)
        self.assertEqual(exports["b"]["users"], 2)
        for export in status["exports"]:
            self.assertEqual(export["layer"], "log")
            self.assertEqual(export["state"], "open")
            self.assertEqual(export["size"], 1 << 20)
            self.assertEqual(export["operations"], ["read", "write", "flush"])
            self.assertFalse(export["read_only"])
            self.assertTrue(export["shared"])
            self.assertFalse(export["parallel"])
        self.assertEqual([disk["name"] for disk in status["disks"]],
                         ["a", "b"])
        for disk in status["disks"]:
            self.assertIn("names", disk["layer"])
            self.assertEqual([lane["max_requests"] for lane in disk["lanes"]],
                             [8])
            self.assertNotIn("requests", disk)
        self.assertEqual(
            [(connection["export"], connection["export_id"])
             for connection in status["connections"]],
            [(name, exports[name]["id"]) for name in ("a", "b", "b")])

    def test_read_only(self):
        with self.start("memory", "1M", options=["-r"]) as server, \
                server.client():
            export, = self.ask()["exports"]
            self.assertTrue(export["read_only"])

    def test_connections(self):
        begin = time.monotonic_ns()
        with self.start("memory", "16M") as server, \
                server.client() as simple, \
                server.client(structured=True) as structured, \
                server.client(extended=True) as extended, \
                server.greet() as handshake:
            simple.read(0, 512)
            before = time.monotonic_ns()
            status = self.ask()
            self.assertEqual(
                [(connection["state"], connection["replies"])
                 for connection in status["connections"]],
                [("transmission", "simple"), ("transmission", "structured"),
                 ("transmission", "extended"), ("handshake", "simple")])
            last = status["connections"][-1]
            self.assertIsNone(last["export"])
            self.assertIsNone(last["export_id"])
            for connection in status["connections"]:
                self.assertEqual(connection["address"],
                                 "unix:%d" % os.getpid())
                self.assertEqual(connection["pid"], os.getpid())
                self.assertEqual(connection["uid"], os.getuid())
                self.assertIsNone(connection["waits_for"])
                self.assertFalse(connection["unread_replies"])
            ids = [connection["id"] for connection in status["connections"]]
            self.assertEqual(sorted(set(ids)), ids)
            again = self.ask()["connections"]
            end = time.monotonic_ns()
            for old, new in zip(status["connections"], again):
                self.assertLessEqual(old["age_ns"], end - begin)
                self.assertGreater(new["age_ns"], old["age_ns"])
                self.assertLessEqual(new["age_ns"] - old["age_ns"],
                                     end - before + TURN_NS)
            handshake.close()
            for client in (simple, structured, extended):
                client.disconnect()

    def test_many_connections_on_moving_loops(self):
        """Clients come and go while it is asked: nobody is there twice."""
        stop = threading.Event()

        def come_and_go(server):
            while not stop.is_set():
                server.check_good()

        with self.start("memory", "1M", options=["--loops=4"]) as server:
            threads = [threading.Thread(target=come_and_go, args=(server,))
                       for _ in range(4)]
            for thread in threads:
                thread.start()
            try:
                for _ in range(200):
                    ids = [connection["id"]
                           for connection in self.ask()["connections"]]
                    self.assertEqual(sorted(set(ids)), ids)
            finally:
                stop.set()
                for thread in threads:
                    thread.join()

    def test_names_are_quoted(self):
        for name in ('quote" back\\ tab\t ü', "\x1b[31mred", LONG_NAME, ""):
            with self.subTest(name=name[:20]), \
                    self.start("memory", "16M") as server, \
                    server.client(name=name) as client:
                client.read(0, 512)
                status = self.ask()
                self.assertEqual(status["exports"][0]["name"], name)
                self.assertEqual(status["connections"][0]["export"], name)
                done = run("--status-of", self.path)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertNotRegex(done.stdout, r"[\x00-\x09\x0b-\x1f]")
                client.disconnect()

    def test_every_key_is_in_the_manual(self):
        with open(MANUAL) as file:
            manual = file.read()
        with self.start("memory", "16M", options=["--filter=delay"]) as server:
            with server.client() as client:
                client.read(0, 512)
                keys = set(self.keys_of(self.ask()))
                client.disconnect()
        self.assertGreater(len(keys), 50)
        missing = [key for key in sorted(keys)
                   if not re.search(r"^=item B<%s>" % key, manual, re.M)]
        self.assertEqual(missing, [])

    def keys_of(self, value):
        if isinstance(value, dict):
            for key, inner in value.items():
                yield key
                yield from self.keys_of(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from self.keys_of(inner)


class InFlight(StatusTest):
    def test_the_oldest_grows_older(self):
        with self.start("memory", "16M", "rdelay=3", options=[
                "--filter=delay", "--loops=2"]) as server, \
                server.client() as client, server.client() as other:
            client.write(0, bytes(512))
            sent = time.monotonic_ns()
            for n in range(5):
                client.submit(CMD_READ, 0, 512)
            client.submit(CMD_FLUSH)
            client.receive()
            before = time.monotonic_ns()
            first = self.ask()
            after = time.monotonic_ns()
            self.check_first(first, after - sent)
            grown = first["oldest_ns"] + 4 * TURN_NS
            wait_until(lambda: self.ask()["oldest_ns"] > grown)
            other.submit(CMD_READ, 0, 512)
            other.submit(CMD_FLUSH)
            other.receive()
            asked = time.monotonic_ns()
            second = self.ask()
            end = time.monotonic_ns()
            self.check_second(first, second, asked - after, end - before)
            client.receive_all()
            other.receive_all()
            last = self.ask()
            for counted in (last, *last["exports"], *last["connections"]):
                self.assert_idle(counted)
            self.assert_traffic(last, 9, 0, 6 * 512, 512)
            client.disconnect()
            other.disconnect()

    def check_first(self, status, most_ns):
        export, = status["exports"]
        for counted in (status, export, status["connections"][0]):
            self.assertEqual(counted["requests_in_flight"], 5)
            self.assertLessEqual(counted["oldest_ns"], most_ns + TURN_NS)
        self.assert_idle(status["connections"][1])
        self.assertEqual(sum(lane["in_flight"] for lane in export["lanes"]),
                         5)
        self.assert_traffic(export, 2, 0, 0, 512)

    def check_second(self, first, second, least_ns, most_ns):
        export, = second["exports"]
        self.assertEqual(second["requests_in_flight"], 6)
        self.assertEqual(export["requests_in_flight"], 6)
        self.assertEqual([connection["requests_in_flight"]
                          for connection in second["connections"]], [5, 1])
        for old, new in ((first, second),
                         (first["connections"][0], second["connections"][0])):
            grown = new["oldest_ns"] - old["oldest_ns"]
            self.assertGreaterEqual(grown, 4 * TURN_NS)
            self.assertGreaterEqual(grown, least_ns - TURN_NS)
            self.assertLessEqual(grown, most_ns + TURN_NS)
        self.assertLess(second["connections"][1]["oldest_ns"],
                        second["connections"][0]["oldest_ns"] - 2 * TURN_NS)

    def test_percentiles(self):
        with self.start("memory", "16M", "rdelay=20ms", options=[
                "--filter=delay"]) as server, server.client() as client:
            for _ in range(100):
                client.submit(CMD_READ, 0, 512)
                client.submit(CMD_WRITE, 0, payload=bytes(512))
            client.receive_all()
            begin = time.monotonic_ns()
            client.read(0, 512)
            slow = time.monotonic_ns() - begin
            latency = self.ask()["latency"]
            for name in COMMANDS:
                row = latency[name]
                order = [row[key] for key in (
                    "p50_ns", "p90_ns", "p99_ns", "p99_9_ns", "max_ns")]
                self.assertEqual(sorted(order), order, name)
                self.assertLessEqual(row["mean_ns"], row["max_ns"])
            read = latency["read"]
            self.assertEqual(read["count"], 101)
            self.assertGreaterEqual(slow, 20_000_000)
            for key in ("mean_ns", "p50_ns"):
                self.assertGreaterEqual(read[key], 20_000_000)
            self.assertGreaterEqual(read["max_ns"], read["mean_ns"])
            self.assertEqual(latency["write"]["count"], 100)
            # Answered in the turn in which they arrive.
            self.assertGreater(latency["write"]["mean_ns"], 0)
            self.assertEqual(latency["flush"],
                             {key: 0 for key in latency["flush"]})
            client.disconnect()

    def test_budget_rises_and_falls(self):
        with self.start("memory", "16M", "wdelay=1", options=[
                "--filter=delay"]) as server, server.client() as client:
            client.read(0, 512)
            for n in range(8):
                client.submit(CMD_WRITE, n << 17, payload=bytes(1 << 17))
            client.submit(CMD_FLUSH)
            client.receive()
            status = self.ask()
            self.assertEqual(status["memory"]["in_use"], 8 << 17)
            self.assertEqual(status["connections"][0]["memory"], 8 << 17)
            client.receive_all()
            status = self.ask()
            self.assertEqual(status["memory"]["in_use"], 0)
            self.assertEqual(status["connections"][0]["memory"], 0)
            self.assertLess(status["memory"]["charged"],
                            status["memory"]["budget"])
            client.disconnect()

    def test_who_waits_for_the_disk(self):
        """A disk that takes 8 at once: the next of each client waits."""
        with temporary_directory() as directory, self.start(
                build_plugin("names", directory),
                options=["--loops=2"]) as server, \
                server.client(name="slow") as one, \
                server.client(name="slow") as two:
            for _ in range(9):
                one.submit(CMD_READ, 0, 512)
            two.submit(CMD_READ, 0, 512)
            wait_until(lambda: [
                connection["waits_for"] for connection
                in self.ask()["connections"]] == ["disk", "disk"])
            status = self.ask()
            self.assertEqual([connection["requests_in_flight"] for connection
                              in status["connections"]], [8, 0])
            lane, = status["exports"][0]["lanes"]
            self.assertEqual(
                [lane[key] for key in ("in_flight", "max_requests", "waiting",
                                       "held_up_connections")], [8, 8, 0, 2])
            self.assertRegex(run("--status-of", self.path).stdout,
                             r"(?m)^ +holds 32\.0K, waits for disk$")
            two.close()
            one.close()
            wait_until(lambda: self.ask()["clients"] == 0)

    def test_who_does_not_read_replies(self):
        with self.start("memory", "16M") as server, \
                server.client() as client:
            for _ in range(64):
                client.submit(CMD_READ, 0, 1 << 20)
            wait_until(lambda: self.ask()["connections"][0]["unread_replies"])
            connection, = self.ask()["connections"]
            self.assertGreater(connection["requests_in_flight"], 0)
            self.assertGreater(connection["oldest_ns"], 0)
            self.assertIn("does not read",
                          run("--status-of", self.path).stdout)
            client.receive_all()
            connection, = self.ask()["connections"]
            self.assertFalse(connection["unread_replies"])
            self.assert_idle(connection)
            self.assertEqual(connection["bytes_read"], 64 << 20)

    def test_while_it_drains(self):
        with self.start("memory", "16M", "rdelay=1", options=[
                "--filter=delay"]) as server, server.client() as client:
            client.submit(CMD_READ, 0, 512)
            client.submit(CMD_FLUSH)
            client.receive()
            server.signal(signal.SIGTERM)
            wait_until(lambda: self.ask()["state"] == "draining")
            self.assertEqual(self.ask()["requests_in_flight"], 1)
            client.receive_all()
            self.assertEqual(server.wait(), 0)


class Askers(StatusTest):
    def test_twenty_at_once(self):
        with self.start("memory", "16M", options=["--loops=2"]) as server, \
                contextlib.ExitStack() as stack:
            askers = [stack.enter_context(Conn(connect_unix(self.path)))
                      for _ in range(20)]
            with server.client() as client:
                client.read(0, 512)
                for asker in askers:
                    status = json.loads(asker.drain().decode())
                    self.assertEqual(status["pid"], server.pid)
                client.disconnect()

    def test_in_threads(self):
        wrong = []

        def ask_often():
            try:
                for _ in range(50):
                    ask(self.path)
            except Exception as error:
                wrong.append(error)

        with self.start("memory", "16M", options=["--loops=4"]) as server:
            threads = [threading.Thread(target=ask_often) for _ in range(20)]
            for thread in threads:
                thread.start()
            server.check_good()
            for thread in threads:
                thread.join()
            self.assertEqual(wrong, [])

    def fill(self, server, stack):
        """An answer that no socket buffer holds."""
        for _ in range(40):
            stack.enter_context(server.client(name=LONG_NAME))
        with Conn(connect_unix(self.path)) as conn:
            text = conn.drain()
        self.assertGreater(len(text), 300000)
        return text

    def test_those_that_never_read_give_way(self):
        with self.start("memory", "16M") as server, \
                contextlib.ExitStack() as stack:
            self.fill(server, stack)
            files = server.fds()
            lazy = []
            for _ in range(ASKERS + 8):
                lazy.append(stack.enter_context(
                    Conn(connect_unix(self.path))))
                self.ask()
            self.assertLessEqual(server.fds(), files + ASKERS)
            for conn in lazy[:8]:
                with self.assertRaises(ValueError):
                    json.loads(conn.drain().decode())
            for conn in lazy[16:]:
                json.loads(conn.drain().decode())
            wait_until(lambda: server.fds() == files)
            server.check_good()

    def test_one_that_never_reads_is_dropped(self):
        with self.start("memory", "16M") as server, \
                contextlib.ExitStack() as stack:
            self.fill(server, stack)
            lazy = stack.enter_context(Conn(connect_unix(self.path)))
            begin = time.monotonic()
            poll = select.poll()
            poll.register(lazy.sock, select.POLLRDHUP)
            self.assertTrue(poll.poll(30000))
            self.assertGreater(time.monotonic() - begin, 9)
            with self.assertRaises(ValueError):
                json.loads(lazy.drain().decode())
            self.ask()

    def test_a_slow_reader_gets_all(self):
        with self.start("memory", "16M") as server, \
                contextlib.ExitStack() as stack:
            self.fill(server, stack)
            with Conn(connect_unix(self.path)) as slow:
                begin = slow.recv(1000)
                self.ask()
                status = json.loads((begin + slow.drain()).decode())
                self.assertEqual(len(status["connections"]), 40)

    def test_those_that_vanish(self):
        with self.start("memory", "16M") as server, \
                contextlib.ExitStack() as stack:
            self.fill(server, stack)
            files = server.fds()
            for _ in range(200):
                conn = connect_unix(self.path)
                conn.close()
            wait_until(lambda: server.fds() == files)
            self.ask()

    def test_it_is_no_export(self):
        with self.start("memory", "16M") as server:
            with Conn(connect_unix(self.path)) as conn:
                with contextlib.suppress(BrokenPipeError):
                    conn.sock.sendall(b"\0\0\0\3")   # it may be done already
                self.assertEqual(conn.recv(1), b"{")
            with server.greet() as handshake:
                self.assertEqual([name for name, _ in handshake.list()], [""])

    def test_of_stdin(self):
        """-s has no socket of its own, but this one."""
        ours, theirs = socket.socketpair()
        with self.start("memory", "16M", unix=False, options=["-s"],
                        stdin=theirs, stdout=theirs) as server, ours:
            theirs.close()
            wait_until(lambda: self.ask()["clients"] == 1)
            connection, = self.ask()["connections"]
            self.assertEqual(connection["address"], "stdin")
            ours.close()
            self.assertEqual(server.wait(), 0)


class File(StatusTest):
    def test_it_comes_and_goes_with_the_server(self):
        with self.start("memory", "16M", umask=0o022):
            mode = os.stat(self.path).st_mode
            self.assertTrue(stat.S_ISSOCK(mode))
            self.assertEqual(mode & 0o022, 0)
        self.assertFalse(os.path.exists(self.path))
        with Server("memory", "1M", options=["--status=" + self.path]):
            self.assertEqual(self.ask()["clients"], 0)
        self.assertFalse(os.path.exists(self.path))

    def test_it_goes_with_a_server_that_could_not_drain(self):
        with temporary_directory() as directory, self.start(
                build_plugin("keeper", directory),
                options=["--drain-timeout=1"]) as server, \
                server.client() as client:
            client.submit(CMD_READ, 0, 512)
            client.submit(CMD_FLUSH)
            client.receive()
            server.signal(signal.SIGTERM)
            wait_until(lambda: self.ask()["state"] == "draining")
            self.assertEqual(server.wait(), 1)
            self.assertFalse(os.path.exists(self.path))

    def test_one_that_is_in_use(self):
        with self.start("memory", "16M"):
            done = run("-f", "--status=" + self.path, "-U",
                       os.path.join(self.directory, "other"), "memory", "1M")
            self.assertEqual(done.returncode, 1)
            self.assertIn(self.path, done.stderr)
            self.assertEqual(os.listdir(self.directory), ["status"])
            self.ask()

    def test_a_folder_that_is_not_there(self):
        path = "/nonexistent-folder/status"
        done = run("-f", "--status=" + path, "-U", "-", "memory", "1M")
        self.assertEqual(done.returncode, 1)
        self.assertIn(path, done.stderr)


if __name__ == "__main__":
    unittest.main()
