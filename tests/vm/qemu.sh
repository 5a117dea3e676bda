#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
#
# qemu.sh SCRIPT [NAME=VALUE...]: like uml.sh, with several processors and a
# newer kernel: Debian's cloud kernel in qemu without KVM, its root file system
# is this one, read-only, through virtiofsd.  KERNEL, CPUS, MEMORY, LIMIT and
# MODULES (separated by commas) may be given in the environment.
here=$(cd "$(dirname "$0")" && pwd)
script=$1
shift
work=$(mktemp -d)
KERNEL=${KERNEL:-$(find /boot -name 'vmlinuz-6.12*cloud*' | sort | tail -n 1)}
MEMORY=${MEMORY:-2G}
virtiofsd=/usr/lib/qemu/virtiofsd

$virtiofsd --socket-path="$work/fs" -o source=/ -o cache=always \
    -o sandbox=chroot >"$work/virtiofsd.log" 2>&1 &
daemon=$!
trap 'kill $daemon 2>/dev/null; rm -rf "$work"' EXIT
until [ -S "$work/fs" ]; do
    kill -0 $daemon || { cat "$work/virtiofsd.log"; exit 98; }
    sleep 0.02
done

# One thread for all processors: with several, this qemu's translation of code
# that is being patched is not safe.
timeout -k 5 "${LIMIT:-240}" qemu-system-x86_64 \
    -M q35,memory-backend=mem -accel tcg,thread=single -cpu max,la57=off \
    -smp "${CPUS:-4}" -m "$MEMORY" \
    -object memory-backend-memfd,id=mem,size="$MEMORY",share=on \
    -nodefaults -display none -no-reboot -monitor none \
    -kernel "$KERNEL" -append "console=ttyS0 quiet panic=-1 root=rootfs \
rootfstype=virtiofs ro init=$here/qemu-init.sh mitigations=off nokaslr \
random.trust_cpu=on MODULES=${MODULES:-nbd} GUEST_SCRIPT=$script $*" \
    -chardev "socket,id=fs,path=$work/fs" \
    -device vhost-user-fs-pci,chardev=fs,tag=rootfs \
    -device virtio-rng-pci -serial "file:$work/log" </dev/null
tr -d '\r' <"$work/log" | grep -a .
status=$(tr -d '\r' <"$work/log" | sed -n 's/^GUEST-EXIT: //p' | tail -n 1)
exit "${status:-99}"
