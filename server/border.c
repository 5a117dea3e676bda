/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The border above a disk.  See border.h.
 *
 * A frame goes through one of these:
 *
 *     PLAIN ---------------------------------------------> ended
 *     PIECES, ZEROES, BOUNCED: piece after piece --------> ended
 *        any of them, with emulated FUA and no error -> FLUSH -> ended
 *     PLAIN (ZERO failed with ENOTSUP) -> ZEROES
 *
 * A request stays in the lane (counts against max_requests) until it is ended
 * here, whatever the number of pieces. */
#include "server/border.h"

#include "server/bounce.h"
#include "server/connection.h"
#include "server/disk.h"
#include "server/layer.h"
#include "server/request.h"
#include "server/transmission.h"
#include "server/worker.h"

#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool writes(uint32_t op)
{
    return op == ABD_OP_WRITE || op == ABD_OP_ZERO || op == ABD_OP_TRIM;
}

/* Ends the innermost frame without the layer's having seen it (or going on
 * with it): the way back begins in the ANSWER stage, as for any other. */
static void end_here(struct request *request, int error)
{
    struct frame *frame = &request->frames[request->depth];

    frame->phase = FRAME_DONE;
    request->error = error;
    list_append(&request->worker->done, &request->link);
}

/* Gives the request, as pub shows it, to the layer. */
static void hand_over(struct request *request)
{
    struct frame *frame = &request->frames[request->depth];
    struct lane *lane = frame->lane;
    const struct layer *layer = lane->disk->layer;

    request->error = 0;
    request->error_at = ABD_NO_OFFSET;
    free(request->error_text);
    request->error_text = NULL;
    request_clear_scratch(request, layer);
    request->last_owner = layer->instance.name;
    atomic_store_explicit(&request->state, REQUEST_PLUGIN,
                          memory_order_release);
    if (!layer->plugin->submit) {
        abd_forward(&request->pub, &lane->disk->below->pub, request->pub.offset,
                    NULL);
        return;
    }
    loop_set_busy_with(lane->worker->loop, layer->instance.name);
    layer->plugin->submit(&request->pub);
    if (layer->plugin->kick && !list_is_linked(&lane->kick_link))
        list_append(&lane->worker->kicks, &lane->kick_link);
}

/* The most that the layer takes at once of this operation; 0: any length. */
static uint64_t longest(const struct disk *disk, uint32_t op)
{
    switch (op) {
    case ABD_OP_READ:
    case ABD_OP_WRITE:
        return disk->transfer;
    case ABD_OP_ZERO:
        return disk->pub.max_zero;
    case ABD_OP_TRIM:
    case ABD_OP_CACHE:
    case ABD_OP_EXTENTS:
        return disk->pub.max_trim;
    default:
        return 0;
    }
}

/* Bytes of the piece that is under way, or next. */
static uint64_t piece_length(const struct frame *frame)
{
    uint64_t max =
        longest(frame->lane->disk,
                frame->phase == FRAME_ZEROES ? ABD_OP_WRITE : frame->op);
    uint64_t left = frame->length - frame->done;

    if (frame->phase == FRAME_ZEROES && max > ZEROES_SIZE)
        max = ZEROES_SIZE;
    if (frame->phase == FRAME_BOUNCED && max > frame->bounce_size)
        max = frame->bounce_size;
    return left < max ? left : max;
}

void border_show(struct request *request)
{
    const struct frame *frame = &request->frames[request->depth];
    const struct disk *disk = frame->lane->disk;
    struct abd_request *pub = &request->pub;
    uint64_t max = longest(disk, frame->op);

    pub->disk = &frame->lane->disk->pub;
    pub->scratch = request_scratch(request, disk->layer);
    pub->op = frame->op;
    pub->flags = frame->flags;
    pub->offset = frame->offset;
    pub->length = frame->length;
    pub->data = frame->data;
    if (!writes(frame->op) || disk->pub.fua != ABD_FUA_NATIVE)
        pub->flags &= ~(uint32_t)ABD_REQ_FUA;
    if (frame->phase == FRAME_PIECES) {
        pub->offset += frame->done;
        pub->length = piece_length(frame);
        if (frame->data)
            pub->data = (char *)frame->data + frame->done;
    } else if (frame->phase == FRAME_BOUNCED) {
        pub->offset += frame->done;
        pub->length = piece_length(frame);
        pub->data = frame->bounce;
    } else if (frame->phase == FRAME_ZEROES) {
        pub->op = ABD_OP_WRITE;
        pub->flags &= ABD_REQ_FUA;
        pub->offset += frame->done;
        pub->length = piece_length(frame);
        pub->data = worker_zeroes();
    } else if (frame->phase == FRAME_FLUSH) {
        pub->op = ABD_OP_FLUSH;
        pub->flags = 0;
        pub->offset = pub->length = 0;
        pub->data = NULL;
    } else if (frame->op == ABD_OP_EXTENTS && max && frame->length > max) {
        pub->length = max; /* less than asked is an answer, too */
    }
}

static void submit(struct request *request)
{
    const struct frame *frame = &request->frames[request->depth];

    border_show(request);
    if (frame->phase == FRAME_BOUNCED && frame->op == ABD_OP_WRITE)
        memcpy(frame->bounce, (char *)frame->data + frame->done,
               request->pub.length);
    hand_over(request);
}

/* The same for a request that pub shows already, as it came. */
static void submit_plain(struct request *request)
{
    const struct disk *disk = request->frames[request->depth].lane->disk;

    request->pub.scratch = request_scratch(request, disk->layer);
    if (disk->pub.fua != ABD_FUA_NATIVE)
        request->pub.flags &= ~(uint32_t)ABD_REQ_FUA;
    hand_over(request);
}

/* A ZERO for a disk that has none: the zeroes are written. */
static void start_zeroes(struct request *request)
{
    struct frame *frame = &request->frames[request->depth];
    const struct disk *disk = frame->lane->disk;
    uint64_t max = disk->transfer < ZEROES_SIZE ? disk->transfer : ZEROES_SIZE;

    if (frame->flags & ABD_REQ_FAST) {
        end_here(request, ENOTSUP);
        return;
    }
    if (frame->length / max >= LIMIT_PIECES) {
        end_here(request, EOVERFLOW);
        return;
    }
    frame->phase = FRAME_ZEROES;
    frame->done = 0;
    submit(request);
}

static void start_pieces(struct request *request, uint64_t max)
{
    struct frame *frame = &request->frames[request->depth];

    if (frame->length / max >= LIMIT_PIECES) {
        end_here(request,
                 frame->op == ABD_OP_ZERO && frame->flags & ABD_REQ_FAST
                     ? ENOTSUP
                     : EOVERFLOW);
        return;
    }
    frame->phase = FRAME_PIECES;
    submit(request);
}

/* Data of a filter above that the disk can't use where it lies. */
static void start_bounced(struct request *request)
{
    struct frame *frame = &request->frames[request->depth];
    const struct disk *disk = frame->lane->disk;
    uint64_t max = longest(disk, frame->op);

    frame->bounce = bounce_take(request->worker, disk,
                                frame->length < max ? frame->length : max,
                                &frame->bounce_size);
    if (frame->bounce) {
        frame->phase = FRAME_BOUNCED;
        submit(request);
    } else {
        frame->phase = FRAME_WAITING_BOUNCE;
        list_append(&request->worker->bounces[disk->layer->index].waiting,
                    &request->link);
    }
}

/* The next one that waits for it may begin. */
static void end_bounced(struct request *request)
{
    struct frame *frame = &request->frames[request->depth];
    const struct disk *disk = frame->lane->disk;
    struct bounce *bounce = &request->worker->bounces[disk->layer->index];
    struct list *link;

    bounce_give(request->worker, disk, frame->bounce, frame->bounce_size);
    link = bounce->taken ? NULL : list_take_first(&bounce->waiting);
    if (link)
        start_bounced(container_of(link, struct request, link));
}

/* What the layer's author was promised, and a filter above may have broken. */
static int check(const struct request *request, const struct disk *disk)
{
    const struct abd_request *pub = &request->pub;
    uint64_t size = disk->pub.size;
    uint64_t unit = disk->block_min - 1;

    if (pub->op == ABD_OP_FLUSH)
        return disk_has(disk, ABD_OP_FLUSH) ? 0 : EINVAL;
    if (pub->op == ABD_OP_READ && !pub->data &&
        (!(disk->pub.flags & ABD_DISK_LENDS) || pub->length > disk->lend_max ||
         pub->length < disk->pub.lend_min))
        return EINVAL;
    if (pub->length == 0 || pub->offset > size ||
        pub->length > size - pub->offset)
        return writes(pub->op) ? ENOSPC : EINVAL;
    if ((pub->offset & unit) || (pub->length & unit))
        return EINVAL;
    if (writes(pub->op) &&
        (disk->pub.read_only || !disk_has(disk, ABD_OP_WRITE)))
        return EPERM;
    if ((pub->op == ABD_OP_TRIM || pub->op == ABD_OP_CACHE) &&
        !disk_has(disk, (enum abd_op)pub->op))
        return EINVAL;
    if (writes(pub->op) && pub->flags & ABD_REQ_FUA &&
        disk->pub.fua == ABD_FUA_NONE)
        return EINVAL;
    return 0;
}

/* The lane has room: the request begins. */
static void start(struct request *request)
{
    struct frame *frame = &request->frames[request->depth];
    struct lane *lane = frame->lane;
    const struct disk *disk = lane->disk;
    uint64_t max = longest(disk, frame->op);

    lane->in_flight++;
    if (frame->op == ABD_OP_ZERO && !disk_has(disk, ABD_OP_ZERO)) {
        start_zeroes(request);
    } else if (frame->op == ABD_OP_EXTENTS && !disk_has(disk, ABD_OP_EXTENTS)) {
        request_add_extent(request, frame->length, 0);
        end_here(request, 0);
    } else if (frame->data && bounce_is_needed(disk, frame->data)) {
        start_bounced(request);
    } else if ((max == 0 || frame->length <= max) &&
               (writes(frame->op) || !(frame->flags & ABD_REQ_FUA))) {
        submit_plain(request);
    } else if (max == 0 || frame->length <= max ||
               frame->op == ABD_OP_EXTENTS) {
        submit(request);
    } else {
        start_pieces(request, max);
    }
}

bool lane_has_room(const struct lane *lane)
{
    return lane->in_flight < lane->max_requests &&
           list_is_empty(&lane->waiting);
}

void border_enter(struct request *request, struct disk *disk)
{
    struct frame *frame = &request->frames[request->depth];
    struct lane *lane = &disk->lanes[request->worker->index];
    int err;

    assert(disk->parallel || disk->pub.loop == request->worker->loop);
    request->pub.disk = &disk->pub;
    frame->lane = lane;
    frame->offset = request->pub.offset;
    frame->length = request->pub.length;
    frame->data = request->pub.data;
    frame->op = (uint8_t)request->pub.op;
    frame->flags = (uint8_t)request->pub.flags;
    frame->phase = FRAME_PLAIN;
    frame->done = 0;
    frame->children = 0;
    err = check(request, disk);
    if (!err && atomic_load_explicit(&request->cancelled, memory_order_relaxed))
        err = ESHUTDOWN;
    if (err) {
        lane->in_flight++; /* as for all that end in the lane */
        end_here(request, err);
    } else if (lane_has_room(lane)) {
        start(request);
    } else {
        frame->phase = FRAME_WAITING;
        list_append(&lane->waiting, &request->link);
    }
}

void border_cancel(struct request *request)
{
    struct frame *frame = &request->frames[request->depth];

    if (frame->phase != FRAME_WAITING && frame->phase != FRAME_WAITING_BOUNCE)
        return;
    list_remove(&request->link);
    if (frame->phase == FRAME_WAITING)
        frame->lane->in_flight++;
    end_here(request, ESHUTDOWN);
}

void lane_offer_room(struct lane *lane)
{
    if (!list_is_empty(&lane->connections) && lane_has_room(lane))
        transmission_resume(container_of(lane->connections.next,
                                         struct connection, receive.room_link));
}

void lane_left(struct lane *lane)
{
    struct list *link;

    assert(lane->in_flight > 0);
    lane->in_flight--;
    while (lane->in_flight < lane->max_requests &&
           (link = list_take_first(&lane->waiting))) {
        struct request *request = container_of(link, struct request, link);

        request->frames[request->depth].phase = FRAME_PLAIN;
        start(request);
    }
    lane_offer_room(lane);
}

/* --- emulated FUA --- */

/* One flush for all writes that are complete now; carried by the first. */
static void start_flush(struct lane *lane)
{
    struct request *carrier;

    list_append_all(&lane->flushing, &lane->unflushed);
    carrier = list_first(&lane->flushing, struct request, link);
    list_remove(&carrier->link);
    lane->flush_carrier = carrier;
    carrier->frames[carrier->depth].phase = FRAME_FLUSH;
    submit(carrier);
}

static void wait_for_flush(struct request *request)
{
    struct lane *lane = request->frames[request->depth].lane;

    list_append(&lane->unflushed, &request->link);
    if (!lane->flush_carrier)
        start_flush(lane);
}

/* The flush has ended, and with it every write that it was for. */
static void flush_ended(struct lane *lane, int error)
{
    struct list *link;

    lane->flush_carrier = NULL;
    while ((link = list_take_first(&lane->flushing)))
        end_here(container_of(link, struct request, link), error);
    if (!list_is_empty(&lane->unflushed))
        start_flush(lane);
}

/* --- the end of a step --- */

/* Returns true if the operation is over, false if its next piece is under way.
 */
static bool piece_ended(struct request *request, int *error)
{
    struct frame *frame = &request->frames[request->depth];

    if (*error) {
        if (request->error_at != ABD_NO_OFFSET)
            request->error_at += frame->done;
        return true;
    }
    if (frame->phase == FRAME_BOUNCED && frame->op == ABD_OP_READ)
        memcpy((char *)frame->data + frame->done, frame->bounce,
               piece_length(frame));
    frame->done += piece_length(frame);
    if (frame->done == frame->length)
        return true;
    if (atomic_load_explicit(&request->cancelled, memory_order_relaxed)) {
        *error = ESHUTDOWN;
        return true;
    }
    submit(request);
    return false;
}

static bool wants_flush(const struct frame *frame)
{
    return frame->flags & ABD_REQ_FUA && writes(frame->op) &&
           frame->lane->disk->pub.fua == ABD_FUA_EMULATE;
}

bool border_ended(struct request *request, int *error)
{
    struct frame *frame = &request->frames[request->depth];
    struct lane *lane = frame->lane;

    if (frame->phase == FRAME_PLAIN && *error == ENOTSUP &&
        frame->op == ABD_OP_ZERO && !(frame->flags & ABD_REQ_FAST)) {
        start_zeroes(request);
        return false;
    }
    if (frame->phase == FRAME_PIECES || frame->phase == FRAME_ZEROES ||
        frame->phase == FRAME_BOUNCED) {
        bool unsupported = frame->phase == FRAME_PIECES && *error == ENOTSUP &&
                           frame->op == ABD_OP_ZERO &&
                           !(frame->flags & ABD_REQ_FAST);

        if (unsupported) {
            start_zeroes(request);
            return false;
        }
        if (!piece_ended(request, error))
            return false;
        if (frame->phase == FRAME_BOUNCED)
            end_bounced(request);
    }
    if (frame->phase == FRAME_FLUSH) {
        flush_ended(lane, *error);
    } else if (frame->phase != FRAME_DONE && *error == 0 &&
               wants_flush(frame)) {
        wait_for_flush(request);
        return false;
    }
    if (frame->phase != FRAME_PLAIN) {
        frame->phase = FRAME_DONE; /* what is shown is the whole again */
        border_show(request);
    }
    lane_left(lane);
    return true;
}
