/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* readonly - a filter through which nothing is written.
 *
 * It says that the disk cannot be written, which makes the server refuse what
 * clients try, and opens the disk below for reading only, so that a plugin need
 * not have the right to write.  A layer above that writes all the same is
 * refused here.  Runs on the loops; keeps nothing but the disk below. */
#include "../common/below.h"

#include <errno.h>

#define READONLY_TAKES                                                         \
    (1U << ABD_OP_WRITE | 1U << ABD_OP_ZERO | 1U << ABD_OP_TRIM)

static void readonly_opened(struct abd_disk *disk, struct abd_disk *below,
                            int error)
{
    if (!below_adopt(disk, below, error))
        return;
    disk->ops &= ~READONLY_TAKES;
    disk->flags &= ~(uint32_t)ABD_DISK_FAST_ZERO;
    abd_opened(disk, 0);
}

static void readonly_open(struct abd_disk *disk)
{
    abd_open_below(disk, NULL, true, readonly_opened);
}

static void readonly_submit(struct abd_request *request)
{
    if (READONLY_TAKES & 1U << request->op)
        abd_fail(request, EPERM, ABD_NO_OFFSET,
                 "the readonly filter lets nothing be written");
    else
        below_forward(request);
}

static const struct abd_parameter readonly_parameters[] = {{NULL}};

static const struct abd_plugin readonly_plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "readonly",
    .longname = "abdkit readonly filter",
    .description = "makes a disk read-only",
    .parameters = readonly_parameters,
    .open = readonly_open,
    .submit = readonly_submit,
    .close = below_close,
};

static const struct abd_filter readonly_filter = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_filter),
    .plugin = &readonly_plugin,
    .flags = ABD_FILTER_PARALLEL | ABD_FILTER_LENDS,
};

__attribute__((visibility("default"))) const struct abd_filter *
abd_filter_entry(void)
{
    return &readonly_filter;
}
