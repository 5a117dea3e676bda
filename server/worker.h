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

struct bounce;
struct connection;

/* Read by the status thread while the loop counts: relaxed atomics, written by
 * the loop alone. */
struct worker_counters {
    _Atomic uint64_t requests, errors, bytes_read, bytes_written;
    _Atomic uint64_t connections_accepted, receives, sends;
    struct histogram latency[8]; /* by enum nbd_command */
};

/* Only the loop writes, so no locked instruction is needed. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(
        counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
        memory_order_relaxed);
}

struct worker {
    unsigned index;
    struct abd_loop *loop;
    struct memory *memory;

    /* Requests. */
    struct list free_requests;
    unsigned free_n;
    unsigned background; /* reserved for filters' disks */
    /* Not beside free_n: they change one by one, and a compiler that loads both
     * at once makes each request wait for all stores before it. */
    unsigned reserved;
    uint64_t pool_bytes, pool_limit; /* an equal share for each worker */
    char *pool;                      /* so much address space, used in order */
    struct list done;                /* completed, not unwound yet */
    uint64_t next_id;
    struct list kicks;   /* lanes that are owed a kick() */
    struct list starved; /* struct request_waiter */

    /* Connections. */
    struct list connections; /* all */
    struct list ready;       /* have something to parse */
    struct list sending;     /* have replies to send */
    _Atomic unsigned connections_n;
    bool draining;

    unsigned sent;    /* replies and chunks, in this turn */
    unsigned at_once; /* commands answered in the turn they came, of these */
    uint64_t turn_ns; /* when this turn began */
    unsigned jobs;    /* commands of all connections, not answered yet */

    /* Where connections receive into, one after the other. */
    uint8_t *receive_buffer; /* NULL: a connection holds it */
    uint8_t **receive_spares;
    unsigned receive_spares_n; /* at the start: all that may be held */
    size_t receive_size;

    struct bounce *bounces; /* chain.n of them */

    /* Scratch of the sender: iovecs and chunk headers. */
    struct iovec *iovecs;
    uint8_t *heads;

    struct abd_timer timer; /* each second */
    struct worker_counters counters;
};

extern struct worker *workers;
extern unsigned workers_n;
extern struct arena *server_arena;

/* What they need of the arena beside the budget. */
uint64_t workers_extra(unsigned n);
/* Creates the workers on loops that exist and do not run yet. */
int workers_create(struct arena *arena);

/* Zeroes, to be sent or written; ZEROES_SIZE of them, page-aligned, inside the
 * arena where a plugin wants that. */
#define ZEROES_SIZE (1 * MIB)
void *worker_zeroes(void);

/* A buffer of receive_size; NULL: connections hold all there are. */
uint8_t *worker_take_receive_buffer(struct worker *worker);
void worker_give_receive_buffer(struct worker *worker, uint8_t *buffer);

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
