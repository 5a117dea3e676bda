/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What filters call: abd_forward(), abd_child() and their kin. */
#include "tools/check/request.h"
#include "tools/check/rules.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void check_below(const struct request *request, const struct disk *disk,
                        const struct disk *below, const char *function)
{
    if (below->above == disk && atomic_load(&below->state) == DISK_OPENED)
        return;
    rules_stop(RULE_FORWARD, disk->layer->plugin.name,
               "%s() to a disk that is not one of its own, open ones (%s)",
               function, request ? guard_describe(request->record) : "-");
}

LOOP_EXPORTED void abd_forward(struct abd_request *pub, struct abd_disk *under,
                               uint64_t offset,
                               int (*after)(struct abd_request *, int))
{
    struct request *request = request_claim(pub, "abd_forward", GUARD_OURS);
    struct frame *frame = &request->frames[request->depth];
    struct disk *below = disk_of(under);

    if (!loop_is_current(request->worker->loop))
        rules_stop(RULE_FORWARD, request_who(request),
                   "abd_forward() is not called on the loop of submit()");
    check_below(request, frame->disk, below, "abd_forward");
    rules_try(RULE_FORWARD);
    frame->after = after;
    if (!after && frame->scratch) {
        guard_end(frame->scratch, frame->disk->layer->plugin.scratch_size);
        frame->scratch = NULL;
    }
    guard_set_writable(pub, sizeof *pub, true);
    pub->offset = offset;
    request_enter(request, below);
}

/* --- children --- */

static void count(struct request *parent, struct disk *below)
{
    const struct disk *disk = below->above;
    const struct abd_filter *filter = &disk->layer->filter;
    struct lane *lane = &below->lanes[host_worker()->index];

    rules_try(RULE_CHILDREN);
    if (parent &&
        parent->frames[parent->depth].children_n++ >= filter->children)
        rules_stop(RULE_CHILDREN, disk->layer->plugin.name,
                   "more children of one request than the %u of abd_filter",
                   filter->children);
    if (!parent && lane->background_n++ >= filter->background)
        rules_stop(RULE_CHILDREN, disk->layer->plugin.name,
                   "more children without a parent than the %u of abd_filter",
                   filter->background);
}

static void on_child_ended(struct request *child)
{
    struct request *parent = child->parent;
    struct disk *below = child->child_below;
    struct disk *disk = below->above;
    struct host_call before;

    before = host_enter(disk->layer->plugin.name, "ended()");
    child->in_ended = true;
    list_remove(&child->child_link);
    if (parent)
        parent->frames[parent->depth].children_n--;
    else
        below->lanes[child->worker->index].background_n--;
    child->child_ended(child->pub, child->error, child->arg);
    child->in_ended = false;
    host_leave(before);
    request_retire(child);
    if (!child->is_kept)
        request_release(child);
}

LOOP_EXPORTED struct abd_request *abd_child(
    struct abd_request *parent_pub, struct abd_disk *under,
    const struct abd_io *io,
    void (*ended)(struct abd_request *child, int error, void *arg), void *arg)
{
    struct disk *below = disk_of(under);
    struct request *parent =
        parent_pub ? request_of(parent_pub, "abd_child") : NULL;
    struct request *child;

    if (!below->above || !host_worker() ||
        (parent && parent->worker != host_worker()))
        rules_stop(RULE_CHILDREN, host_busy_with(),
                   "abd_child() on a disk that is not below, or not on the "
                   "loop of submit()");
    if (parent && atomic_load(&parent->record->state) != GUARD_PLUGINS)
        rules_stop(RULE_CHILDREN, request_who(parent),
                   "abd_child() for %s, which it does not own",
                   guard_describe(parent->record));
    check_below(parent, below->above, below, "abd_child");
    count(parent, below);
    child = request_new(io->op, io->flags, io->offset, io->length);
    child->pub->data = io->data;
    child->parent = parent;
    child->child_ended = ended;
    child->arg = arg;
    child->child_below = below;
    child->ended = on_child_ended;
    child->worker = host_worker();
    if (parent) {
        list_append(&parent->children, &child->child_link);
        if (atomic_load(&parent->record->is_cancelled))
            atomic_store(&child->record->is_cancelled, true);
    }
    child->pub->client = parent ? parent->pub->client : NULL;
    request_enter(child, below);
    return child->pub;
}

static struct request *child_in_ended(const struct abd_request *pub,
                                      const char *function)
{
    struct request *child = request_of(pub, function);

    if (!child->in_ended)
        rules_stop(RULE_CHILDREN, host_busy_with(), "%s() is for ended() only",
                   function);
    return child;
}

LOOP_EXPORTED const struct abd_extent *abd_child_extents(
    const struct abd_request *pub, unsigned *ret_n)
{
    const struct request *child = child_in_ended(pub, "abd_child_extents");

    *ret_n = child->extents_n;
    return child->extents;
}

LOOP_EXPORTED const struct abd_piece *abd_child_pieces(
    const struct abd_request *pub, unsigned *ret_n)
{
    const struct request *child = child_in_ended(pub, "abd_child_pieces");

    *ret_n = child->loan.n;
    return child->loan.pieces;
}

static void take_over_data(struct request *request, struct request *child)
{
    struct abd_request *pub = request->pub;

    if (pub->length != child->pub->length)
        rules_stop(RULE_CHILDREN, request_who(request),
                   "abd_complete_as(): %s and its child differ in length",
                   guard_describe(request->record));
    if (child->loan.pieces) {
        request->loan = child->loan;
        request->loan.scratch = NULL;
        request->loan.from = child;
        child->loan.pieces = NULL;
        child->loan.copy = NULL;
        child->is_kept = true;
    } else if (pub->data && pub->data != child->pub->data) {
        memcpy(pub->data, child->pub->data, pub->length);
    }
}

LOOP_EXPORTED void abd_complete_as(struct abd_request *pub,
                                   struct abd_request *child_pub)
{
    struct request *child = child_in_ended(child_pub, "abd_complete_as");
    struct request *request = request_of(pub, "abd_complete_as");

    for (unsigned i = 0; i < child->extents_n && !child->error; i++) {
        if (!abd_add_extent(pub, child->extents[i].length,
                            child->extents[i].flags))
            break;
    }
    if (pub->op == ABD_OP_READ && !child->error)
        take_over_data(request, child);
    request->error_at = child->error_at;
    abd_complete(pub, child->error);
}

LOOP_EXPORTED void abd_cancel_child(struct abd_request *pub)
{
    request_cancel(request_of(pub, "abd_cancel_child"));
}
