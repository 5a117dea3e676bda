#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors
#
# uml-host.sh SCRIPT [NAME=VALUE...]: like uml.sh, but the server (SERVER, words
# separated by "+") runs outside the guest, in a network namespace of its own,
# and the guest reaches it over a tap device by TCP.
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "$IN_NAMESPACE" ]; then
    IN_NAMESPACE=1 exec unshare -n sh "$0" "$@"
fi
script=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ip link set lo up && ip tuntap add dev tap0 mode tap &&
    ip addr add 10.77.0.1/24 dev tap0 && ip link set tap0 up || exit 98

# shellcheck disable=SC2046
$(echo "$SERVER" | tr + ' ') -f -i 10.77.0.1 -p 10809 -P "$work/pid" &
server=$!
until [ -s "$work/pid" ]; do
    kill -0 $server || exit 97
    sleep 0.02
done
UML_ARGS="vec0:transport=tap,ifname=tap0,depth=128,gro=1" \
    sh "$here/uml.sh" "$script" GUEST_ADDRESS=10.77.0.2 ADDRESS=10.77.0.1 \
    PORT=10809 "$@"
status=$?
kill $server
wait $server || { echo "the server ended with $?"; status=96; }
exit $status
