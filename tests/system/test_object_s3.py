#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Volumes in S3, over a double of it: what is sent, what answers mean, who we
are to it, what is kept in memory."""

import concurrent.futures
import os
import random
import re
import shutil
import threading
import time
import unittest

from object_s3 import *         # puts the stores' folder into the path
from model import Model, drive
from nbdproto import info_data
from server import run, temporary_directory, wait_until

SEED = int(os.environ.get("ABD_SEED", "20261125"))
FEWER = os.environ.get("ABD_SAMPLE") or os.environ.get("ABD_SANITIZED")


class Contents(DoubleCase):
    def test_against_a_model(self):
        """Over a restart; objects are small, so there are many."""
        parameters = ["object-size=64K", "memory=2M", "readahead=64K"]
        server = self.volume(*parameters)
        client = self.client(server, structured=True, meta=True)
        player = Model(client, SEED, 1000, 3 * MIB + 77)
        drive([player], 60 if FEWER else 400)
        player.check_all()
        client.disconnect()
        server.stop()
        server = self.volume(*parameters)
        player.client = self.client(server, structured=True, meta=True)
        player.check_all()
        drive([player], 50)
        player.check_all()
        server.stop()

    def test_large_objects(self):
        server = self.volume(size=64 * MIB)
        client = self.client(server)
        data = random.Random(SEED).randbytes(20 * MIB)
        for at in range(0, len(data), MIB):
            client.write(at, data[at:at + MIB])
        self.flush(client)
        self.assertEqual(client.read(0, len(data)), data)
        server.stop()
        # Three objects of data, and the entry `close`.
        self.assertEqual(self.store.count("PUT", "/log/"), 4)

    def test_host_style(self):
        endpoint = "http://localhost:%d" % self.store.port
        server = self.volume("path-style=no", endpoint=endpoint)
        client = self.client(server)
        client.write(0, b"x" * 5000)
        self.flush(client)
        server.stop()
        hosts = {entry[2]["host"] for entry in self.store.log}
        self.assertEqual(hosts, {"disks.localhost:%d" % self.store.port})

    def test_strange_prefix(self):
        """Every byte of a key is encoded as it is signed."""
        name = "a b/+%41&c=d;e'\u00e4~(1)!*$@,:"
        server = self.volume(name=name)
        client = self.client(server)
        client.write(0, b"x" * 5000)
        client.disconnect()
        server.stop()
        self.assertIn(name + "/volume", self.store.objects)
        server = self.volume(name=name)
        self.assertEqual(self.client(server).read(0, 5000), b"x" * 5000)
        server.stop()

    def test_payloads_are_signed(self):
        server = self.volume()
        client = self.client(server)
        client.write(0, b"x" * 5000)
        self.flush(client)
        server.stop()
        for method, _, headers, *_ in self.store.log:
            self.assertRegex(headers["x-amz-content-sha256"], "^[0-9a-f]{64}$")
            if method == "PUT":
                self.assertIn("x-amz-checksum-crc32c", headers)
                self.assertNotIn("expect", headers)

    def test_connections_are_kept(self):
        server = self.volume()
        client = self.client(server)
        for n in range(50):
            client.write(n * 4096, b"x" * 4096)
            self.flush(client)
        server.stop()
        self.assertLess(self.store.accepted, 20)


class Tls(DoubleCase):
    @classmethod
    def setUpClass(cls):
        if not shutil.which("openssl"):
            raise unittest.SkipTest("no program openssl: package openssl")
        folder = cls.enterClassContext(temporary_directory())
        cls.ca, *cls.certificate = make_certificate(folder)

    def start(self):
        super().start(certificate=self.certificate)

    def play(self, *parameters, env=None):
        server = self.volume(*parameters, env=env)
        client = self.client(server)
        client.write(0, b"x" * 5000)
        self.flush(client)
        self.assertEqual(client.read(1, 4999), b"x" * 4999)
        server.stop()

    def test_payloads_are_not_signed(self):
        self.play("ca-file=" + self.ca)
        hashes = {entry[2]["x-amz-content-sha256"] for entry in self.store.log
                  if entry[0] == "PUT"}
        self.assertEqual(hashes, {"UNSIGNED-PAYLOAD"})

    def test_bundle_of_the_environment(self):
        self.play(env=self.with_keys(AWS_CA_BUNDLE=self.ca))

    def test_many_connections(self):
        """They share what they trust: with all that a system trusts, each
        would have megabytes of it."""
        bundle = "/etc/ssl/certs/ca-certificates.crt"
        if not os.path.exists(bundle):
            self.skipTest("no %s: package ca-certificates" % bundle)
        with open(bundle) as system, open(self.ca) as ours:
            trusted = write_file(self.directory, "trusted.pem",
                                 ours.read() + system.read())
        server = self.volume("ca-file=" + trusted, "readahead=0",
                             size=64 * MIB)
        client = self.client(server)
        for at in range(0, 16 * MIB, MIB):
            client.write(at, b"x" * MIB)
        self.flush(client)
        event = threading.Event()
        planned = self.store.fault("stall", method="GET", key="/log/",
                                   event=event, times=1000)
        client.send(b"".join(client.submit(CMD_READ, n * 128 * KIB, 4096,
                                           send=False)[1]
                             for n in range(128)))
        wait_until(lambda: planned.fired >= 128)
        peak = server.peak_rss()
        event.set()
        for reply in client.receive_all().values():
            self.assertEqual(reply.data, b"x" * 4096)
        server.stop()
        if not FEWER:
            self.assertLess(peak, 100 * 1000 * 1000)

    def test_foreign_certificate(self):
        server = self.volume("retry-for=200ms")
        self.refused(server, "certificate")
        server.stop()

    def test_no_such_file(self):
        server = self.volume("ca-file=/nowhere.pem", "retry-for=200ms")
        self.refused(server, "/nowhere.pem")
        server.stop()


class Credentials(DoubleCase):
    def files(self, credentials="", config=""):
        write_file(self.directory, "credentials", credentials)
        write_file(self.directory, "config", config)
        return self.environment(
            AWS_SHARED_CREDENTIALS_FILE=self.directory + "/credentials",
            AWS_CONFIG_FILE=self.directory + "/config")

    def profile(self, token=""):
        return "aws_access_key_id = %s\naws_secret_access_key=%s\n%s" % (
            self.access_key, self.secret,
            "aws_session_token = %s\n" % token if token else "")

    def works(self, env, *parameters):
        server = self.volume(*parameters, env=env)
        client = self.client(server)
        client.write(0, b"x")
        self.flush(client)
        server.stop()

    def fails(self, env, text, *parameters):
        """At once, before anything is asked of the store."""
        done = run("object", self.url(), "endpoint=" + self.store.endpoint,
                   *parameters, "-U", "-", "--run", "true", env=env)
        self.assertEqual(done.returncode, 1)
        self.assertIn(text, done.stderr)
        self.assertNotIn(self.secret, done.stderr)
        self.assertEqual(self.store.log, [])

    def test_default_profile(self):
        self.works(self.files("# mine\n[default]\n" + self.profile()))

    def test_home(self):
        os.mkdir(os.path.join(self.directory, ".aws"))
        write_file(os.path.join(self.directory, ".aws"), "credentials",
                   "[default]\n" + self.profile())
        self.works(self.environment(HOME=self.directory))

    def test_named_profile(self):
        env = self.files("[default]\naws_access_key_id=a\n"
                         "aws_secret_access_key=b\n[other]\n" + self.profile())
        self.works(env, "profile=other")
        self.works(dict(env, AWS_PROFILE="other"))
        # A profile that is named counts more than the environment's keys.
        self.works(dict(env, AWS_ACCESS_KEY_ID="x",
                        AWS_SECRET_ACCESS_KEY="y"), "profile=other")

    def test_config_file(self):
        """Keys, region and endpoint from there; nested values are passed."""
        self.store.region = "mars-west-7"
        env = self.files(config="[default]\nregion = nowhere\n[profile other]\n"
                         "s3 =\n  max_queue = 3\n; comment\nregion=mars-west-7"
                         "\n" + self.profile())
        self.works(env, "profile=other")

    def test_endpoint_of_the_environment(self):
        server = self.serve("object", self.url(), "size=1M",
                            "create=if-missing", env=self.with_keys(
                                AWS_ENDPOINT_URL_S3=self.store.endpoint))
        self.client(server)
        server.stop()

    def test_program(self):
        script = write_file(self.directory, "tell", """#!/bin/sh
echo '{"Version": 1, "AccessKeyId": "%s", "SecretAccessKey": "%s",'
echo '"Expiration": "2100-01-01T00:00:00Z"}'
""" % (self.access_key, self.secret))
        os.chmod(script, 0o700)
        env = self.files(config="[default]\ncredential_process = %s\n" % script)
        self.works(env)
        for text, message in (("#!/bin/sh\nexit 3\n", "status 3"),
                              ("#!/bin/sh\necho no\n", "no JSON"),
                              ("#!/bin/sh\necho '{\"Version\": 2}'\n",
                               "Version 1")):
            self.store.log.clear()
            os.chmod(write_file(self.directory, "tell", text), 0o700)
            self.fails(env, message)

    def test_mistakes(self):
        self.fails(self.environment(), "no credentials")
        self.fails(self.environment(AWS_ACCESS_KEY_ID="x"),
                   "AWS_SECRET_ACCESS_KEY")
        self.fails(self.files("[default]\n" + self.profile()), "absent",
                   "profile=absent")
        self.fails(self.files("[default]\naws_access_key_id=x\n"),
                   "aws_secret_access_key is missing")
        self.fails(self.files("[default]\nfrob\n"), "line 2")
        self.fails(self.files("[default\n"), "line 1")
        self.fails(self.files(config="[default]\nrole_arn = x\n"), "role_arn")

    def test_wrong_secret(self):
        env = self.environment(AWS_ACCESS_KEY_ID=self.access_key,
                               AWS_SECRET_ACCESS_KEY="wrong")
        server = self.volume(env=env)
        self.refused(server, "SignatureDoesNotMatch")
        server.stop()

    def test_unknown_key(self):
        env = self.environment(AWS_ACCESS_KEY_ID="nobody",
                               AWS_SECRET_ACCESS_KEY="wrong")
        server = self.volume(env=env)
        self.refused(server, "InvalidAccessKeyId")
        server.stop()

    def test_wrong_region(self):
        server = self.volume("region=elsewhere")
        self.refused(server, "the region is wrong; expecting 'us-east-1'")
        server.stop()

    def test_no_bucket(self):
        self.store.bucket, bucket = "other", self.store.bucket
        url = "s3://%s/v" % bucket
        server = self.serve("object", url, "endpoint=" + self.store.endpoint,
                            env=self.with_keys())
        self.refused(server, "NoSuchBucket")
        server.stop()

    def test_expired(self):
        """The token is good no more: the file has, or will have, a new one."""
        self.store.tokens[self.access_key] = "first"
        env = self.files("[default]\n" + self.profile("first"))
        server = self.volume(env=env)
        client = self.client(server)
        client.write(0, b"a" * 4096)
        self.flush(client)
        self.store.tokens[self.access_key] = "second"
        client.write(4096, b"b" * 4096)
        client.submit(CMD_FLUSH)
        wait_until(lambda: any(entry[3] == 400 for entry in self.store.log))
        write_file(self.directory, "credentials",
                   "[default]\n" + self.profile("second"))
        _, reply = client.receive()
        self.assertEqual(reply.error, 0, reply.text)
        self.assertEqual(client.read(0, 8192), b"a" * 4096 + b"b" * 4096)
        server.stop()

    def test_rotated(self):
        env = self.files("[default]\n" + self.profile())
        server = self.volume(env=env)
        client = self.client(server)
        client.write(0, b"a" * 4096)
        self.flush(client)
        del self.store.keys[self.access_key]
        self.access_key, self.secret = "AKIDOTHER", "another+one"
        self.store.keys[self.access_key] = self.secret
        write_file(self.directory, "credentials",
                   "[default]\n" + self.profile())
        client.write(4096, b"b" * 4096)
        self.flush(client)
        server.stop()

    def test_clock(self):
        """Ours is off by an hour: theirs counts."""
        for skew in (3600, -3600):
            self.store.skew = skew
            self.works(self.with_keys())


class Memory(DoubleCase):
    """P6"""

    def test_a_thousand_against_a_stalled_store(self):
        server = self.volume("readahead=0", size=1 << 30)
        client = self.client(server)
        data = bytes(range(256)) * 512
        for n in range(64):
            client.write(n * 128 * KIB, data)
        self.flush(client)
        event = threading.Event()
        self.store.fault("stall", method="GET", event=event, times=10000)
        self.store.fault("stall", method="PUT", event=event, times=10000)
        clients = [self.client(server) for _ in range(2)]
        clients[0].send(b"".join(clients[0].submit(
            CMD_READ, n % 64 * 128 * KIB, 128 * KIB, send=False)[1]
            for n in range(500)))
        sender = threading.Thread(target=lambda: [clients[1].submit(
            CMD_WRITE, (64 + n) * 128 * KIB, payload=data)
            for n in range(500)])
        sender.start()
        # All GETs that there may be, and one PUT or more.
        wait_until(lambda: self.store.faults[0].fired >= 128 and
                   self.store.faults[1].fired >= 1)
        peak = server.peak_rss()
        event.set()
        for client in clients:
            for _ in range(500):
                self.assertEqual(client.receive()[1].error, 0)
        sender.join()
        peak = max(peak, server.peak_rss())
        server.stop()
        if not FEWER:
            self.assertLess(peak, 100 * 1000 * 1000)

    def test_small_budget(self):
        server = self.volume("object-size=64K", options=["--memory=8M"],
                             size=16 * MIB)
        client = self.client(server)
        data = random.Random(SEED).randbytes(8 * MIB)
        for at in range(0, len(data), 256 * KIB):
            client.write(at, data[at:at + 256 * KIB])
        self.flush(client)
        self.assertEqual(b"".join(client.read(at, MIB)
                                  for at in range(0, len(data), MIB)), data)
        server.stop()

    def test_too_little(self):
        server = self.volume(options=["--memory=7M"])
        self.refused(server, "8M at least")
        server.stop()

    def test_too_much(self):
        server = self.volume("memory=80M")
        self.refused(server, "four fifths")
        server.stop()


class Readahead(DoubleCase):
    def fill(self, size):
        self.data = random.Random(SEED).randbytes(size)
        server = self.volume(size=64 * MIB)
        client = self.client(server)
        for at in range(0, size, MIB):
            client.write(at, self.data[at:at + MIB])
        client.disconnect()
        server.stop()
        self.store.log.clear()

    def test_sequential(self):
        """Fewer, larger GETs than reads, and every byte right."""
        self.fill(8 * MIB)
        server = self.volume()
        client = self.client(server)
        for at in range(0, 8 * MIB, 16 * KIB):
            self.assertEqual(client.read(at, 16 * KIB),
                             self.data[at:at + 16 * KIB])
        server.stop()
        self.assertLess(self.store.count("GET", "/log/"), 100)

    def test_damaged_ahead(self):
        """What was fetched ahead is damaged: it is fetched again."""
        self.fill(4 * MIB)
        server = self.volume()
        client = self.client(server)
        for skip, kind in enumerate(("short", "range", "less", "longer")):
            self.store.fault(kind, method="GET", key="/log/", skip=skip + 1,
                             at=1000, times=3)
        for at in range(0, 4 * MIB, 32 * KIB):
            self.assertEqual(client.read(at, 32 * KIB),
                             self.data[at:at + 32 * KIB])
        server.stop()

    def test_closed_while_it_looks_ahead(self):
        self.fill(8 * MIB)
        server = self.volume()
        client = self.client(server)
        event = threading.Event()
        for at in range(0, 256 * KIB, 64 * KIB):
            client.read(at, 64 * KIB)
        planned = self.store.fault("stall", method="GET", key="/log/",
                                   event=event, times=100)
        client.submit(CMD_READ, MIB, 64 * KIB)
        wait_until(lambda: planned.fired >= 1)
        event.set()
        client.receive()
        client.disconnect()
        server.stop()

    def test_under_pressure(self):
        """The cache gives way to requests."""
        self.fill(40 * MIB)
        server = self.volume("requests=16", "readahead=8M",
                             options=["--memory=24M"])
        clients = [self.client(server) for _ in range(3)]
        rng = random.Random(SEED)
        for at in range(0, 16 * MIB, 16 * KIB):
            clients[0].read(at, 16 * KIB)
        places = [rng.randrange(40 * MIB - 4 * MIB) for _ in range(24)]
        for n, at in enumerate(places):
            clients[n % 3].submit(CMD_READ, at, 4 * MIB)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for replies in pool.map(lambda client: client.receive_all(),
                                    clients):
                for reply in replies.values():
                    at = reply.offset
                    self.assertEqual(reply.data, self.data[at:at + 4 * MIB])
        server.stop()


class Tool(DoubleCase):
    """abdvol"""

    def test_all(self):
        for name in ("a", "b/c", "d"):
            self.abdvol("create", self.url(name), "--size=4M",
                        "--object-size=64K")
        server = self.volume(name="a")
        client = self.client(server)
        for n in range(30):
            client.write(n * 64 * KIB, b"x" * 64 * KIB)
        client.disconnect()
        server.stop()
        listed = self.abdvol("list", self.url("")).stdout
        self.assertEqual(re.findall(r"s3://disks/(\S+)", listed), ["a", "d"])
        self.assertIn("s3://disks/b/c",
                      self.abdvol("list", self.url("b")).stdout)
        self.assertIn("s3://disks/d ",
                      self.abdvol("list", self.url("d")).stdout)
        self.assertIn(" 0 damaged", self.abdvol("check", self.url("a")).stdout)
        self.store.objects["nothing/of/ours"] = b"x"
        self.abdvol("delete", self.url("a"))
        self.abdvol("delete", self.url("d"))
        left = {key.split("/")[0] for key in self.store.objects}
        self.assertEqual(left, {"b", "nothing"})

    def test_no_volume(self):
        done = self.abdvol("info", self.url("a"), status=1)
        self.assertIn("s3://disks/a", done.stderr)


class Mistakes(DoubleCase):
    def test_parameters(self):
        good = ["s3://disks/v", "endpoint=http://127.0.0.1:1"]
        for parameters, text in (
                (["s3:x"], "s3://BUCKET"), (["s3:///x"], "s3://BUCKET"),
                (["s3://ab/x"], "3 to 63"), (["s3://a_b c/x"], "3 to 63"),
                (["s3://disks/" + "x" * 513], "512"),
                (["s3://disks/v", "endpoint=127.0.0.1"], "an endpoint is"),
                (["s3://disks/v", "endpoint=ftp://x"], "an endpoint is"),
                (["s3://disks/v", "endpoint=http://x/y"], "an endpoint is"),
                (["s3://disks/v", "endpoint=http://x:0"], "an endpoint is"),
                (["s3://disks/v", "endpoint=http://"], "an endpoint is"),
                (["s3://disks/v", "region=a/b"], "a region has"),
                (good + ["path-style=maybe"], "path-style"),
                (["s3://disks/v", "endpoint=http://[::1]", "path-style=no"],
                 "path-style=yes"),
                (good + ["readahead=1"], "readahead"),
                (good + ["stall=0"], "stall"),
                (good + ["fault=frob=1"], "frob"),
                (["dir:/x", "region=x"], "for s3://")):
            with self.subTest(parameters=parameters):
                done = run("object", *parameters, "-U", "-", "--run", "true",
                           env=self.with_keys())
                self.assertEqual(done.returncode, 1)
                self.assertIn(text, done.stderr)

    def test_nobody_there(self):
        port = self.store.port
        server = self.volume("retry-for=100ms", "region=us-east-1",
                             endpoint="http://127.0.0.1:1")
        self.refused(server, "127.0.0.1")
        server.stop()
        server = self.volume("retry-for=100ms",
                             endpoint="http://no-such-host.invalid:%d" % port)
        self.refused(server, "no-such-host.invalid")
        server.stop()


if __name__ == "__main__":
    unittest.main()
