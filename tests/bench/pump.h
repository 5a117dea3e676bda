/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* One connection under load: keeps a number of requests in flight and checks
 * every reply. */
#ifndef ABD_BENCH_PUMP_H
#define ABD_BENCH_PUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "tests/bench/target.h"

struct latency;
struct slot;

enum pump_op {
    PUMP_READ,
    PUMP_WRITE,
    PUMP_MIXED,
    PUMP_ZERO,
    PUMP_TRIM,
    PUMP_FLUSH,
};

/* What all connections of a run share.  Set before the first pump starts,
 * except for the last group; lives as long as the pumps. */
struct workload {
    bool verify;       /* data are their own offset, in 8-byte words */
    bool sequential;   /* not random */
    unsigned max_size; /* the largest request of any pump */
    uint64_t seed;

    uint8_t *receive_buffer; /* PUMP_RECEIVE bytes: one turn, one pump */
    uint8_t *payload;        /* max_size bytes to write without verify */
    uint8_t *written; /* verify: one byte for each block of the mixed size */

    uint64_t now_ns; /* of this turn */
    uint64_t budget; /* requests that may still be issued */
    struct latency *latency;
};

#define PUMP_RECEIVE ((size_t)256 * 1024)
#define PUMP_ROOM    64 /* in front of the receive buffer: the last rest */

/* How one connection behaves. */
struct pump_profile {
    enum pump_op op;
    unsigned write_percent; /* of PUMP_MIXED */
    unsigned size, depth;
    bool deaf; /* sends its requests and never reads */
};

struct pump_counts {
    uint64_t issued, completed, errors, mismatches;
    uint64_t bytes; /* of payload, both ways */
};

/* Created by pump_init over a session, whose descriptor it owns from then on;
 * ended by pump_finish.  Everything belongs to the only thread. */
struct pump {
    /* set once */
    struct workload *workload;
    uint64_t blocks; /* of profile.size on the disk */
    struct pump_profile profile;
    unsigned number;
    struct session session;

    struct pump_counts counts;

    /* what goes out: iov[iov_at .. iov_count) is still to be sent */
    struct slot *slots;
    uint32_t *free_slots;
    struct iovec *iov;
    uint8_t *headers, *payloads;
    uint64_t next_block, random;
    unsigned free_count, iov_at, iov_count, iov_max;

    /* what comes in */
    uint8_t carry[PUMP_ROOM]; /* the start of a header */
    struct slot *current;     /* the request that the chunk answers */
    uint64_t skip;            /* bytes of the chunk still to come */
    uint64_t skip_offset;     /* where they belong on the disk */
    unsigned carry_length;
    bool skip_data; /* they are data, not text or numbers */
    bool skip_done; /* the reply ends with them */

    bool stopped; /* issues no more */
};

/* Takes over the session's descriptor, also when it fails.  Returns 0 or an
 * errno value. */
int pump_init(struct pump *pump, struct workload *workload,
              const struct pump_profile *profile, const struct session *session,
              unsigned number);
void pump_finish(struct pump *pump);

/* Issues as many requests as depth and budget allow, and sends what the socket
 * takes.  Returns 0 or an errno value (the connection is lost). */
int pump_send(struct pump *pump);
/* Takes what has arrived.  EPROTO: the server broke the protocol; *ret_why then
 * says how.  Does not send: the caller does, after it. */
int pump_receive(struct pump *pump, const char **ret_why);

/* Does it wait for room in the socket? */
static inline bool pump_is_blocked(const struct pump *pump)
{
    return pump->iov_at < pump->iov_count;
}

static inline unsigned pump_in_flight(const struct pump *pump)
{
    return pump->profile.depth - pump->free_count;
}

#endif
