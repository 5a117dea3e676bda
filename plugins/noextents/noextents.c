/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* noextents - a filter that makes a disk look as if it had no holes.
 *
 * It takes block status away, so that the server answers for it: all is data.
 * Reads may still be sent as holes, which say nothing a client could not see
 * from the zeroes.  Runs on the loops; keeps nothing but the disk below. */
#include "../common/below.h"

static void noextents_opened(struct abd_disk *disk, struct abd_disk *below,
                             int error)
{
    if (!below_adopt(disk, below, error))
        return;
    disk->ops &= ~(1U << ABD_OP_EXTENTS);
    abd_opened(disk, 0);
}

static void noextents_open(struct abd_disk *disk)
{
    abd_open_below(disk, NULL, disk->read_only, noextents_opened);
}

static void noextents_submit(struct abd_request *request)
{
    if (request->op == ABD_OP_EXTENTS)
        abd_complete(request, 0); /* no extents at all: data */
    else
        below_forward(request);
}

static const struct abd_parameter noextents_parameters[] = {{NULL}};

static const struct abd_plugin noextents_plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "noextents",
    .longname = "abdkit noextents filter",
    .description = "hides where a disk has holes",
    .parameters = noextents_parameters,
    .open = noextents_open,
    .submit = noextents_submit,
    .close = below_close,
};

static const struct abd_filter noextents_filter = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_filter),
    .plugin = &noextents_plugin,
    .flags = ABD_FILTER_PARALLEL | ABD_FILTER_LENDS,
};

__attribute__((visibility("default"))) const struct abd_filter *
abd_filter_entry(void)
{
    return &noextents_filter;
}
