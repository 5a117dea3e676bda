/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The loop appends to a queue, workers take batches from it.  A worker ends
 * when there is nothing more, and also after some batches, so that the pool's
 * other work has its turn; the loop starts it again.  Which workers run is
 * known to the loop only: one that is about to end while something is queued is
 * started again by its end. */
#include "writer.h"

#include <stddef.h>

#include "blocking.h"
#include "file.h"

#define BATCH_MAX 64
/* Batches of one work. */
#define ROUNDS_MAX 16

static struct op *take(struct writer *writer)
{
    struct op *first, *last;

    pthread_mutex_lock(&writer->lock);
    first = last = writer->queue;
    for (unsigned n = 1; last && last->next && n < BATCH_MAX; n++)
        last = last->next;
    if (last) {
        writer->queue = last->next;
        last->next = NULL;
    }
    if (!writer->queue)
        writer->queue_end = &writer->queue;
    pthread_mutex_unlock(&writer->lock);
    return first;
}

/* On the loop. */
static void complete_all(void *arg)
{
    struct op *op = arg;

    while (op) {
        struct op *next = op->next;
        op_complete(op, op->err);
        op = next;
    }
}

/* In the pool.  What comes next is taken first: with the last request of a
 * batch that is posted the file might be closed. */
static void run(void *arg)
{
    struct writer_worker *worker = arg;
    struct writer *writer = worker->writer;
    struct op *batch = worker->batch;

    for (unsigned rounds = 1;; rounds++) {
        struct op *next;

        for (struct op *op = batch; op; op = op->next)
            op->err = blocking_run(op);
        next = rounds < ROUNDS_MAX ? take(writer) : NULL;
        if (!next)
            break;
        abd_post(writer->loop, &batch->task, complete_all, batch);
        batch = next;
    }
    worker->batch = batch;
}

static void done(void *arg);

/* If one is free and there is something to do.  It gets its first batch here:
 * so each ends with requests that are not completed yet, and the file is not
 * closed before. */
static void start_worker(struct writer *writer)
{
    for (unsigned i = 0; i < writer->worker_count; i++) {
        struct writer_worker *worker = &writer->workers[i];

        if (worker->runs)
            continue;
        worker->batch = take(writer);
        if (!worker->batch)
            return;
        worker->runs = true;
        abd_work_start(writer->loop, &worker->work, run, done, worker);
        return;
    }
}

/* The last request may end the file: so they are completed last. */
static void done(void *arg)
{
    struct writer_worker *worker = arg;
    struct op *finished = worker->batch;

    worker->runs = false;
    start_worker(worker->writer);
    complete_all(finished);
}

void writer_start(struct writer *writer, const struct file *file)
{
    *writer = (struct writer){
        .loop = abd_loop_current(),
        .worker_count = file->is_block_device ? WRITER_WORKERS : 1,
    };
    writer->turn_end = &writer->turn;
    writer->queue_end = &writer->queue;
    for (unsigned i = 0; i < WRITER_WORKERS; i++)
        writer->workers[i].writer = writer;
    pthread_mutex_init(&writer->lock, NULL);
}

void writer_stop(struct writer *writer)
{
    pthread_mutex_destroy(&writer->lock);
}

void writer_kick(struct writer *writer)
{
    if (!writer->turn)
        return;
    pthread_mutex_lock(&writer->lock);
    *writer->queue_end = writer->turn;
    writer->queue_end = writer->turn_end;
    pthread_mutex_unlock(&writer->lock);
    writer->turn = NULL;
    writer->turn_end = &writer->turn;
    writer->turn_count = 0;
    start_worker(writer);
}

void writer_add(struct writer *writer, struct op *op)
{
    op->next = NULL;
    *writer->turn_end = op;
    writer->turn_end = &op->next;
    if (++writer->turn_count >= BATCH_MAX)
        writer_kick(writer);
}
