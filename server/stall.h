/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Clients that do not go on: they stall inside a payload, or do not read their
 * replies.  Such a one is let be, unless others wait for what it holds, or the
 * server wants to end. */
#ifndef ABD_SERVER_STALL_H
#define ABD_SERVER_STALL_H

#include <stdint.h>

struct connection;
struct worker;

/* One direction of a connection: the bytes since some moment.  Loop only. */
struct pace {
    uint64_t since_ns;
    uint64_t moved;
    uint64_t unsent; /* sending: what the socket held then, or PACE_UNKNOWN */
};
#define PACE_UNKNOWN UINT64_MAX

/* The client's turn begins now: it is to send, or has something to read. */
void pace_begin(struct pace *pace);

/* Once a second, on each loop.  Drops who stalls. */
void stall_check(struct worker *worker);

#endif
