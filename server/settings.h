/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the command line says.  Filled in by options.c before anything starts,
 * read-only afterwards, so every thread may look. */
#ifndef ABD_SERVER_SETTINGS_H
#define ABD_SERVER_SETTINGS_H

#include "base/log.h"

#include <stdbool.h>
#include <stdint.h>

struct settings {
    /* Resources. */
    unsigned loops;           /* --loops */
    unsigned threads;         /* --threads; blocking plugins only */
    unsigned work_threads;    /* --work-threads */
    uint64_t memory;          /* --memory, bytes */
    unsigned max_connections; /* --max-connections */

    /* Protocol. */
    const char *export_name; /* --export-name: what --run and --print-uri say */
    bool read_only;          /* --readonly */
    bool oldstyle;           /* --oldstyle */
    bool no_structured;      /* --no-sr: neither structured nor extended */
    uint32_t mask_handshake; /* --mask-handshake: handshake flags allowed */
    uint64_t handshake_timeout_ns, drain_timeout_ns;
    bool keepalive; /* --keepalive: SO_KEEPALIVE on TCP */

    const char *status_path; /* --status: a unix socket; NULL: none */

    /* -D server.NAME=N */
    int debug_requests; /* 1: never use a request's memory again */
};

extern struct settings settings;

#endif
