/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A filter that breaks no rule: each request is one or two of its own, at odd
 * places in memory, and longer than the disk below takes at once. */
#include "ram.h"

/* In scratch: how many children are on the way, and what went wrong. */
struct halves {
    unsigned n;
    int error;
};

static void on_half(struct abd_request *child, int error, void *arg)
{
    struct abd_request *request = arg;
    struct halves *halves = request->scratch;

    (void)child;
    if (error)
        halves->error = error;
    if (--halves->n == 0)
        abd_complete(request, halves->error);
}

static void on_whole(struct abd_request *child, int error, void *arg)
{
    (void)error;
    abd_complete_as(arg, child);
}

static int after(struct abd_request *request, int error)
{
    const struct halves *halves = request->scratch;

    return halves->n == 7 ? error : EIO;
}

static void submit(struct abd_request *request)
{
    struct abd_disk *below = request->disk->state;
    struct abd_io io = {request->op, request->flags, request->offset,
                        request->length, request->data};
    struct halves *halves = request->scratch;
    uint64_t half = request->length / 3;

    if (request->id % 3 == 0) {
        halves->n = 7;
        abd_forward(request, below, request->offset, after);
        return;
    }
    if (!request->data || half == 0) {
        abd_child(request, below, &io, on_whole, request);
        return;
    }
    halves->n = 2;
    io.length = half;
    abd_child(request, below, &io, on_half, request);
    io.offset += half;
    io.length = request->length - half;
    io.data = (char *)request->data + half;
    abd_child(request, below, &io, on_half, request);
}

static void on_below(struct abd_disk *disk, struct abd_disk *below, int error)
{
    if (!error) {
        abd_inherit(disk, below);
        disk->state = below;
        disk->max_transfer = 4 << 20;
        disk->max_requests = 0;
        disk->data_alignment = 1;
    }
    abd_opened(disk, error);
}

static void open_longer(struct abd_disk *disk)
{
    abd_open_below(disk, NULL, disk->read_only, on_below);
}

EXPORTED const struct abd_filter *abd_filter_entry(void)
{
    static struct abd_plugin plugin;
    static const struct abd_filter filter = {
        .abi = ABD_ABI,
        .struct_size = sizeof(struct abd_filter),
        .plugin = &plugin,
        .flags = ABD_FILTER_PARALLEL | ABD_FILTER_LENDS,
        .children = 2,
    };

    plugin = below_plugin("fine-children");
    plugin.submit = submit;
    plugin.open = open_longer;
    return &filter;
}
