/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A worker: what the server keeps for each loop.  Loop thread only, except
 * where it says otherwise. */
#ifndef ABD_SERVER_WORKER_H
#define ABD_SERVER_WORKER_H

#include "base/histogram.h"
#include "base/list.h"
#include "loop/loop.h"
#include "loop/memory.h"
#include "server/limits.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct connection;

/* Read by the status thread while the loop counts: relaxed atomics, written by
 * the loop alone. */
struct worker_counters {
    _Atomic uint64_t requests, errors, bytes_read, bytes_written;
    _Atomic uint64_t connections_accepted, receives, sends;
    struct histogram latency[8]; /* by enum nbd_command */
};

struct worker {
    unsigned index;
    struct abd_loop *loop;
    struct memory *memory;

    /* Requests. */
    struct list free_requests;
    unsigned free_n, reserved;
    size_t request_size;
    struct list done;      /* completed, not unwound yet */
    struct list in_flight; /* of clients, oldest first */
    uint64_t next_id;
    struct list kicks; /* lanes that are owed a kick() */

    /* Connections. */
    struct list connections; /* all */
    struct list ready;       /* have something to parse */
    struct list sending;     /* have replies to send */
    _Atomic unsigned connections_n;
    bool draining;

    /* Where connections receive into, one after the other. */
    uint8_t *receive_buffer;
    unsigned receive_lent; /* buffers that connections hold */

    /* Scratch of the sender: iovecs and chunk headers. */
    struct iovec *iovecs;
    uint8_t *heads;

    struct abd_timer stall_timer;
    struct worker_counters counters;
};

extern struct worker *workers;
extern unsigned workers_n;
extern struct arena *server_arena;

/* Creates the workers on loops that exist and do not run yet. */
int workers_create(struct arena *arena);

static inline struct worker *worker_of(const struct abd_loop *loop)
{
    return loop_context(loop);
}

static inline struct worker *worker_current(void)
{
    struct abd_loop *loop = abd_loop_current();

    return loop ? loop_context(loop) : NULL;
}

#endif
