#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
#
# The first process of a User-Mode Linux guest: what is to be written is in
# memory, then the script, its exit status, and off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs none /run
mount -t tmpfs none /mnt
mkdir -p /dev/shm && mount -t tmpfs none /dev/shm
ip link set lo up
insmod "$NBD_MODULE" nbds_max=2
if [ -n "$GUEST_ADDRESS" ]; then
    ip addr add "$GUEST_ADDRESS/24" dev vec0 && ip link set vec0 up
fi
SERVER=$(echo "$SERVER" | tr + ' ')
export SERVER
sh "$GUEST_SCRIPT"
echo "GUEST-EXIT: $?"
busybox poweroff -f
