/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* One io_uring for each loop and file.
 *
 * Reads that have to wait for storage, and direct writes.  All on the loop's
 * thread.  Where the kernel refuses a ring, or one operation, the same is done
 * in the work pool. */
#ifndef FILE_RING_H
#define FILE_RING_H

#include <liburing.h>
#include <stdbool.h>

#include "abd-loop.h"
#include "writer.h"

struct file;
struct op;

/* file->rings; loop thread only. */
struct ring {
    struct file *file;
    struct io_uring uring;
    bool ready; /* there is a ring; otherwise the work pool does it all */
    struct op *waiting, **waiting_end; /* for a place in the ring */
    struct writer writer;              /* for buffered writes */
    struct abd_watch watch;
    struct abd_hook hook;
    struct abd_timer retry; /* the kernel had no memory for a submission */
    struct abd_task task;
};

/* In the order of a file's life.  start() never fails: without a ring the work
 * pool takes over. */
void ring_start(struct ring *ring, struct file *file);
void ring_stop(struct ring *ring);

/* Takes over the op: a READ or WRITE, from op->done on.  Until ring_kick() it
 * may only be queued. */
void ring_submit(struct ring *ring, struct op *op);
void ring_kick(struct ring *ring);

/* The ring of the loop that calls. */
struct ring *ring_current(struct file *file);

#endif
