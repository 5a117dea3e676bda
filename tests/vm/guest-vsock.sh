#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
#
# Inside a guest: the server on AF_VSOCK, reached by the loopback transport.
. "$(dirname "$0")/common.sh"

if ! modprobe vsock_loopback; then
    echo "SKIP this kernel has no vsock_loopback"
    exit 77
fi

start_vsock_server() {
    # shellcheck disable=SC2086
    $SERVER -f --vsock -p 10809 -P /run/nbd.pid >/run/server.log 2>&1 &
    SERVER_PID=$!
    until_true 600 test -s /run/nbd.pid || { cat /run/server.log; return 1; }
}

step server start_vsock_server
step client /usr/bin/python3 -B - "$(dirname "$0")/../protocol" <<'END'
import socket
import sys
sys.path.insert(0, sys.argv[1])
from nbdproto import Handshake
VMADDR_CID_LOCAL = 1
for n in range(3):
    sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    sock.connect((VMADDR_CID_LOCAL, 10809))
    conn = Handshake(sock).greet()
    conn.structured_reply()
    client = conn.go()
    data = bytes(range(256)) * 16384
    client.write(n << 22, data)
    assert client.read(n << 22, len(data)) == data
    client.disconnect()
END
step stop-server stop_server
