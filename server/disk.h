/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A disk: the opened storage of one layer, and who uses it.
 *
 * Shared disks are in a table, one for each layer and export name (or one for
 * all names); a client's own are not.  The table (its lock: table_lock) owns a
 * disk's state and its count of users, and is touched when disks are opened and
 * closed only.  Everything else of a disk is either read-only once it is open,
 * or in a lane.
 *
 *     NEW -> OPENING -> OPEN -> CLOSING -> (gone, or OPENING again if somebody
 *               |                           asked for it meanwhile)
 *               +-> FAILED -> (gone)
 *
 * open() and close() of the plugin run on the disk's loop. */
#ifndef ABD_SERVER_DISK_H
#define ABD_SERVER_DISK_H

#include "abd-filter.h"
#include "abd-plugin.h"

#include "base/list.h"
#include "loop/loop.h"
#include "server/layer.h"
#include "server/request.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct connection;
struct request;
struct worker;

/* What has been done for somebody, for people to look at. */
struct traffic {
    uint64_t requests, errors; /* commands answered, with an error among them */
    uint64_t bytes_read, bytes_written;
};

/* What one loop needs of a disk.  Loop thread only. */
struct lane {
    struct disk *disk;
    struct worker *worker;
    unsigned in_flight;      /* requests in the plugin or on their way to it */
    unsigned lent;           /* ended by lending, not released yet */
    unsigned max_requests;   /* this lane's share */
    struct list waiting;     /* requests that found no room, in order */
    struct list connections; /* that are not read from for want of room */
    struct list kick_link;   /* in worker->kicks while kick() is owed */
    /* Emulated FUA: writes that wait for a flush.  One flush, carried by the
     * first of them, serves all that were there when it began. */
    struct list unflushed, flushing;
    struct request *flush_carrier; /* NULL: no flush is under way */
    /* Called once, when lent has become 0; NULL: nobody waits for that. */
    void (*on_returned)(void *arg);
    void *on_returned_arg;
    unsigned background;    /* children without a parent, of filters above */
    struct traffic traffic; /* of clients; since the disk was opened */
};

struct disk {
    struct abd_disk pub; /* what the plugin sees */
    struct layer *layer;

    /* table_lock */
    enum disk_state {
        DISK_NEW,
        DISK_OPENING,
        DISK_OPEN,
        DISK_CLOSING,
    } state;
    _Atomic unsigned users; /* who got it and has not put it back; anybody
                               may look */
    unsigned unfinished;    /* requests, when it was last counted */
    unsigned pins;          /* who needs it open beside them */
    struct disk *below;     /* the first of belows; its own loop writes */
    bool had_below;         /* likewise: since it was opened */
    struct list table_link; /* in the table */
    struct list idle_link;  /* in the list of unused disks */
    struct list asking;     /* struct disk_request, until it is open */

    /* Set once. */
    uint64_t id; /* never used twice: a disk's place in memory may be */

    /* Set before OPEN is announced, then read-only. */
    char *name; /* the export name; pub.export_name points here */
    bool shared;
    bool parallel;       /* served by all loops */
    uint64_t transfer;   /* pub.max_transfer, never 0 */
    uint64_t piece;      /* the same as a power of 2, for READs in parts */
    uint64_t lend_max;   /* longer READs come with data: some layer cuts */
    uint32_t block_min;  /* never 0 */
    uint32_t alignment;  /* of data; 1: any */
    bool takes_received; /* WRITEs may lie where they were received */
    unsigned background; /* requests reserved on each worker */

    /* The disk's loop. */
    struct list belows; /* struct below: what it opened of the next layer */
    int open_error;
    bool opened; /* the plugin's open() succeeded: close() is owed */
    struct request_waiter background_waiter;

    struct lane *lanes;          /* one for each loop */
    struct loop_message message; /* opening and closing, a step at a time */
    struct disk_put *gone;       /* told when it is closed */
};

/* Somebody who asked for a disk and waits to hear. */
struct disk_request {
    struct list link;
    struct loop_message message;
    struct abd_loop *loop; /* where got() is to be called */
    void (*got)(struct disk_request *request, struct disk *disk, int error);
    struct disk *disk; /* the result, while it travels */
    int error;
};

/* Somebody who wants to know that the disk does without him. */
struct disk_put {
    struct list link;
    struct loop_message message; /* fn is the caller's to set */
    struct abd_loop *loop;
};

/* Asks for the top disk of an export (layer 0), or of a lower layer.  got() is
 * called later, never from inside, on request->loop.  client: whose own disk it
 * becomes if the layer has one for each client; its loop is then request->loop.
 * loop: where a new shared disk lives, NULL: the least busy. */
void disk_get(struct layer *layer, const char *name, bool read_only,
              const struct abd_client *client, struct abd_loop *loop,
              struct disk_request *request);

/* Ends one use; no request of this user may be in flight.  A client's own disk
 * is closed, a shared one only when too many are unused.  gone (NULL: nobody
 * cares) is then sent to this thread's loop: what the user lent to the disk
 * (the client's identity) may end. */
void disk_put(struct disk *disk, struct disk_put *gone);

/* May this client use it?  Asks every layer from the outermost on; what said
 * yes is told by disk_leave().  0 or an errno value.  The client's thread.
 * admission.h says what is remembered for that. */
int disk_admit(struct disk *disk, const struct abd_client *client);
void disk_leave(struct disk *disk, const struct abd_client *client);

/* It stays open though nobody uses it. */
void disk_pin(struct disk *disk);
void disk_unpin(struct disk *disk);
/* The same for the first disk below; NULL: there never was one.  EBUSY: there
 * was, and there will be. */
int disk_pin_below(struct disk *disk, struct disk **ret);
void disk_set_below(struct disk *disk, struct disk *below);

/* At the end: closes everything that is open, then calls done on some loop,
 * under the table's lock.  Only when no client is left. */
void disks_close_all(void (*done)(void *arg), void *arg);

/* Calls fn for each disk, under the table's lock: it looks and returns. */
void disks_for_each(void (*fn)(struct disk *disk, void *arg), void *arg);

void disks_init(void);

static inline struct disk *disk_of(const struct abd_disk *pub)
{
    return container_of(pub, struct disk, pub);
}

static inline bool disk_has(const struct disk *disk, enum abd_op op)
{
    return disk->pub.ops & (1U << op);
}

#endif
