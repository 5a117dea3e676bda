/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Buffered writes that may block, for each loop and file.
 *
 * The kernel does one write of a file (not of a device) at a time, and threads
 * that wait for their turn only cost time: so one work of the pool takes what
 * the loop has for it, batch after batch, and each batch goes back to the loop
 * while the next one is written.  Waking a thread costs more than writing
 * 4 KiB. */
#ifndef FILE_WRITER_H
#define FILE_WRITER_H

#include <pthread.h>
#include <stdbool.h>

#include "abd-loop.h"

#define WRITER_WORKERS 4

struct file;
struct op;
struct writer;

/* One work of the pool. */
struct writer_worker {
    struct writer *writer;
    struct abd_work work;
    bool runs;        /* loop thread only, from the start to the end */
    struct op *batch; /* its first; in the end its last */
};

/* Loop thread only, but for what is said to be shared. */
struct writer {
    struct abd_loop *loop;
    struct op *turn, **turn_end; /* not handed over yet */
    unsigned turn_count;
    unsigned worker_count;
    struct writer_worker workers[WRITER_WORKERS];
    pthread_mutex_t lock; /* of the queue, shared with the workers; innermost */
    struct op *queue, **queue_end;
};

/* In the order of a file's life, on the loop; none fails. */
void writer_start(struct writer *writer, const struct file *file);
void writer_stop(struct writer *writer);

/* Takes over the op: a WRITE, from op->done on.  Before writer_kick() it may
 * only be queued. */
void writer_add(struct writer *writer, struct op *op);
void writer_kick(struct writer *writer);

#endif
