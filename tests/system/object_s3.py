# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""What tests of volumes in S3 share: servers of the object plugin, with
credentials and nothing else of the environment that Amazon's tools look at."""

import os
import subprocess
import sys
import tempfile

import system
from constants import *
from server import clean_environment, program

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "stores"))

from s3_double import S3Double                          # noqa: E402
from nbdproto import info_data                          # noqa: E402
from server import temporary_directory                  # noqa: E402

KIB, MIB = 1 << 10, 1 << 20


def tool():
    return os.path.join(os.path.dirname(os.path.realpath(program()[0])),
                        "..", "tools", "abdvol", "abdvol")


class S3Case(system.ServedCase):
    """self.store: with endpoint, access_key, secret and bucket."""

    prefix = ""

    def environment(self, **more):
        env = {key: value for key, value in clean_environment().items()
               if not key.startswith("AWS_") and "proxy" not in key.lower()
               and key != "HOME"}
        env.update(more)
        return env

    def with_keys(self, **more):
        return self.environment(AWS_ACCESS_KEY_ID=self.access_key,
                                AWS_SECRET_ACCESS_KEY=self.secret, **more)

    def url(self, name="v"):
        return "s3://%s/%s%s" % (self.store.bucket, self.prefix, name)

    def volume(self, *parameters, name="v", size=4 * MIB, env=None,
               options=(), endpoint=None):
        return self.serve(
            "object", self.url(name), "size=%d" % size, "create=if-missing",
            "endpoint=" + (endpoint or self.store.endpoint), *parameters,
            options=options, env=env or self.with_keys())

    def client(self, server, **kind):
        client = server.client(**kind)
        self.addCleanup(client.close)
        return client

    def flush(self, client):
        reply = client.call(CMD_FLUSH)
        self.assertEqual(reply.error, 0, reply.text)

    def abdvol(self, command, *arguments, status=0, env=None):
        if not os.path.exists(tool()):
            self.skipTest("abdvol is not built")
        done = subprocess.run(
            [tool(), command, *arguments,
             "--endpoint=" + self.store.endpoint],
            capture_output=True, text=True, timeout=120,
            env=env or self.with_keys())
        self.assertEqual(done.returncode, status, done.stderr)
        return done


class DoubleCase(S3Case):
    def setUp(self):
        self.start()
        self.directory = self.enterContext(temporary_directory())

    def start(self, **more):
        self.store = S3Double(**more)
        self.addCleanup(self.store.stop)
        (self.access_key, self.secret), = self.store.keys.items()

    def tearDown(self):
        self.assertEqual(self.store.violations, [])     # I1

    def refused(self, server, text):
        with server.greet() as handshake:
            self.assertNotEqual(handshake.opt(OPT_GO, info_data("")), REP_ACK)
        self.assertIn(text, server.stderr())


def make_certificate(folder):
    """A CA, and a certificate of localhost: paths of the CA's, of the
    certificate and of its key."""
    def run(*arguments):
        subprocess.run(["openssl", *arguments], check=True, cwd=folder,
                       capture_output=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
           "-nodes"]
    run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days",
        "2", "-subj", "/CN=a CA of tests")
    run("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj",
        "/CN=localhost")
    with open(os.path.join(folder, "ext"), "w") as file:
        file.write("subjectAltName=DNS:localhost,DNS:*.localhost,"
                   "IP:127.0.0.1\n")
    run("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey",
        "ca.key", "-CAcreateserial", "-out", "server.pem", "-days", "2",
        "-extfile", "ext")
    return [os.path.join(folder, name)
            for name in ("ca.pem", "server.pem", "server.key")]


def write_file(folder, name, text):
    path = os.path.join(folder, name)
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
        file.write(text)
    os.rename(file.name, path)
    return path
