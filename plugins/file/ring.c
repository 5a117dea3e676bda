/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Operations are listed by submit() and given to the kernel by kick(), in one
 * call for all of them; what the kernel finished meanwhile is taken there, too,
 * and otherwise when the loop's watch says that there is something.  An op that
 * finds no place waits in a list: a ring has fewer places than a disk may have
 * requests.  What the kernel will not do here (an old one, a file system that
 * lacks something) goes to the work pool, which does it or finds the error. */
#include "ring.h"

#include <errno.h>
#include <stddef.h>
#include <sys/uio.h>

#include "blocking.h"
#include "file.h"

#define RING_ENTRIES   256
#define REAP_MAX       64
#define RETRY_DELAY_NS 1000000

static void append(struct op ***end, struct op *op)
{
    op->next = NULL;
    **end = op;
    *end = &op->next;
}

static void prepare(struct io_uring_sqe *sqe, struct op *op)
{
    const struct abd_request *request = op->request;
    uint64_t length, offset = request->offset + op->done;
    void *place = op_place(op, &length);
    int fd = file_fd_for(op->file, offset, length, place);

    if (request->op == ABD_OP_READ) {
        io_uring_prep_read(sqe, fd, place, length, offset);
    } else {
        io_uring_prep_write(sqe, fd, place, length, offset);
        if (request->flags & ABD_REQ_FUA)
            sqe->rw_flags = RWF_DSYNC;
    }
    io_uring_sqe_set_data(sqe, op);
}

/* False: there is no place. */
static bool queue(struct ring *ring, struct op *op)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    if (!sqe && io_uring_submit(&ring->uring) > 0)
        sqe = io_uring_get_sqe(&ring->uring);
    if (!sqe)
        return false;
    prepare(sqe, op);
    return true;
}

/* Would the kernel wait for the file's lock, already when it is told to read?
 */
static bool may_wait(const struct op *op)
{
    uint64_t length;
    void *place = op_place(op, &length);
    const struct file *file = op->file;

    return file_is_changing(file) &&
           file_fd_for(file, op->request->offset + op->done, length, place) ==
               file->buffered_fd;
}

/* Not before the kernel is told: what may wait is known at that time only. */
static void queue_waiting(struct ring *ring)
{
    while (ring->waiting) {
        struct op *op = ring->waiting;
        struct op *next = op->next;
        bool cancelled = abd_cancelled(op->request), waits = may_wait(op);
        if (!cancelled && !waits && !queue(ring, op))
            return;
        op->next = NULL;
        ring->waiting = next;
        if (!next)
            ring->waiting_end = &ring->waiting;
        if (cancelled)
            op_complete(op, ECANCELED);
        else if (waits)
            blocking_start(op);
    }
}

/* One operation ended; it may not have been the whole op. */
static void finish(struct ring *ring, struct op *op, int result)
{
    if (result == -EINTR) {
        ring_submit(ring, op);
        return;
    }
    if (result == -EINVAL || result == -EAGAIN || result == -EOPNOTSUPP) {
        blocking_start(op);
        return;
    }
    if (result < 0) {
        op_complete(op, -result);
        return;
    }
    if (result == 0) {
        op_complete(op, EIO);
        return;
    }
    op->done += (unsigned)result;
    if (op->done == op->request->length)
        op_complete(op, 0);
    else
        ring_submit(ring, op);
}

static bool reap(struct ring *ring)
{
    struct io_uring_cqe *cqes[REAP_MAX];
    unsigned n = io_uring_peek_batch_cqe(&ring->uring, cqes, REAP_MAX);

    for (unsigned i = 0; i < n; i++) {
        struct op *op = io_uring_cqe_get_data(cqes[i]);
        int result = cqes[i]->res;
        finish(ring, op, result);
    }
    io_uring_cq_advance(&ring->uring, n);
    return n > 0;
}

static void on_retry(void *arg)
{
    ring_kick(arg);
}

static void turn(struct ring *ring)
{
    do {
        queue_waiting(ring);
        if (!io_uring_sq_ready(&ring->uring))
            continue;
        int result = io_uring_submit(&ring->uring);
        /* The entries stay in the queue.  No completion may be under way that
         * would bring us back here. */
        if (result < 0) {
            abd_timer_stop(&ring->retry);
            abd_timer_start(&ring->retry, RETRY_DELAY_NS, 0, on_retry, ring);
            reap(ring);
            return;
        }
    } while (reap(ring));
}

static void on_readable(void *arg, uint32_t ready)
{
    struct ring *ring = arg;

    (void)ready;
    reap(ring);
    turn(ring);
}

/* The signal by which a completion is posted ends the loop's sleep (EINTR), so
 * it is seen here before the loop asks for events again, without a system call.
 */
static void on_turn(void *arg)
{
    struct ring *ring = arg;

    if (io_uring_cq_ready(&ring->uring) && reap(ring))
        turn(ring);
}

/* Completions are posted when the thread is in the kernel anyway, or wake it up
 * there (not by an interrupt); reading them takes no system call. */
static int open_uring(struct ring *ring)
{
    unsigned flags = IORING_SETUP_COOP_TASKRUN;

    if (!file_debug.io_uring)
        return ENOSYS;
    int err = -io_uring_queue_init(RING_ENTRIES, &ring->uring, flags);
    if (err == EINVAL)
        err = -io_uring_queue_init(RING_ENTRIES, &ring->uring, 0);
    return err;
}

/* The ring's descriptor is readable while there are completions. */
static int watch_ring(struct ring *ring)
{
    int err;

    /* An overfull ring would lose completions. */
    if (!(ring->uring.features & IORING_FEAT_NODROP))
        return ENOSYS;
    err = abd_watch_start(&ring->watch, ring->uring.ring_fd, ABD_READABLE,
                          on_readable, ring);
    ring->ready = !err;
    if (!err)
        abd_hook_start(&ring->hook, on_turn, ring);
    return err;
}

void ring_start(struct ring *ring, struct file *file)
{
    *ring = (struct ring){.file = file};
    ring->waiting_end = &ring->waiting;
    writer_start(&ring->writer, file);
    if (!open_uring(ring) && watch_ring(ring))
        io_uring_queue_exit(&ring->uring);
}

void ring_stop(struct ring *ring)
{
    writer_stop(&ring->writer);
    if (!ring->ready)
        return;
    abd_timer_stop(&ring->retry);
    abd_watch_stop(&ring->watch);
    abd_hook_stop(&ring->hook);
    io_uring_queue_exit(&ring->uring);
    ring->ready = false;
}

void ring_submit(struct ring *ring, struct op *op)
{
    if (ring->ready)
        append(&ring->waiting_end, op);
    else
        blocking_start(op);
}

void ring_kick(struct ring *ring)
{
    writer_kick(&ring->writer);
    if (ring->ready)
        turn(ring);
}

struct ring *ring_current(struct file *file)
{
    return &file->rings[abd_loop_index(abd_loop_current())];
}
