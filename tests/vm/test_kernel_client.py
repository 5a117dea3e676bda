#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
"""The Linux kernel's NBD client, in guests: User-Mode Linux with the server
inside (unix socket) and outside (TCP over a tap device), and qemu with four
processors and a newer kernel.  What is not installed is skipped, with the
package that is missing.  SERVER replaces the server's command line."""

import glob
import os
import shlex
import shutil
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = {"nbd-client": "nbd-client", "fio": "fio",
            "mkfs.ext4": "e2fsprogs", "busybox": "busybox", "ip": "iproute2",
            "fstrim": "util-linux"}


def skip(reason):
    print("SKIP: " + reason, file=sys.stderr, flush=True)
    raise unittest.SkipTest(reason)


def need(programs):
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = sorted({package for name, package in programs.items()
                      if not shutil.which(name, path=path)})
    if missing:
        skip("not installed: " + " ".join(missing))


def server_words():
    """The server's command in front of the plugin's name."""
    if os.environ.get("SERVER"):
        return shlex.split(os.environ["SERVER"])
    if not os.environ.get("ABDKIT"):
        skip("ABDKIT is not set to the server's path")
    return [os.path.abspath(os.environ["ABDKIT"])] + shlex.split(
        os.environ.get("ABDKIT_ARGS", ""))


class Guest(unittest.TestCase):
    LIMIT = 300

    def boot(self, how, script, *plugin, env=None, **guest):
        """Runs a guest's script; shows its console if that failed."""
        words = server_words() + list(plugin)
        if any(set("+ \"'$") & set(word) for word in words):
            skip("the server's command line cannot travel to a guest")
        server = "+".join(words)
        arguments = ["%s=%s" % item for item in guest.items()]
        environment = dict(os.environ, SERVER=server, **(env or {}))
        if how != "uml-host.sh":
            arguments.append("SERVER=" + server)
        done = subprocess.run(
            ["/bin/sh", os.path.join(HERE, how), os.path.join(HERE, script),
             *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace",
            env=environment, timeout=self.LIMIT)
        if done.returncode == 77:
            skip(next((line[5:] for line in done.stdout.splitlines()
                       if line.startswith("SKIP ")), "the guest says so"))
        self.assertEqual(done.returncode, 0, done.stdout[-6000:])
        self.assertIn("STEP stop-server ok", done.stdout)


class UserModeLinux(Guest):
    @classmethod
    def setUpClass(cls):
        need(dict(PROGRAMS, **{"linux.uml": "user-mode-linux"}))
        if not glob.glob("/usr/lib/uml/modules/*/kernel/drivers/block/nbd.ko"):
            skip("user-mode-linux has no nbd module")

    def test_server_inside(self):
        self.boot("uml.sh", "guest-disk.sh", "memory", "1G")

    def test_server_inside_with_delay(self):
        self.boot("uml.sh", "guest-disk.sh", "--filter=delay", "memory", "1G",
                  "rdelay=1ms", "wdelay=1ms", FIO_SIZE="8M")

    def test_server_outside(self):
        if os.getuid():
            skip("a network namespace with a tap device needs root")
        if not os.path.exists("/dev/net/tun"):
            skip("no /dev/net/tun for a tap device")
        self.boot("uml-host.sh", "guest-disk.sh", "memory", "1G")

    def test_server_dies_under_load(self):
        self.boot("uml.sh", "guest-death.sh", "memory", "1G")

    def test_server_dies_with_requests_in_flight(self):
        self.boot("uml.sh", "guest-death.sh", "--filter=delay", "memory",
                  "1G", "rdelay=5ms", "wdelay=5ms")

    def test_disk_of_objects(self):
        self.boot("uml.sh", "guest-object.sh", "object", "dir:/run/objects",
                  "size=256M", "create=if-missing")


class Qemu(Guest):
    @classmethod
    def setUpClass(cls):
        need(dict(PROGRAMS, **{"qemu-system-x86_64": "qemu-system-x86"}))
        if not os.path.exists("/usr/lib/qemu/virtiofsd"):
            skip("not installed: qemu-system-common (virtiofsd)")
        if not (os.environ.get("KERNEL")
                or glob.glob("/boot/vmlinuz-6.12*cloud*")):
            skip("not installed: linux-image-6.12-cloud-amd64")
        if os.getuid():
            skip("virtiofsd needs root to share the root file system")

    def test_four_connections(self):
        self.boot("qemu.sh", "guest-disk.sh", "--filter=log", "memory", "1G",
                  "logfile=/run/nbd.log", CONNECTIONS=4, QUEUES=4,
                  FIO_SIZE="8M", LOGFILE="/run/nbd.log")

    def test_vsock(self):
        self.boot("qemu.sh", "guest-vsock.sh", "memory", "64M",
                  env={"MODULES": "vsock_loopback"})


if __name__ == "__main__":
    unittest.main()
