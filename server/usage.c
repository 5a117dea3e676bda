/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The text of --help: one screenful that names every option once. */
#include "server/usage.h"

#include <stdio.h>

static const char *const lines[] = {
    "Usage: abdkit [OPTIONS] PLUGIN [[KEY=]VALUE ...]",
    "",
    "Serves the disk of PLUGIN to NBD clients.  PLUGIN is a name or a path;",
    "'abdkit --help PLUGIN' tells its parameters.",
    "",
    "Where clients come from (default: TCP, all interfaces, port 10809)",
    "  -U, --unix PATH           a unix socket; -: a private one, removed at",
    "                            the end",
    ("  -p, --port PORT           the port of TCP (of --vsock, if that is "
     "given)"),
    "  -i, --ipaddr ADDRESS      listen on this address only",
    "  -4, --ipv4-only           only IPv4",
    "  -6, --ipv6-only           only IPv6",
    "      --vsock               AF_VSOCK instead of TCP",
    "                            -U, --vsock and -i (beside -U alone also -p,",
    "                            for TCP) may be combined",
    "  -s, --single              one client, on stdin and stdout",
    "      --keepalive           TCP keepalive on connections",
    "                            (LISTEN_FDS, LISTEN_PID: sockets of systemd)",
    "",
    "Layers",
    "      --filter FILTER       put a filter in front, the outermost first",
    "      --plugin-path FOLDERS, --filter-path FOLDERS",
    "                            look there first (separated by \":\")",
    "  -D, --debug NAME.FLAG=N   a debug flag of a layer, or of \"server\"",
    "      --dump-plugin         tell about the plugin",
    "",
    "Protocol",
    "  -r, --readonly            nobody may write",
    "  -e, --exportname NAME     the export that $uri names",
    "  -n, --newstyle            the newstyle handshake (default)",
    "  -o, --oldstyle            the oldstyle handshake",
    "      --no-sr               no structured replies",
    "      --mask-handshake MASK handshake flags that may be offered",
    "      --handshake-timeout TIME, --timeout TIME",
    "                            for the handshake of a client (default 10s,",
    "                            0: no limit)",
    "",
    "Resources",
    "      --loops N             threads that serve (default: processors, at",
    "                            most 4)",
    "      --memory SIZE         for data in flight (default 80M, at least 4M)",
    "      --max-connections N   clients at once (default 100)",
    "      --work-threads N      for blocking work of plugins (default 16)",
    "  -t, --threads N           for plugins that block (default 16)",
    "      --swap                lock all memory: the disk is swap space here",
    "",
    "Process",
    "  -f, --foreground          do not go into the background",
    "      --run COMMAND         serve until COMMAND ends; it has $uri, $nbd,",
    "                            $unixsocket, $port, $exportname, $tls",
    "  -P, --pidfile PATH        written when clients can connect",
    "      --print-uri           print the URI when clients can connect",
    "      --exit-with-parent    end when the parent process ends",
    "  -u, --user USER           become that user",
    "  -g, --group GROUP         become that group",
    "      --drain-timeout TIME  at the end, for requests in flight (default",
    "                            30s)",
    "      --log WHERE           stderr, syslog or null (default: stderr, in",
    "                            the background syslog)",
    "  -v, --verbose             more messages",
    "      --status PATH         a unix socket that tells what is going on",
    "      --status-of PATH      ask there, and print the answer",
    "",
    "      --help, --version (-V), --dump-config, --short-options,",
    "      --long-options",
    "",
    "Other spellings: --export, --export-name (-e), --ip-addr (-i),",
    "--new-style (-n), --no-fork (-f), --old-style (-o), --pid-file (-P),",
    "--read-only (-r), --stdin (-s)",
    "",
    "Not built in: --tls, --tls-certificates, --tls-psk, --tls-verify-peer,",
    "--selinux-label.  See abdkit(1).",
};

void usage_print(void)
{
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        puts(lines[i]);
}
