/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Runs requests on a thread of the work pool, where they may block.  Buffered
 * writes come as a list: one hop between threads serves them all, and the
 * file's lock is not fought for.  run() only keeps the results; requests are
 * completed by done(), because the work lies in the first one's scratch. */
#include "blocking.h"

#include <errno.h>
#include <stddef.h>
#include <sys/uio.h>
#include <unistd.h>

#include "file.h"
#include "range.h"
#include "ring.h"

/* One step of a READ or WRITE; the number of bytes or a negative errno. */
static ssize_t step(struct op *op, bool dsync)
{
    const struct abd_request *request = op->request;
    uint64_t length, offset = request->offset + op->done;
    void *place = op_place(op, &length);
    int fd = file_fd_for(op->file, offset, length, place);
    struct iovec iov = {place, length};

    ssize_t n =
        request->op == ABD_OP_READ
            ? preadv2(fd, &iov, 1, (off_t)offset, 0)
            : pwritev2(fd, &iov, 1, (off_t)offset, dsync ? RWF_DSYNC : 0);
    return n < 0 ? -errno : n;
}

static int transfer(struct op *op)
{
    struct file *file = op->file;
    bool fua =
        op->request->op == ABD_OP_WRITE && op->request->flags & ABD_REQ_FUA;
    bool dsync = fua && file_has_dsync(file);

    while (op->done < op->request->length) {
        ssize_t n = step(op, dsync);
        if (n == -EINTR)
            continue;
        if (n == -EOPNOTSUPP && dsync) {
            file_note_lack(&file->no_dsync);
            dsync = false;
            continue;
        }
        if (n < 0)
            return (int)-n;
        if (n == 0)
            return EIO;
        op->done += (uint64_t)n;
    }
    return fua && !dsync ? file_sync(file) : 0;
}

static int run_one(struct op *op)
{
    switch (op->request->op) {
    case ABD_OP_READ:
    case ABD_OP_WRITE:
        return transfer(op);
    case ABD_OP_ZERO:
        return range_zero(op->file, op->request);
    case ABD_OP_TRIM:
        return range_trim(op->file, op->request);
    case ABD_OP_EXTENTS:
        return range_extents(op->file, op->request);
    case ABD_OP_CACHE:
        return range_cache(op->file, op->request);
    case ABD_OP_FLUSH:
        return file_sync(op->file);
    default:
        return EINVAL;
    }
}

static void run(void *arg)
{
    for (struct op *op = arg; op; op = op->next)
        op->err = run_one(op);
}

static void complete_all(struct op *op)
{
    while (op) {
        struct op *next = op->next;
        op_complete(op, op->err);
        op = next;
    }
}

static void done(void *arg)
{
    complete_all(arg);
}

static void batch_done(void *arg)
{
    struct op *op = arg;
    struct ring *ring = ring_current(op->file);

    complete_all(op);
    ring_batch_done(ring);
}

void blocking_start(struct op *op)
{
    abd_work_start(abd_loop_current(), &op->work, run, done, op);
}

void blocking_start_batch(struct op *ops)
{
    abd_work_start(abd_loop_current(), &ops->work, run, batch_done, ops);
}
