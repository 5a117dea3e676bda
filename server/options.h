/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The command line, as far as it concerns the program and not the server (that
 * part is in settings.h).
 *
 * Relative paths are made absolute when they are parsed, so it does not matter
 * when the process leaves the directory that it was started in. */
#ifndef ABD_SERVER_OPTIONS_H
#define ABD_SERVER_OPTIONS_H

#include "base/log.h"

#include <stdbool.h>
#include <stdint.h>

/* Strings of the command line; ends with NULL. */
struct strings {
    const char **at;
    unsigned n;
};

struct options {
    /* What is to be done. */
    enum action {
        ACTION_SERVE,
        ACTION_HELP,
        ACTION_VERSION,
        ACTION_DUMP_CONFIG,
        ACTION_DUMP_PLUGIN,
        ACTION_SHORT_OPTIONS,
        ACTION_LONG_OPTIONS,
        ACTION_STATUS_OF,
    } action;
    const char *status_of; /* ACTION_STATUS_OF: the socket's path */

    /* The layers. */
    struct strings filters; /* outermost first */
    const char *plugin;     /* NULL: none was given */
    struct strings parameters;
    struct strings debug_flags; /* NAME.FLAG=N, not the server's own */
    struct strings plugin_path, filter_path;

    /* Where clients come from. */
    const char *unix_path;         /* "-": a private one; NULL: none */
    bool tcp;                      /* derived: listen on ip_address and port */
    const char *port, *ip_address; /* NULL: not given */
    int family;                    /* AF_UNSPEC, AF_INET, AF_INET6 */
    bool vsock, single;
    unsigned activated; /* sockets handed over by a superserver, from fd 3 on */

    /* The process. */
    bool foreground, print_uri, exit_with_parent, swap;
    const char *run, *pidfile, *user, *group;
    bool log_given;
    enum log_destination log;
};

/* The port when none is given: the one registered for NBD. */
#define OPTIONS_DEFAULT_PORT "10809"

/* Fills in options and settings; what they point to stays until the next call.
 * 0 or an errno value, after a message. */
int options_parse(int argc, char **argv, struct options *options);

/* Prints the names of all options, one a line (--long-options and
 * --short-options, for completion in shells). */
void options_print_long(void);
void options_print_short(void);

#endif
