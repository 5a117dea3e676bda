#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
#
# uml.sh SCRIPT: runs a script as a User-Mode Linux guest whose root file system
# is this one, read-only.  Prints the guest's console; the exit status is the
# script's (99: the guest died).  Environment for the guest: NAME=VALUE
# arguments behind the script (without blanks or quotes: they travel on the
# kernel's command line; SERVER may have "+" for a blank).  UML_ARGS: more for
# the kernel; LIMIT: seconds; MEMORY: 1G.
here=$(cd "$(dirname "$0")" && pwd)
script=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
modules=$(find /usr/lib/uml/modules -name nbd.ko | head -n 1)

# The guest's memory is a file in TMPDIR, and its console's folder is in HOME.
# shellcheck disable=SC2086
HOME=$work TMPDIR=$work timeout -k 5 "${LIMIT:-150}" linux.uml mem="${MEMORY:-1G}" \
    root=/dev/root rootfstype=hostfs rootflags=/ ro init="$here/uml-init.sh" \
    NBD_MODULE="$modules" GUEST_SCRIPT="$script" "$@" \
    con=null con0=null,fd:1 con1=null,fd:1 quiet panic=-1 $UML_ARGS \
    </dev/null >"$work/log" 2>&1
tr -d '\r' <"$work/log" | grep -a -v -E 'SELinux|^Core dump|^Checking'
status=$(tr -d '\r' <"$work/log" | sed -n 's/^GUEST-EXIT: //p' | tail -n 1)
exit "${status:-99}"
