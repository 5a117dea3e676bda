#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
#
# Inside a guest: the server is killed while the kernel's client reads and
# writes with all its might.  Every reader and writer gets an error soon,
# nothing hangs, and the device works with a new server.
. "$(dirname "$0")/common.sh"
LIMIT=${DEATH_LIMIT:-20}

# Uses the device until that fails, and notes when that was.
use_until_error() {
    # A device whose connection was given up has no size any more.
    while has_size && dd "$@" bs=64k count=64 status=none 2>>"/run/error.$WORKER"; do
        :
    done
    seconds >"/run/ended.$WORKER"
}

begin_load() {
    for WORKER in 1 2 3 4; do
        (use_until_error if=$DEV of=/dev/null iflag=direct skip=$WORKER) &
        LOAD="$LOAD $!"
    done
    for WORKER in 5 6; do
        (use_until_error if=/dev/zero of=$DEV oflag=direct seek=$WORKER) &
        LOAD="$LOAD $!"
    done
    # It is under load when the kernel has counted some.
    until_true 200 under_load
}

under_load() {
    # shellcheck disable=SC2046
    set -- $(cat $SYS/stat)
    [ "$1" -gt 100 ] && [ "$5" -gt 20 ]
}

kill_server() {
    kill -9 $SERVER_PID
    killed=$(cut -d. -f1 /proc/uptime)
}

everybody_ended() {
    for worker in 1 2 3 4 5 6; do
        [ -s /run/ended.$worker ] || return
    done
}

errors_in_time() {
    until_true $((LIMIT * 20)) everybody_ended || return
    now=$(cut -d. -f1 /proc/uptime)
    echo "errors after $((now - killed)) s"
    [ $((now - killed)) -le "$LIMIT" ]
}

somebody_was_told() {
    grep -h 'Input/output error' /run/error.*
}

nothing_to_read() {
    [ "$(dd if=$DEV bs=4k count=1 iflag=direct status=none | wc -c)" -eq 0 ]
}

disconnect_dead() {
    nbd-client -d $DEV
    until_true 200 is_disconnected
}

# Without a timeout this kernel may keep one of the requests for ever.
step server start_server
step connect connect -timeout 3
step load begin_load
step kill kill_server
step errors errors_in_time
step told somebody_was_told
step nothing-to-read nothing_to_read
step disconnect disconnect_dead
rm -f "$SOCK" /run/nbd.pid
step new-server start_server
step connect-again connect
step use-again dd if=/dev/zero of=$DEV bs=1M count=4 oflag=direct status=none
step disconnect-again disconnect
step stop-server stop_server
