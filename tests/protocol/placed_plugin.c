/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A disk with two bad bytes: a request whose range has one of them fails with
 * its offset and a text.  FLUSH fails without an offset, and the exports cannot
 * be listed. */
#include <errno.h>
#include <string.h>

#include "abd-plugin.h"

#define SIZE (8u << 20)

static const uint64_t bad_bytes[] = {5000, (3u << 20) + 17};

static void placed_exports(struct abd_exports *exports)
{
    abd_exports_done(exports, EIO);
}

static void placed_open(struct abd_disk *disk)
{
    disk->size = SIZE;
    disk->ops = 1U << ABD_OP_READ | 1U << ABD_OP_WRITE | 1U << ABD_OP_ZERO |
                1U << ABD_OP_TRIM | 1U << ABD_OP_FLUSH | 1U << ABD_OP_EXTENTS |
                1U << ABD_OP_CACHE;
    abd_opened(disk, 0);
}

static void placed_submit(struct abd_request *request)
{
    if (request->op == ABD_OP_FLUSH) {
        abd_fail(request, EIO, ABD_NO_OFFSET, "nothing can be flushed");
        return;
    }
    for (unsigned i = 0; i < sizeof bad_bytes / sizeof bad_bytes[0]; i++) {
        uint64_t at = bad_bytes[i] - request->offset;

        if (bad_bytes[i] >= request->offset && at < request->length) {
            abd_fail(request, ENOSPC, at, "byte %llu is bad",
                     (unsigned long long)bad_bytes[i]);
            return;
        }
    }
    if (request->op == ABD_OP_READ)
        memset(request->data, 'p', request->length);
    abd_complete(request, 0);
}

static void placed_close(struct abd_disk *disk)
{
    abd_closed(disk);
}

static const struct abd_plugin plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "placed",
    .exports = placed_exports,
    .open = placed_open,
    .submit = placed_submit,
    .close = placed_close,
};

__attribute__((visibility("default"))) const struct abd_plugin *
abd_plugin_entry(void)
{
    return &plugin;
}
