# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
#
# For the scripts that run inside a guest (sourced): steps with names, waiting
# for the nbd device, and the server.  SERVER is its command line without the
# socket; ADDRESS and PORT name a server outside instead.
# shellcheck shell=sh disable=SC2034

DEV=/dev/nbd0
SYS=/sys/block/nbd0
SOCK=/run/nbd.sock
CONNECTIONS=${CONNECTIONS:-1}

seconds() {
    cut -d' ' -f1 /proc/uptime
}

# step NAME COMMAND...: runs it; a failure ends the guest's test.
step() {
    name=$1
    shift
    begin=$(seconds)
    if "$@" >/run/step.log 2>&1; then
        echo "STEP $name ok, from $begin to $(seconds) s"
        return
    fi
    echo "STEP $name FAILED, from $begin to $(seconds) s"
    tail -n 20 /run/step.log
    dmesg | tail -n 20
    exit 1
}

# until_true TRIES COMMAND...: there is no event for these to wait for.
until_true() {
    tries=$1
    shift
    while ! "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.05
    done
}

start_server() {
    [ -n "$ADDRESS" ] && return
    # SERVER is words on purpose.
    # shellcheck disable=SC2086
    $SERVER -f -U "$SOCK" -P /run/nbd.pid "$@" >/run/server.log 2>&1 &
    SERVER_PID=$!
    until_true 600 test -s /run/nbd.pid
}

has_size() {
    [ "$(cat $SYS/size)" -gt 0 ]
}

# connect [MORE...]: further arguments for nbd-client
connect() {
    if [ -n "$ADDRESS" ]; then
        nbd-client "$ADDRESS" "$PORT" "$DEV" -C "$CONNECTIONS" "$@" || return
    else
        nbd-client -unix "$SOCK" "$DEV" -C "$CONNECTIONS" "$@" || return
    fi
    until_true 200 has_size
}

is_disconnected() {
    ! nbd-client -c "$DEV" >/dev/null
}

disconnect() {
    nbd-client -d "$DEV" && until_true 200 is_disconnected
}

# The server outlives its client, and ends cleanly.
stop_server() {
    [ -n "$SERVER_PID" ] || return 0
    kill -0 "$SERVER_PID" && kill "$SERVER_PID" && wait "$SERVER_PID"
}

no_kernel_complaints() {
    ! dmesg | grep -E 'BUG:|WARNING:|blocked for more|hung_task'
}
