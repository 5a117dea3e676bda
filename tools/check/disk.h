/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Disks of every layer: opening, closing, clients.  The struct that a plugin
 * sees lies in guarded memory; this one ends when the disk is closed. */
#ifndef ABD_CHECK_DISK_H
#define ABD_CHECK_DISK_H

#include "tools/check/guard.h"
#include "tools/check/host.h"
#include "tools/check/stack.h"

#include <semaphore.h>

/* What one loop needs of a disk.  Loop thread only. */
struct lane {
    struct disk *disk;
    struct worker *worker;
    unsigned in_flight_n, background_n;
    struct list waiting; /* of struct request: max_requests are in flight */
    struct list kick_link;
};

/* In what order things happen: ours is what the kit is to see next. */
enum disk_state { DISK_OPENING, DISK_OPENED, DISK_CLOSING, DISK_CLOSED };

struct disk {
    /* Set once. */
    struct abd_disk *pub;
    struct guard_record *record;
    struct stack *stack;
    const struct layer *layer;
    unsigned layer_index;
    const struct abd_client *client;
    struct abd_loop *loop;
    struct disk *above; /* NULL: ours */
    char *export_name;
    /* Set when it is opened. */
    uint64_t transfer;     /* max_transfer, never 0 */
    uint32_t block_min;    /* never 0 */
    unsigned max_requests; /* never 0 */
    unsigned share;        /* of each lane */
    struct lane lanes[LOOPS_MAX];
    int error;
    struct abd_disk said; /* for finding out that it was changed */
    /* Its loop only. */
    struct list belows; /* of below_link */
    struct list below_link;
    void (*on_opened)(struct disk *disk);
    void (*on_closed)(struct disk *disk);
    void (*opened)(struct abd_disk *, struct abd_disk *, int); /* filter's */
    void (*closed)(struct abd_disk *);
    sem_t *waiter; /* the main thread */
    struct loop_message message;
    /* Shared. */
    _Atomic uint32_t state; /* enum disk_state */
};

/* From the main thread. */

/* Opens a disk of the outermost layer.  NULL: *ret_error. */
struct disk *disk_open(struct stack *stack, const struct abd_client *client,
                       const char *export_name, bool read_only, int *ret_error);
/* The same where an error breaks a rule. */
struct disk *disk_need(struct stack *stack, const struct abd_client *client);
void disk_close(struct disk *disk);
int disk_admit(struct disk *disk, const struct abd_client *client);
void disk_leave(struct disk *disk, const struct abd_client *client);
/* How many loops may use it, without more requests than it takes. */
unsigned disk_loops(const struct disk *disk);
/* Does the plugin say what it may say? */
void disk_check_fields(const struct disk *disk);

/* From its loops. */

struct disk *disk_of(const struct abd_disk *pub);
void disk_kick(struct lane *lane);

static inline bool disk_has(const struct disk *disk, uint32_t op)
{
    return disk->pub->ops & (1U << op);
}
static inline bool disk_writable(const struct disk *disk)
{
    return !disk->pub->read_only && disk_has(disk, ABD_OP_WRITE);
}
/* The most that it takes at once; UINT64_MAX: any length. */
uint64_t disk_longest(const struct disk *disk, uint32_t op);

/* A client that was never there before. */
struct abd_client disk_new_client(void);

#endif
