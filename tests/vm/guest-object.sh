#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
#
# Inside a guest: a file system on a disk of objects, whose server is killed
# while it is written to.  With a new server the file system is mended by its
# journal alone, and all that was synced is there.
. "$(dirname "$0")/common.sh"
DIR=/mnt/disk
TREE=/usr/include/linux

make_folder() {
    # What SERVER says: dir:/run/objects
    mkdir -p /run/objects
}

untar() {
    mkdir -p "$DIR/$1" &&
        tar -C $TREE -cf - . | tar -C "$DIR/$1" -xf - && sync
}

list_sums() {
    (cd "$1" && find . -type f -exec cksum {} + | sort)
}

remember() {
    list_sums $TREE >/run/sums
    [ "$(wc -l </run/sums)" -gt 100 ]
}

write_until_error() {
    n=0
    while dd if=/dev/urandom of=$DIR/late.$n bs=64k count=16 conv=fsync \
        status=none 2>>/run/late.log; do
        echo $n >/run/late
        n=$((n + 1))
    done
    touch /run/late.ended
}

begin_writing() {
    write_until_error &
    until_true 400 test -s /run/late
}

kill_server() {
    kill -9 $SERVER_PID
    until_true 600 test -e /run/late.ended
}

let_go() {
    umount $DIR || umount -l $DIR
    nbd-client -d $DEV
    until_true 200 is_disconnected
}

start_again() {
    rm -f "$SOCK" /run/nbd.pid
    start_server
}

# 1: errors were corrected, which the journal's replay is not.
mend() {
    e2fsck -p $DEV
    [ $? -le 1 ]
}

all_there() {
    list_sums "$DIR/$1" | cmp - /run/sums
}

late_ones_there() {
    last=$(cat /run/late)
    n=0
    while [ $n -le "$last" ]; do
        [ "$(stat -c %s $DIR/late.$n)" -eq 1048576 ] || return
        n=$((n + 1))
    done
}

make_folder
step server start_server
step connect connect -timeout 5
step mkfs mkfs.ext4 -q $DEV
mkdir -p $DIR
step mount mount -t ext4 $DEV $DIR
step sums remember
step untar untar first
step write begin_writing
step kill kill_server
step let-go let_go
step new-server start_again
step connect-again connect
step mend mend
step fsck e2fsck -f -n $DEV
step mount-again mount -t ext4 $DEV $DIR
step compare all_there first
step late late_ones_there
step untar-again untar second
step compare-again all_there second
step umount umount $DIR
step fsck-again e2fsck -f -n $DEV
step disconnect disconnect
step stop-server stop_server
