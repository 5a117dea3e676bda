#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
#
# The first process of a qemu guest: see uml-init.sh.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
ln -sf /proc/self/fd /dev/fd
mount -t tmpfs none /run
mount -t tmpfs none /mnt
mkdir -p /dev/shm && mount -t tmpfs none /dev/shm
ip link set lo up
for module in $(echo "$MODULES" | tr , ' '); do
    if [ "$module" = nbd ]; then
        modprobe nbd nbds_max=2
    else
        modprobe "$module"
    fi
done
SERVER=$(echo "$SERVER" | tr + ' ')
export SERVER
sh "$GUEST_SCRIPT"
echo "GUEST-EXIT: $?"
busybox poweroff -f
