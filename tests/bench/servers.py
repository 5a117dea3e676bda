# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors

"""Starting and ending the servers that are compared.

Everything started here is ended here, by its process id: at the end of a
`with`, when the script is interrupted, and by the kernel (a parent-death
signal) should the script itself be killed.
"""

import ctypes
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import time

PR_SET_PDEATHSIG = 1
START_SECONDS = 20
END_SECONDS = 20

_libc = ctypes.CDLL(None, use_errno=True)


class Unavailable(Exception):
    """A server could not be started; the text says why."""


def _child_setup(cpus):
    def setup():
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if cpus is not None:
            os.sched_setaffinity(0, cpus)
    return setup


def run(argv, timeout=None, cpus=None):
    """Runs a program to its end; returns (status, stdout, stderr)."""
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          preexec_fn=_child_setup(cpus)) as child:
        try:
            out, err = child.communicate(timeout=timeout)
        except BaseException as why:
            child.kill()
            child.wait()
            if isinstance(why, subprocess.TimeoutExpired):
                return 124, '', f'{argv[0]}: no end within {timeout} s'
            raise
        return child.returncode, out, err


class Server:
    """A running server: `with Server(argv, socket_path) as server: ...`

    @SOCK@ in an argument stands for the path of the socket, @DIR@ for the
    folder it is in.  nbd-server has no way to stay in the foreground and
    serve several clients: its process id comes from its file, and it ends by
    that."""

    def __init__(self, argv, folder, cpus=None):
        self.socket_path = os.path.join(folder, 'sock')
        self.log_path = os.path.join(folder, 'server.log')
        self.argv = [a.replace('@SOCK@', self.socket_path)
                      .replace('@DIR@', folder) for a in argv]
        self.cpus = cpus
        self.child = None
        self.daemon = None

    def __enter__(self):
        if os.path.exists(self.socket_path):
            os.unlink(self.socket_path)
        daemon = os.path.basename(self.argv[0]) == 'nbd-server'
        if daemon:
            self._write_nbd_server_config()
        with open(self.log_path, 'wb') as log:
            self.child = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=_child_setup(self.cpus))
        try:
            if daemon:
                self._adopt_daemon()
            self._wait_until_it_listens()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_):
        self._end()

    @property
    def pid(self):
        return self.daemon or self.child.pid

    def log(self):
        with open(self.log_path, encoding='utf-8', errors='replace') as log:
            return log.read().strip()

    def _write_nbd_server_config(self):
        folder = os.path.dirname(self.socket_path)
        path = self.argv[self.argv.index('-C') + 1]
        with open(path, 'w', encoding='utf-8') as config:
            config.write('[generic]\n'
                         f'unixsock = {self.socket_path}\n'
                         '[disk]\n'
                         f'exportname = {os.path.join(folder, "disk.img")}\n')

    def _adopt_daemon(self):
        if self.child.wait(START_SECONDS) != 0:
            raise Unavailable(f'{self.argv[0]}: {self.log()}')
        path = self.argv[self.argv.index('-p') + 1]
        deadline = time.monotonic() + START_SECONDS
        while not self.daemon and time.monotonic() < deadline:
            try:
                with open(path, encoding='ascii') as file:
                    self.daemon = int(file.read())
            except (OSError, ValueError):
                time.sleep(0.01)
        if not self.daemon:
            raise Unavailable(f'{self.argv[0]} wrote no process id')

    def _has_ended(self):
        return not self.daemon and self.child.poll() is not None

    def _wait_until_it_listens(self):
        """There is no event for this that all servers have: so try."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self._has_ended():
                raise Unavailable(f'{self.argv[0]} ended with status '
                                  f'{self.child.returncode}: {self.log()}')
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(5)
                try:
                    probe.connect(self.socket_path)
                    # Take the greeting, so that it is a client like others.
                    probe.recv(18)
                    return
                except OSError:
                    pass
            if time.monotonic() > deadline:
                raise Unavailable(f'{self.argv[0]} does not listen after '
                                  f'{START_SECONDS} s: {self.log()}')
            time.sleep(0.01)

    def _end(self):
        """SIGTERM, and SIGKILL when that is not enough; then its children
        (nbd-server has one for each client)."""
        if self.child is None or self._has_ended():
            return
        pids = [(self.pid, _start_time(self.pid))] + _children(self.pid)
        if self.daemon:
            os.kill(self.daemon, signal.SIGTERM)
        else:
            self.child.terminate()
        deadline = time.monotonic() + END_SECONDS
        while _is_alive(*pids[0]) and time.monotonic() < deadline:
            if not self.daemon:
                self.child.poll()
            time.sleep(0.005)
        for pid, started in pids:
            if _is_alive(pid, started):
                os.kill(pid, signal.SIGKILL)
        self.child.wait()
        self.daemon = None


def _start_time(pid):
    """Tells a process from a later one with the same id; None: it is gone."""
    try:
        with open(f'/proc/{pid}/stat', encoding='ascii',
                  errors='replace') as stat:
            fields = stat.read().rsplit(')', 1)[1].split()
    except OSError:
        return None
    return None if fields[0] == 'Z' else fields[19]


def _is_alive(pid, started):
    return started is not None and _start_time(pid) == started


def _children(pid):
    try:
        with open(f'/proc/{pid}/task/{pid}/children',
                  encoding='ascii') as file:
            found = [int(word) for word in file.read().split()]
    except OSError:
        return []
    return [(child, _start_time(child)) for child in found]


def cpu_seconds(pid):
    """What a process has used, to the nanosecond; 0 if it is gone."""
    try:
        # The id of another process's CPU clock, as the kernel defines it.
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _first_line(argv):
    if not argv[0] or not shutil.which(argv[0]):
        return None
    _, out, err = run(argv, timeout=20)
    lines = (out + err).strip().splitlines()
    return lines[0].strip() if lines else None


def versions(abdkit):
    """What is compared, as the programs themselves say; None: missing."""
    return {
        'abdkit': _first_line([abdkit, '--version']) if abdkit else None,
        'nbdkit': _first_line(['nbdkit', '--version']),
        'qemu-nbd': _first_line(['qemu-nbd', '--version']),
        'nbd-server': _first_line(['nbd-server', '--version']),
        'fio': _first_line(['fio', '--version']),
        'gnuplot': _first_line(['gnuplot', '--version']),
    }


def _filesystem(folder):
    """The type of the filesystem that holds a folder."""
    with open('/proc/self/mounts', encoding='utf-8') as file:
        mounts = [line.split()[1:3] for line in file]
    folder = os.path.join(os.path.realpath(folder), '')
    inside = [(len(place), i, kind) for i, (place, kind) in enumerate(mounts)
              if folder.startswith(os.path.join(place, ''))]
    return max(inside)[2] if inside else 'unknown'


def host(folder):
    """The machine, as far as it matters for the figures; folder: where the
    files of the file servers will be."""
    with open('/proc/cpuinfo', encoding='utf-8') as file:
        info = file.read()
    with open('/proc/meminfo', encoding='utf-8') as file:
        memory = int(re.search(r'MemTotal:\s+(\d+)', file.read()).group(1))

    def field(name):
        found = re.search(rf'^{name}\s*: (.*)$', info, re.M)
        return found.group(1) if found else 'unknown'

    return {
        'cores': len(os.sched_getaffinity(0)),
        'cpu': f'{field("model name")} (family {field("cpu family")}, '
               f'model {field("model")})',
        'memory_mib': memory // 1024,
        'kernel': platform.release(),
        'filesystem': _filesystem(folder),
        'virtual': ' hypervisor' in info,
    }


def commit(folder):
    """The checkout's commit, with + where it has changes."""
    status, out, _ = run(['git', '-C', folder, 'rev-parse', '--short', 'HEAD'])
    if status != 0:
        return 'unknown'
    _, changes, _ = run(['git', '-C', folder, 'status', '--porcelain', '-uno'])
    return out.strip() + ('+' if changes.strip() else '')
