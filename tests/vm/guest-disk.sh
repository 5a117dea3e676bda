#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
#
# Inside a guest: the kernel's client uses the disk for all that a disk is for.
# A file system with checksummed files, fio with fsync and verification, trim,
# discard, zeroes, disconnect.  Environment: see common.sh.
. "$(dirname "$0")/common.sh"
FIO_SIZE=${FIO_SIZE:-32M}
DIR=/mnt/disk

write_files() {
    for n in 1 2 3 4 5 6 7 8; do
        dd if=/dev/urandom of="$DIR/file$n" bs=64k count=$((n * 6)) \
            conv=fsync status=none || return
    done
    (cd $DIR && cksum file* >/run/sums)
}

check_files() {
    umount $DIR || return
    echo 3 >/proc/sys/vm/drop_caches
    mount -t ext4 $DEV $DIR || return
    (cd $DIR && cksum file*) | cmp - /run/sums
}

run_fio() {
    cd /run && fio --name=verify --ioengine=libaio --direct=1 --iodepth=32 \
        --verify=crc32c --verify_fatal=1 --do_verify=1 --end_fsync=1 \
        --aux-path=/run "$@"
}

fio_on_file() {
    run_fio --filename=$DIR/fio.data --size="$FIO_SIZE" --rw=randrw \
        --bsrange=4k-128k --fsync=64
}

fio_on_device() {
    run_fio --filename=$DEV --size="$FIO_SIZE" --rw=write --bs=64k
}

trim_files() {
    rm $DIR/fio.data && sync && fstrim -v $DIR
}

discard_all() {
    umount $DIR && blkdiscard -f $DEV &&
        cmp -n 33554432 $DEV /dev/zero
}

zero_some() {
    dd if=/dev/urandom of=$DEV bs=1M count=8 oflag=direct status=none &&
        blkdiscard -z -o 1048576 -l 4194304 $DEV &&
        cmp -n 4194304 $DEV /dev/zero -i 1048576:0 &&
        ! cmp -s -n 1048576 $DEV /dev/zero
}

# LOGFILE: what the server's log filter writes.
every_connection_reads() {
    cd /run && fio --name=many --filename=$DEV --size=4M --rw=randread \
        --bs=4k --direct=1 --ioengine=libaio --iodepth=4 --numjobs=4 \
        --aux-path=/run || return
    sed -n 's/.* connection=\([0-9]*\) Read .*/\1/p' "$LOGFILE" | sort |
        uniq -c
    [ "$(sed -n 's/.* connection=\([0-9]*\) Read .*/\1/p' "$LOGFILE" |
        sort -u | wc -l)" -ge "$CONNECTIONS" ]
}

as_many_queues() {
    [ "$(find $SYS/mq -mindepth 1 -maxdepth 1 | wc -l)" -ge "$QUEUES" ]
}

step server start_server
step connect connect
[ -z "$QUEUES" ] || step queues as_many_queues
step mkfs mkfs.ext4 -q $DEV
mkdir -p $DIR
step mount mount -t ext4 $DEV $DIR
step files write_files
step remount check_files
step fio-file fio_on_file
step fstrim trim_files
step files-still-there check_files
step blkdiscard discard_all
step zeroes zero_some
step fio-device fio_on_device
[ -z "$LOGFILE" ] || step every-connection every_connection_reads
step disconnect disconnect
step connect-again connect
step read-again cmp -n 4194304 $DEV /dev/zero -i 33554432:0
step disconnect-again disconnect
step stop-server stop_server
step dmesg no_kernel_complaints
