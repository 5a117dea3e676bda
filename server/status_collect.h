/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the server is doing at one moment, copied together from all loops.
 *
 * Each loop is looked at on its own thread, one after the other, so numbers of
 * one loop fit together; those of two were true a moment apart.  Who has got an
 * answer from the server before it asks finds that request counted. */
#ifndef ABD_SERVER_STATUS_COLLECT_H
#define ABD_SERVER_STATUS_COLLECT_H

#include "base/histogram.h"
#include "loop/loop.h"
#include "loop/memory.h"
#include "server/connection.h"
#include "server/disk.h"
#include "wire/nbd.h"

#include <stdbool.h>
#include <stdint.h>

#define STATUS_COMMANDS NBD_CMD_RESIZE /* the first that is not counted */

struct status_flight {
    uint64_t requests;  /* received, and not answered yet */
    uint64_t oldest_ns; /* how long the oldest has been; 0: there is none */
};

struct status_loop {
    struct loop_counters counters;
    uint64_t connections, accepted, receives, sends;
};

struct status_lane {
    unsigned in_flight, waiting, lent, held_up, max_requests;
};

struct status_disk {
    uint64_t id;
    char *name;
    const struct layer *layer;
    unsigned loop;
    enum disk_state state;
    bool shared, read_only;
    unsigned users;

    /* Once it is open. */
    bool parallel;
    uint64_t size;
    uint32_t ops, flags; /* as the plugin said */
    struct traffic traffic;
    struct status_lane *lanes; /* workers_n of them */
    struct disk *to_ask;       /* for details; on its own loop only */
    char *details;             /* JSON, of the plugin; NULL: none */

    struct status_flight flight; /* of its connections */
};

struct status_connection {
    uint64_t id, disk_id; /* disk_id 0: none yet */
    char address[sizeof(((struct connection *)NULL)->address)];
    int64_t pid, uid;
    unsigned loop;
    enum connection_state state;
    enum nbd_reply_style style;
    uint64_t age_ns;
    struct traffic traffic;
    struct status_flight flight;
    uint64_t memory;       /* bytes of the arena */
    const char *waits_for; /* a constant; NULL: for the client, or nothing */
    bool unread;           /* the client does not take its replies */
};

struct status {
    bool failed; /* no memory: not all is there */
    bool draining;
    uint64_t clients; /* those that move from loop to loop, too */
    struct status_loop loops[LOOPS_MAX];
    struct traffic traffic;
    struct status_flight flight;
    struct histogram latency[STATUS_COMMANDS];
    struct arena_counters memory;

    struct status_disk *disks; /* by layer, then by id */
    unsigned disks_n, disks_room;
    struct status_connection *connections; /* by id */
    unsigned connections_n, connections_room;
};

/* Looks, and later calls done on this loop, which must be loop 0, with what was
 * seen; it is valid until done returns.  One at a time; done may ask for the
 * next. */
void status_collect(void (*done)(const struct status *status));

/* The disk that a connection uses; NULL: none, or it was not there yet when
 * disks were looked at. */
const struct status_disk *status_find_disk(const struct status *status,
                                           uint64_t id);

#endif
