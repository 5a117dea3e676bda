#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""Ceph's radosgw: a monitor, one OSD and the gateway, for as long as a test
takes, on free ports of the loopback.

    radosgw.py      starts it, says how it is reached, waits for the end of its
                    input, and ends it

Without cephx, which needs nothing but loopback; the OSD keeps its objects in
memory or, with bluestore=True, in a file."""

import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import uuid

import s3_sign

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw",
            "radosgw-admin")
START_LIMIT = 120               # seconds
CONF = """[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon},v1:127.0.0.1:{mon_v1}]
mon initial members = a
auth cluster required = none
auth service required = none
auth client required = none
mon allow pool size one = true
mon warn on pool no redundancy = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon max pg per osd = 1000
run dir = {folder}
pid file = {folder}/$name.pid
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
crash dir = {folder}
[mon]
mon data = {folder}/mon
mon data avail crit = 1
mon data avail warn = 2
[osd]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd data = {folder}/osd
osd objectstore = {store}
memstore device bytes = {bytes}
bluestore block size = {bytes}
bluestore block create = true
osd memory target = 939524096
osd op num shards = 2
[client.rgw]
ms mon client mode = crc
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw enable usage log = false
rgw enable ops log = false
rgw thread pool size = 256
rgw run sync thread = false
"""


def free_ports(count):
    """Ports that nobody had a moment ago, all of them at once."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def missing():
    return [name for name in PROGRAMS if not shutil.which(name)]


class RadosGW:
    def __init__(self, bluestore=False, gib=4, bucket="disks"):
        absent = missing()
        if absent:
            raise unittest.SkipTest(
                "no %s: packages radosgw ceph-mon ceph-osd ceph-common"
                % ", ".join(absent))
        self.folder = tempfile.mkdtemp(prefix="abdtest-rgw-")
        self.access_key, self.secret = "AKTEST", "a+secret/of-tests"
        self.bucket = bucket
        self.processes = []
        try:
            self.start("bluestore" if bluestore else "memstore", gib << 30)
        except BaseException:
            self.stop()
            raise

    def start(self, store, size):
        self.port, mon, mon_v1 = free_ports(3)
        self.endpoint = "http://127.0.0.1:%d" % self.port
        fsid = str(uuid.uuid4())
        for name in ("mon", "osd"):
            os.mkdir(os.path.join(self.folder, name))
        self.conf = os.path.join(self.folder, "ceph.conf")
        with open(self.conf, "w") as file:
            file.write(CONF.format(fsid=fsid, mon=mon, mon_v1=mon_v1,
                                   folder=self.folder, store=store,
                                   bytes=size, port=self.port))
        monmap = os.path.join(self.folder, "monmap")
        osd = str(uuid.uuid4())
        self.run("monmaptool", "--create", "--clobber", "--fsid", fsid,
                 "--addv", "a", "[v2:127.0.0.1:%d,v1:127.0.0.1:%d]"
                 % (mon, mon_v1), monmap)
        self.run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap)
        self.daemon("ceph-mon", "-i", "a", "-f")
        self.run("ceph", "--connect-timeout", "30", "osd", "new", osd)
        self.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self.daemon("ceph-osd", "-i", "0", "-f")
        self.run("ceph", "--connect-timeout", "30", "osd", "crush", "add",
                 "osd.0", "1.0", "host=localhost")
        self.run("radosgw-admin", "user", "create", "--uid=test",
                 "--display-name=test", "--access-key=" + self.access_key,
                 "--secret-key=" + self.secret)
        self.daemon("radosgw", "-n", "client.rgw", "-f")
        self.wait_for_gateway()
        status, text = self.request("PUT", "/" + self.bucket)
        if status != 200:
            raise AssertionError("bucket: %d %s" % (status, text))

    def output(self, name):
        return open(os.path.join(self.folder, name + ".out"), "ab")

    def run(self, name, *arguments):
        with self.output(name) as out:
            done = subprocess.run([name, "-c", self.conf, *arguments],
                                  stdin=subprocess.DEVNULL, stdout=out,
                                  stderr=out, timeout=START_LIMIT)
        if done.returncode:
            raise AssertionError("%s: %s" % (name, self.tail(name)))

    def daemon(self, name, *arguments):
        with self.output(name) as out:
            self.processes.append(subprocess.Popen(
                [name, "-c", self.conf, *arguments], stdout=out, stderr=out,
                stdin=subprocess.DEVNULL, start_new_session=True))

    def tail(self, name):
        with open(os.path.join(self.folder, name + ".out")) as file:
            return file.read()[-2000:]

    def wait_for_gateway(self):
        end, pause = time.monotonic() + START_LIMIT, 0.05
        while True:
            try:
                return self.request("GET", "/")
            except OSError:
                if time.monotonic() > end or self.processes[-1].poll():
                    raise AssertionError("radosgw: " + self.tail("radosgw"))
            time.sleep(pause)
            pause = min(pause * 1.5, 0.5)

    def request(self, method, path, query="", body=b"", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port,
                                                timeout=60)
        try:
            host = "127.0.0.1:%d" % self.port
            headers = {name.replace("_", "-"): value
                       for name, value in headers.items()}
            connection.request(
                method, path + ("?" + query if query else ""), body,
                s3_sign.sign(self.access_key, self.secret, method, host, path,
                             query, body, headers))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def main():
    began = time.monotonic()
    store = RadosGW()
    try:
        print("endpoint=%s bucket=%s AWS_ACCESS_KEY_ID=%s "
              "AWS_SECRET_ACCESS_KEY=%s (%.1f s)" % (
                  store.endpoint, store.bucket, store.access_key,
                  store.secret, time.monotonic() - began), flush=True)
        sys.stdin.read()
    finally:
        store.stop()


if __name__ == "__main__":
    main()
