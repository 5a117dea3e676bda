/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Which options go together, and what follows from them.
 *
 * Clients come over TCP unless the command line says otherwise.  -U and --vsock
 * replace that; so with --vsock, -p is the port there.  Who wants TCP beside
 * them says -i, or (beside -U only) -p.  With -s, and with sockets from a
 * superserver, there is nothing else.  Main thread. */
#include "server/option_check.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/parse.h"
#include "server/options.h"

#define ACTIVATED_MAX 1000

static int refuse(const char *what)
{
    log_write(ABD_ERROR, NULL, "%s", what);
    return EINVAL;
}

/* The first option that says where to listen, or NULL. */
static const char *where(const struct options *options)
{
    if (options->unix_path)
        return "-U";
    if (options->vsock)
        return "--vsock";
    if (options->ip_address)
        return "-i";
    return options->port ? "-p" : NULL;
}

/* LISTEN_FDS sockets were handed over if LISTEN_PID is this process. */
static int find_activated(unsigned *ret)
{
    const char *fds = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
    const char *why = NULL;
    uint64_t number = 0;

    *ret = 0;
    if (!fds || !pid)
        return 0;
    if (parse_number(pid, INT64_MAX, &number, &why) ||
        number != (uint64_t)getpid())
        return 0;
    if (parse_number(fds, ACTIVATED_MAX, &number, &why) || number == 0) {
        log_write(ABD_ERROR, NULL,
                  "LISTEN_FDS is \"%s\": from 1 to %d sockets are possible",
                  fds, ACTIVATED_MAX);
        return EINVAL;
    }
    /* Not for a command or a plugin's child. */
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDNAMES");
    *ret = (unsigned)number;
    return 0;
}

static int refuse_pair(const char *one, const char *other)
{
    log_write(ABD_ERROR, NULL, "%s and %s cannot be combined", one, other);
    return EINVAL;
}

static int check_single(const struct options *options)
{
    if (where(options))
        return refuse_pair("-s (one client on stdin and stdout)",
                           where(options));
    if (options->run)
        return refuse_pair("-s (one client on stdin and stdout)", "--run");
    if (options->print_uri)
        return refuse_pair("-s (one client on stdin and stdout)",
                           "--print-uri");
    return 0;
}

static int check_activated(const struct options *options)
{
    const char *other = where(options);

    if (options->single)
        other = "-s";
    if (options->run)
        other = "--run";
    if (options->print_uri)
        other = "--print-uri";
    if (!other)
        return 0;
    return refuse_pair("sockets from a superserver (LISTEN_FDS)", other);
}

static int check_port(const struct options *options)
{
    const char *why = NULL;
    uint64_t number = 0;
    bool digits = options->port &&
                  strspn(options->port, "0123456789") == strlen(options->port);

    if (!options->port)
        return 0;
    if (!options->vsock && !options->tcp)
        return refuse("-p: there is nothing that has a port");
    if (options->vsock &&
        parse_number(options->port, UINT32_MAX - 1, &number, &why)) {
        log_write(ABD_ERROR, NULL, "-p %s: %s (up to 4294967294 with --vsock)",
                  options->port, why);
        return EINVAL;
    }
    if (options->tcp && digits &&
        parse_number(options->port, 65535, &number, &why)) {
        log_write(ABD_ERROR, NULL, "-p %s: %s", options->port, why);
        return EINVAL;
    }
    return 0;
}

int options_check(struct options *options)
{
    int err = find_activated(&options->activated);

    if (err)
        return err;
    if (options->activated)
        err = check_activated(options);
    else if (options->single)
        err = check_single(options);
    else
        options->tcp = options->ip_address ||
                       (!options->unix_path && !options->vsock) ||
                       (options->port && !options->vsock);
    if (!err && !options->activated && !options->single)
        err = check_port(options);
    /* Whoever started it this way looks after the process itself. */
    if (options->run || options->single || options->exit_with_parent ||
        options->activated)
        options->foreground = true;
    return err;
}
