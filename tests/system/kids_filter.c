/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A filter that answers by requests of its own, in the way that the parameter
 * NAME-how=HOW says (copy: where there is none):
 *
 *     copy    one child, whose end is the request's end; READs that may be lent
 *             are lent, others come into a buffer of the filter now and then
 *     cancel  the same, and the child is cancelled at once
 *     mirror  two children read the same; the last to end answers
 *     split   four children for four parts, into parts of the request's data
 *     rmw     blocks of one byte over a disk with larger ones: it reads,
 *             modifies and writes, one request after the other
 *     other   the second half of the disk is the export of NAME-other=EXPORT
 *     reopen  each 20th request closes the disk below, and opens it again
 *     away    a FLUSH closes the disk below, the next one opens it again
 *     turn    READs are forwarded and turned on their way back, WRITEs likewise
 *
 * KIDS_NAME and the other macros are what it says of itself; with
 * KIDS_BACKGROUND children of copy have no parent.  All of it runs on the
 * request's loop; with ABD_FILTER_PARALLEL only copy, cancel and mirror are
 * allowed, which share nothing. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "abd-filter.h"

#ifndef KIDS_NAME
#define KIDS_NAME "kids"
#endif
#ifndef KIDS_FLAGS
#define KIDS_FLAGS 0
#endif
#ifndef KIDS_PLUGIN_FLAGS
#define KIDS_PLUGIN_FLAGS 0
#endif
#ifndef KIDS_BACKGROUND
#define KIDS_BACKGROUND 0
#endif
#ifndef KIDS_CHILDREN
#define KIDS_CHILDREN 4
#endif
#define TURN    20 /* requests between two closings */
#define TURNING 0x5a

enum how {
    COPY,
    CANCEL,
    MIRROR,
    SPLIT,
    RMW,
    OTHER,
    REOPEN,
    TURNED,
    AWAY,
};

/* The instance's state. */
struct config {
    enum how how;
    char *other;
};

/* A disk's state.  What follows below is REOPEN's and RMW's. */
struct kids {
    enum how how;
    struct abd_disk *below, *other;
    const struct config *config;
    unsigned background;    /* children without a parent */
    unsigned inside, since; /* requests below; since the last closing */
    bool exclusive;         /* one modifies, or it is reopened */
    int lost;               /* it could not be opened again: why */
    struct abd_request *first, **last; /* those that wait */
};

struct scratch {
    struct abd_request *next;
    uint8_t *buffer, *second; /* MIRROR's other child needs one, too */
    uint64_t begin;           /* RMW: the first byte of buffer */
    unsigned left;
    int error;
};

static struct kids *kids_of(const struct abd_request *request)
{
    return request->disk->state;
}

static struct abd_io io_of(const struct abd_request *request)
{
    return (struct abd_io){.op = request->op,
                           .flags = request->flags,
                           .offset = request->offset,
                           .length = request->length,
                           .data = request->data};
}

/* --- copy, cancel, mirror --- */

static void copied(struct abd_request *child, int error, void *arg)
{
    struct abd_request *request = arg;
    struct scratch *scratch = request->scratch;
    struct kids *kids = kids_of(request);
    uint8_t *buffer = scratch->buffer, *second = scratch->second;
    unsigned n;

    if (KIDS_BACKGROUND)
        kids->background--;
    if (--scratch->left)
        return;
    if (!error && request->op == ABD_OP_READ && !request->data &&
        !abd_child_pieces(child, &n))
        abort();
    /* It copies, so that the buffer is done with. */
    abd_complete_as(request, child);
    free(buffer);
    free(second);
}

static void start_copy(struct kids *kids, struct abd_request *request,
                       unsigned n)
{
    struct scratch *scratch = request->scratch;
    struct abd_io io = io_of(request);

    if (KIDS_BACKGROUND && kids->background + n > KIDS_BACKGROUND) {
        abd_forward(request, kids->below, request->offset, NULL);
        return;
    }
    if (request->op == ABD_OP_READ && request->data && request->id % 2) {
        scratch->buffer = aligned_alloc(4096, (request->length | 4095) + 1);
        if (scratch->buffer)
            io.data = scratch->buffer;
    }
    if (io.data && n == 2) {
        scratch->second = aligned_alloc(4096, (request->length | 4095) + 1);
        n = scratch->second ? 2 : 1;
    }
    scratch->left = n;
    if (KIDS_BACKGROUND)
        kids->background += n;
    for (unsigned i = 0; i < n; i++) {
        struct abd_request *child =
            abd_child(KIDS_BACKGROUND ? NULL : request, kids->below, &io,
                      copied, request);

        if (kids->how == CANCEL)
            abd_cancel_child(child);
        if (scratch->second)
            io.data = scratch->second;
    }
}

/* --- split --- */

static void part_ended(struct abd_request *child, int error, void *arg)
{
    struct abd_request *request = arg;
    struct scratch *scratch = request->scratch;

    (void)child;
    if (error && !scratch->error)
        scratch->error = error;
    if (--scratch->left == 0)
        abd_complete(request, scratch->error);
}

static void split(struct kids *kids, struct abd_request *request)
{
    struct scratch *scratch = request->scratch;
    uint64_t unit = kids->below->block_min ? kids->below->block_min : 1;
    uint64_t part = request->length / KIDS_CHILDREN / unit * unit, at = 0;

    if (part == 0 || request->op == ABD_OP_EXTENTS) {
        abd_forward(request, kids->below, request->offset, NULL);
        return;
    }
    scratch->left = KIDS_CHILDREN;
    for (unsigned i = 0; i < KIDS_CHILDREN; i++) {
        struct abd_io io = io_of(request);

        io.offset += at;
        io.length = i + 1 < KIDS_CHILDREN ? part : request->length - at;
        if (io.data)
            io.data = (uint8_t *)request->data + at;
        at += io.length;
        abd_child(request, kids->below, &io, part_ended, request);
    }
}

/* --- who must wait for others: rmw, reopen --- */

static void begin(struct kids *kids, struct abd_request *request);

static void wait_for_others(struct kids *kids, struct abd_request *request)
{
    struct scratch *scratch = request->scratch;

    scratch->next = NULL;
    *kids->last = request;
    kids->last = &scratch->next;
}

/* Those that waited go on, until one is exclusive. */
static void go_on(struct kids *kids)
{
    while (kids->first && !kids->exclusive) {
        struct abd_request *request = kids->first;
        struct scratch *scratch = request->scratch;

        kids->first = scratch->next;
        if (!kids->first)
            kids->last = &kids->first;
        begin(kids, request);
    }
}

static void rmw_end(struct abd_request *request, struct abd_request *child,
                    int error)
{
    struct kids *kids = kids_of(request);
    struct scratch *scratch = request->scratch;
    bool was_exclusive = request->op == ABD_OP_WRITE;

    free(scratch->buffer);
    if (child && error && request->op != ABD_OP_READ)
        abd_complete_as(request, child);
    else
        abd_complete(request, error);
    if (was_exclusive) {
        kids->exclusive = false;
        go_on(kids);
    }
}

static void rmw_written(struct abd_request *child, int error, void *arg)
{
    (void)child;
    rmw_end(arg, NULL, error);
}

static void rmw_read(struct abd_request *child, int error, void *arg)
{
    struct abd_request *request = arg;
    struct kids *kids = kids_of(request);
    struct scratch *scratch = request->scratch;
    uint8_t *at = scratch->buffer + (request->offset - scratch->begin);
    struct abd_io io = {.op = ABD_OP_WRITE,
                        .flags = request->flags,
                        .offset = child->offset,
                        .length = child->length,
                        .data = scratch->buffer};

    if (error) {
        rmw_end(request, child, error);
        return;
    }
    if (request->op == ABD_OP_READ) {
        memcpy(request->data, at, request->length);
        rmw_end(request, child, 0);
        return;
    }
    memcpy(at, request->data, request->length);
    abd_child(request, kids->below, &io, rmw_written, request);
}

static void rmw(struct kids *kids, struct abd_request *request)
{
    struct scratch *scratch = request->scratch;
    uint64_t unit = kids->below->block_min ? kids->below->block_min : 1;
    uint64_t first = request->offset / unit * unit;
    uint64_t end = (request->offset + request->length + unit - 1) / unit * unit;
    struct abd_io io = {
        .op = ABD_OP_READ, .offset = first, .length = end - first};

    if (request->op != ABD_OP_READ && request->op != ABD_OP_WRITE) {
        abd_forward(request, kids->below, request->offset, NULL);
        return;
    }
    kids->exclusive = request->op == ABD_OP_WRITE;
    scratch->begin = first;
    scratch->buffer = io.data = aligned_alloc(4096, (io.length | 4095) + 1);
    if (io.data)
        abd_child(request, kids->below, &io, rmw_read, request);
    else
        rmw_end(request, NULL, ENOMEM);
}

/* --- reopen --- */

static void reopened(struct abd_disk *disk, struct abd_disk *below, int error)
{
    struct kids *kids = disk->state;

    kids->below = below;
    kids->lost = error;
    kids->exclusive = false;
    kids->since = 0;
    go_on(kids);
}

static void closed_to_reopen(struct abd_disk *disk)
{
    struct kids *kids = disk->state;

    kids->below = NULL;
    abd_open_below(disk, NULL, disk->read_only, reopened);
}

static void reopen_ended(struct abd_request *child, int error, void *arg)
{
    struct abd_request *request = arg;
    struct abd_disk *disk = request->disk;
    struct kids *kids = disk->state;

    (void)error;
    abd_complete_as(request, child);
    kids->inside--;
}

/* The child that has just ended is gone only when its ended() has returned, so
 * closing is left to the next request that comes. */
static void reopen(struct kids *kids, struct abd_request *request)
{
    struct abd_disk *disk = request->disk;
    struct abd_io io = io_of(request);

    if (kids->lost) {
        abd_complete(request, kids->lost);
    } else if (kids->since >= TURN && kids->inside == 0) {
        kids->exclusive = true;
        wait_for_others(kids, request);
        abd_close_below(disk, kids->below, closed_to_reopen);
    } else {
        kids->inside++;
        kids->since++;
        abd_child(request, kids->below, &io, reopen_ended, request);
    }
}

/* --- away --- */

static void is_away(struct abd_disk *disk)
{
    struct kids *kids = disk->state;

    kids->below = NULL;
    abd_complete(kids->first, 0);
    kids->first = NULL;
}

static void is_back(struct abd_disk *disk, struct abd_disk *below, int error)
{
    struct kids *kids = disk->state;

    kids->below = below;
    abd_complete(kids->first, error);
    kids->first = NULL;
}

/* One FLUSH at a time is expected. */
static void go_away(struct kids *kids, struct abd_request *request)
{
    if (request->op != ABD_OP_FLUSH) {
        abd_forward(request, kids->below, request->offset, NULL);
        return;
    }
    kids->first = request;
    if (kids->below)
        abd_close_below(request->disk, kids->below, is_away);
    else
        abd_open_below(request->disk, NULL, request->disk->read_only, is_back);
}

/* --- other, turn --- */

static void to_other(struct kids *kids, struct abd_request *request)
{
    uint64_t half = kids->below->size;
    struct scratch *scratch = request->scratch;
    struct abd_io io = io_of(request), second = io;

    if (request->op == ABD_OP_FLUSH ||
        (request->offset < half && request->length > half - request->offset)) {
        scratch->left = 2;
        if (request->op != ABD_OP_FLUSH) {
            io.length = half - io.offset;
            second.length -= io.length;
            second.offset = 0;
            if (io.data)
                second.data = (uint8_t *)io.data + io.length;
        }
        abd_child(request, kids->below, &io, part_ended, request);
        abd_child(request, kids->other, &second, part_ended, request);
    } else if (request->offset < half) {
        abd_forward(request, kids->below, request->offset, NULL);
    } else {
        abd_forward(request, kids->other, request->offset - half, NULL);
    }
}

static void turn_bytes(uint8_t *to, const uint8_t *from, uint64_t length)
{
    for (uint64_t i = 0; i < length; i++)
        to[i] = from[i] ^ TURNING;
}

static int turn_read(struct abd_request *request, int error)
{
    if (!error)
        turn_bytes(request->data, request->data, request->length);
    return error;
}

static void turn(struct kids *kids, struct abd_request *request)
{
    struct scratch *scratch = request->scratch;
    struct abd_io io = io_of(request);

    if (request->op == ABD_OP_READ) {
        abd_forward(request, kids->below, request->offset, turn_read);
        return;
    }
    if (request->op != ABD_OP_WRITE) {
        abd_forward(request, kids->below, request->offset, NULL);
        return;
    }
    scratch->buffer = malloc(request->length);
    if (!scratch->buffer) {
        abd_complete(request, ENOMEM);
        return;
    }
    turn_bytes(scratch->buffer, request->data, request->length);
    io.data = scratch->buffer;
    scratch->left = 1;
    abd_child(request, kids->below, &io, copied, request);
}

static void begin(struct kids *kids, struct abd_request *request)
{
    switch (kids->how) {
    case COPY:
    case CANCEL:
        start_copy(kids, request, 1);
        break;
    case MIRROR:
        start_copy(kids, request, request->op == ABD_OP_READ ? 2 : 1);
        break;
    case SPLIT:
        split(kids, request);
        break;
    case RMW:
        rmw(kids, request);
        break;
    case OTHER:
        to_other(kids, request);
        break;
    case REOPEN:
        reopen(kids, request);
        break;
    case TURNED:
        turn(kids, request);
        break;
    case AWAY:
        go_away(kids, request);
        break;
    }
}

static void kids_submit(struct abd_request *request)
{
    struct kids *kids = kids_of(request);

    if (kids->exclusive || kids->first)
        wait_for_others(kids, request);
    else
        begin(kids, request);
}

/* --- disks --- */

/* Neither the second half nor single bytes can be done by every operation of
 * the disks below. */
static void describe(struct abd_disk *disk, const struct kids *kids)
{
    uint32_t no_part = 1U << ABD_OP_ZERO | 1U << ABD_OP_TRIM |
                       1U << ABD_OP_EXTENTS | 1U << ABD_OP_CACHE;

    if (kids->how == RMW) {
        disk->block_min = 1;
        disk->ops &= ~no_part;
    }
    if (kids->how == OTHER) {
        disk->size += kids->other->size;
        disk->ops &= ~(1U << ABD_OP_EXTENTS);
    }
    if (kids->how == TURNED)
        disk->ops &= ~no_part;
}

static void other_opened(struct abd_disk *disk, struct abd_disk *other,
                         int error)
{
    struct kids *kids = disk->state;

    kids->other = other;
    if (!error)
        describe(disk, kids);
    else
        free(kids); /* the server closes what is open */
    abd_opened(disk, error);
}

static void opened(struct abd_disk *disk, struct abd_disk *below, int error)
{
    struct kids *kids = disk->state;

    if (error) {
        free(kids);
        abd_opened(disk, error);
        return;
    }
    kids->below = below;
    abd_inherit(disk, below);
    disk->state = kids;
    if (kids->how == OTHER) {
        abd_open_below(disk, kids->config->other, disk->read_only,
                       other_opened);
        return;
    }
    describe(disk, kids);
    abd_opened(disk, 0);
}

static void kids_open(struct abd_disk *disk)
{
    struct kids *kids = calloc(1, sizeof *kids);

    if (!kids) {
        abd_opened(disk, ENOMEM);
        return;
    }
    kids->config = disk->instance->state;
    kids->how = kids->config->how;
    kids->last = &kids->first;
    disk->state = kids;
    abd_open_below(disk, NULL, disk->read_only, opened);
}

static void all_closed(struct abd_disk *disk)
{
    free(disk->state);
    abd_closed(disk);
}

static void below_closed(struct abd_disk *disk)
{
    struct kids *kids = disk->state;

    if (kids->other)
        abd_close_below(disk, kids->other, all_closed);
    else
        all_closed(disk);
}

static void kids_close(struct abd_disk *disk)
{
    struct kids *kids = disk->state;

    if (kids->below)
        abd_close_below(disk, kids->below, below_closed);
    else
        all_closed(disk);
}

/* --- the instance --- */

static int kids_create(struct abd_instance *instance)
{
    instance->state = calloc(1, sizeof(struct config));
    return instance->state ? 0 : ENOMEM;
}

static int kids_config(struct abd_instance *instance, const char *key,
                       const char *value)
{
    static const char *const words[] = {"copy",   "cancel", "mirror",
                                        "split",  "rmw",    "other",
                                        "reopen", "turn",   "away"};
    struct config *config = instance->state;

    if (strcmp(key, KIDS_NAME "-other") == 0) {
        free(config->other);
        config->other = strdup(value);
        return config->other ? 0 : ENOMEM;
    }
    for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(value, words[i]) == 0) {
            config->how = (enum how)i;
            return 0;
        }
    return EINVAL;
}

static void kids_destroy(struct abd_instance *instance)
{
    struct config *config = instance->state;

    if (config)
        free(config->other);
    free(config);
}

static const struct abd_parameter parameters[] = {
    {KIDS_NAME "-how", "how requests are answered"},
    {KIDS_NAME "-other", "another export"},
    {NULL, NULL},
};
static const struct abd_plugin plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = KIDS_NAME,
    .flags = KIDS_PLUGIN_FLAGS,
    .parameters = parameters,
    .scratch_size = sizeof(struct scratch),
    .create = kids_create,
    .config = kids_config,
    .destroy = kids_destroy,
    .open = kids_open,
    .submit = kids_submit,
    .close = kids_close,
};
static const struct abd_filter filter = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_filter),
    .plugin = &plugin,
    .flags = KIDS_FLAGS,
    .children = KIDS_CHILDREN,
    .background = KIDS_BACKGROUND,
};

__attribute__((visibility("default"))) const struct abd_filter *
abd_filter_entry(void)
{
    return &filter;
}
