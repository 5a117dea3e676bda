/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A filter for the tests of what once was wrong.  It reads by a child, and ends
 * the request as the child ended.  What cannot be a parameter is a macro:
 * CHILDREN and BACKGROUND are how many it says it may have (with BACKGROUND,
 * children have no parent), REFUSE makes open() fail, and HANGS_UP makes it a
 * client's own and disconnects that client from a thread, a bit later each
 * time.  All else runs on the disk's loop. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "abd-filter.h"
#include "abd-loop.h"

#ifndef CHILDREN
#define CHILDREN 1
#endif
#ifndef BACKGROUND
#define BACKGROUND 0
#endif
#ifndef REFUSE
#define REFUSE 0
#endif
#ifndef HANGS_UP
#define HANGS_UP 0
#endif

struct review {
    struct abd_disk *below;
    const struct abd_client *client;
    unsigned busy; /* background children */
    unsigned delay;
    pthread_t thread;
};

static void *hang_up(void *arg)
{
    struct review *review = arg;

    usleep(review->delay);
    abd_disconnect(review->client);
    return NULL;
}

static void opened(struct abd_disk *disk, struct abd_disk *below, int error)
{
    static atomic_uint count;
    struct review *review = disk->state;

    if (error == 0) {
        abd_inherit(disk, below);
        disk->state = review;
        review->below = below;
        review->client = disk->client;
        review->delay = count++ * 13 % 300;
    } else {
        free(review);
    }
    if (error == 0 && HANGS_UP &&
        pthread_create(&review->thread, NULL, hang_up, review) != 0)
        abort();
    abd_opened(disk, error);
}

static void review_open(struct abd_disk *disk)
{
    if (!REFUSE)
        disk->state = calloc(1, sizeof(struct review));
    if (REFUSE || !disk->state)
        abd_opened(disk, REFUSE ? ENOENT : ENOMEM);
    else
        abd_open_below(disk, NULL, disk->read_only, opened);
}

static void ended(struct abd_request *child, int error, void *arg)
{
    struct abd_request *request = arg;
    struct review *review = request->disk->state;

    (void)error;
    review->busy--;
    abd_complete_as(request, child);
}

static void review_submit(struct abd_request *request)
{
    struct review *review = request->disk->state;
    struct abd_io io = {.op = request->op,
                        .flags = request->flags,
                        .offset = request->offset,
                        .length = request->length,
                        .data = request->data};

    if (request->op != ABD_OP_READ ||
        (BACKGROUND && review->busy == BACKGROUND)) {
        abd_forward(request, review->below, request->offset, NULL);
        return;
    }
    review->busy++;
    abd_child(BACKGROUND ? NULL : request, review->below, &io, ended, request);
}

static void closed(struct abd_disk *disk)
{
    free(disk->state);
    abd_closed(disk);
}

static void review_close(struct abd_disk *disk)
{
    struct review *review = disk->state;

    if (HANGS_UP)
        pthread_join(review->thread, NULL);
    abd_close_below(disk, review->below, closed);
}

static const struct abd_plugin plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "review",
    .flags = HANGS_UP ? ABD_PLUGIN_PER_CLIENT : 0,
    .open = review_open,
    .submit = review_submit,
    .close = review_close,
};
static const struct abd_filter filter = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_filter),
    .plugin = &plugin,
    .flags = ABD_FILTER_LENDS,
    .children = CHILDREN,
    .background = BACKGROUND,
};

__attribute__((visibility("default"))) const struct abd_filter *
abd_filter_entry(void)
{
    return &filter;
}
