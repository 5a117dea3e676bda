/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What filters call: abd_forward(), abd_child() and their kin (abd-filter.h).
 *
 * All of it runs on the request's loop.  A forwarded request is the same one,
 * one frame deeper.  A child is a request of its own, whose memory was reserved
 * when the client's request was admitted (or the disk opened), so that making
 * one cannot fail. */
#include "abd-filter.h"

#include "server/border.h"
#include "server/disk.h"
#include "server/layer.h"
#include "server/request.h"
#include "server/worker.h"

#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PUBLIC __attribute__((visibility("default")))

/* Extents that a child can bring at once: a page of them. */
#define CHILD_EXTENTS 256

__attribute__((noreturn)) static void misused(const struct layer *layer,
                                              const char *what)
{
    log_write(ABD_ERROR, NULL, "%s: %s", layer->instance.name, what);
    abort();
}

PUBLIC void abd_forward(struct abd_request *pub, struct abd_disk *below,
                        uint64_t offset,
                        int (*after)(struct abd_request *request, int error))
{
    struct request *request = request_of(pub);
    const struct layer *layer = disk_of(pub->disk)->layer;
    uint32_t state = REQUEST_PLUGIN;

    if (!loop_is_current(request->worker->loop))
        misused(layer, "abd_forward() must be called on the request's loop");
    if (!atomic_compare_exchange_strong_explicit(
            &request->state, &state, REQUEST_SERVER, memory_order_acq_rel,
            memory_order_relaxed))
        misused(layer, "abd_forward() of a request that it does not own");
    assert(request->depth + 1 < chain.n);
    request->depth++;
    request->frames[request->depth].after = after;
    pub->offset = offset;
    border_enter(request, disk_of(below));
}

/* Children: who may have how many is checked here, what they need was reserved
 * with the parent (job.c) or the disk (disk.c). */
static void count_child(struct request *parent, struct lane *under,
                        const struct layer *of)
{
    if (parent) {
        if (parent->frames[parent->depth].children++ >= of->filter->children)
            misused(of, "abd_child(): more children for one request than "
                        "abd_filter.children says");
    } else {
        unsigned users =
            atomic_load_explicit(&under->disk->users, memory_order_relaxed);

        if (under->background++ >= of->filter->background * users)
            misused(of, "abd_child(): more children without a parent than "
                        "abd_filter.background says");
    }
}

static void child_ended(struct request *child, int error)
{
    struct request *parent = child->child.parent;
    struct lane *under = child->frames[0].lane;
    const char *name = child->child.of->instance.name;

    if (parent) {
        list_remove(&child->child.link);
        parent->frames[parent->depth].children--;
    } else {
        under->background--;
    }
    loop_set_busy_with(child->worker->loop, name);
    child->child.ended(&child->pub, error, child->child.arg);
    loop_set_busy_with(child->worker->loop, NULL);
    if (!child->child.kept)
        request_put_reserved(child);
}

/* Room for what an EXTENTS child brings.  Without memory it is the room for
 * one, because less than was asked for is an answer, too. */
static void make_room_for_extents(struct request *child)
{
    struct abd_extent *extents = calloc(CHILD_EXTENTS, sizeof *extents);

    if (!extents || child->pub.flags & ABD_REQ_ONE) {
        free(extents);
        return;
    }
    child->extents = extents;
    child->extents_max = CHILD_EXTENTS;
    child->extents_malloced = true;
}

PUBLIC struct abd_request *abd_child(
    struct abd_request *parent_pub, struct abd_disk *below,
    const struct abd_io *io,
    void (*ended)(struct abd_request *child, int error, void *arg), void *arg)
{
    struct request *parent = parent_pub ? request_of(parent_pub) : NULL;
    struct worker *worker = worker_current();
    struct disk *under = disk_of(below);
    const struct layer *of = chain.layers[under->layer->index - 1];
    struct request *child;

    if (!worker || (parent && parent->worker != worker))
        misused(of, "abd_child() must be called on the loop of submit()");
    count_child(parent, &under->lanes[worker->index], of);
    child = request_take(worker, child_ended);
    child->child =
        (struct child){.parent = parent, .of = of, .ended = ended, .arg = arg};
    child->pub.client = parent ? parent->pub.client : NULL;
    child->pub.op = io->op;
    child->pub.flags = io->flags;
    child->pub.offset = io->offset;
    child->pub.length = io->length;
    child->pub.data = io->data;
    if (parent) {
        list_append(&parent->children, &child->child.link);
        if (atomic_load_explicit(&parent->cancelled, memory_order_relaxed))
            atomic_store_explicit(&child->cancelled, true,
                                  memory_order_relaxed);
    }
    if (io->op == ABD_OP_EXTENTS)
        make_room_for_extents(child);
    border_enter(child, under);
    return &child->pub;
}

PUBLIC const struct abd_extent *abd_child_extents(const struct abd_request *pub,
                                                  unsigned *ret_n)
{
    const struct request *child = request_of(pub);

    *ret_n = child->extents_n;
    return child->extents;
}

PUBLIC const struct abd_piece *abd_child_pieces(const struct abd_request *pub,
                                                unsigned *ret_n)
{
    const struct request *child = request_of(pub);

    *ret_n = child->lent.pieces ? child->lent.n : 0;
    return child->lent.pieces;
}

/* What the child was lent goes to the request: the child stays until then,
 * because the loan may lie in its scratch (and so do those that it has come
 * through itself: child->lent.from).  Whoever it was reserved for has instead
 * the one that is reserved with each request for this (layer.c). */
static void hand_over_loan(struct request *request, struct request *child)
{
    request->lent = child->lent;
    request->lent.from = child;
    child->lent.pieces = NULL;
    child->lent.lane = NULL;
    child->child.kept = true;
}

PUBLIC void abd_complete_as(struct abd_request *pub,
                            struct abd_request *child_pub)
{
    struct request *request = request_of(pub);
    struct request *child = request_of(child_pub);
    int error = child->error;

    if (pub->op == ABD_OP_READ && pub->length != child_pub->length)
        misused(disk_of(pub->disk)->layer, "abd_complete_as(): the child is of "
                                           "another length");
    request->error_at = child->error_at;
    free(request->error_text);
    request->error_text = child->error_text;
    child->error_text = NULL;
    for (unsigned i = 0; i < child->extents_n && !error; i++) {
        if (!request_add_extent(request, child->extents[i].length,
                                child->extents[i].flags))
            break;
    }
    if (pub->op == ABD_OP_READ && !error) {
        if (child->lent.pieces) /* copied to data, if any, when unwound */
            hand_over_loan(request, child);
        else if (pub->data && child_pub->data != pub->data)
            memcpy(pub->data, child_pub->data, pub->length);
        else if (!pub->data)
            misused(disk_of(pub->disk)->layer,
                    "abd_complete_as(): the request has "
                    "no data, and the child was not lent");
    }
    abd_complete(pub, error);
}

PUBLIC void abd_cancel_child(struct abd_request *pub)
{
    request_cancel(request_of(pub));
}
