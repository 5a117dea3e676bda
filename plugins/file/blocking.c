/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Runs requests on a thread of the work pool, where they may block.  run() only
 * keeps the result; the request is completed by done(), because the work lies
 * in its scratch. */
#include "blocking.h"

#include <errno.h>
#include <stddef.h>
#include <sys/uio.h>
#include <unistd.h>

#include "file.h"
#include "range.h"

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

int blocking_run(struct op *op)
{
    /* It waited for its turn, and nobody wants it any more. */
    if (abd_cancelled(op->request))
        return ECANCELED;
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
    struct op *op = arg;

    op->err = blocking_run(op);
}

static void done(void *arg)
{
    struct op *op = arg;

    op_complete(op, op->err);
}

void blocking_start(struct op *op)
{
    abd_work_start(abd_loop_current(), &op->work, run, done, op);
}
