/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */
/* A filter in under 100 lines: the disk below has the complement of all bytes.
 * READs are turned on the way back (abd_forward with after), a WRITE goes on as
 * a child (abd_child): abdkit --filter=./abd-example-filter.so memory 16M */
#include <errno.h>
#include <stdlib.h>

#include "abd-filter.h"

static void on_below(struct abd_disk *disk, struct abd_disk *below, int error)
{
    if (!error) {
        abd_inherit(disk, below);
        disk->state = below;
        /* Zeroes below are not zeroes above, so nobody may ask for them. */
        disk->ops &= ~(1U << ABD_OP_ZERO | 1U << ABD_OP_EXTENTS);
    }
    abd_opened(disk, error);
}

static void example_open(struct abd_disk *disk)
{
    abd_open_below(disk, NULL, disk->read_only, on_below);
}

static void example_close(struct abd_disk *disk)
{
    abd_close_below(disk, (struct abd_disk *)disk->state, abd_closed);
}

static void complement(void *to, const void *from, uint64_t length)
{
    for (uint64_t i = 0; i < length; i++)
        ((char *)to)[i] = (char)~((const char *)from)[i];
}

/* The READ has come back; its data may be changed, and its error. */
static int after_read(struct abd_request *request, int error)
{
    if (!error)
        complement(request->data, request->data, request->length);
    return error;
}

static void on_written(struct abd_request *child, int error, void *arg)
{
    struct abd_request *request = (struct abd_request *)arg;

    (void)error; /* abd_complete_as() knows it, and where it happened */
    free(*(void **)request->scratch);
    abd_complete_as(request, child);
}

/* A WRITE's data must not be changed: it needs a request of its own. */
static void write_complement(struct abd_request *request)
{
    void *copy = malloc(request->length);
    struct abd_io io = {request->op, request->flags, request->offset,
                        request->length, copy};

    if (!copy) {
        abd_complete(request, ENOMEM);
        return;
    }
    *(void **)request->scratch = copy;
    complement(copy, request->data, request->length);
    abd_child(request, (struct abd_disk *)request->disk->state, &io, on_written,
              request);
}

static void example_submit(struct abd_request *request)
{
    if (request->op == ABD_OP_WRITE)
        write_complement(request);
    else
        abd_forward(request, (struct abd_disk *)request->disk->state,
                    request->offset,
                    request->op == ABD_OP_READ ? after_read : NULL);
}

static struct abd_plugin plugin;
static struct abd_filter filter;

__attribute__((visibility("default"))) const struct abd_filter *
abd_filter_entry(void)
{
    plugin.abi = filter.abi = ABD_ABI;
    plugin.struct_size = sizeof plugin;
    filter.struct_size = sizeof filter;
    plugin.name = "example";
    plugin.scratch_size = sizeof(void *);
    plugin.open = example_open;
    plugin.submit = example_submit;
    plugin.close = example_close;
    filter.plugin = &plugin;
    filter.children = 1;
    return &filter;
}
