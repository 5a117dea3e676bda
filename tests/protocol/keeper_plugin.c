/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A plugin for the tests of the server's end: a READ is never completed and
 * cannot be cancelled; everything else succeeds at once. */
#include <errno.h>

#include "abd-plugin.h"

static void keeper_open(struct abd_disk *disk)
{
    disk->size = 1 << 20;
    disk->ops = 1U << ABD_OP_READ | 1U << ABD_OP_FLUSH;
    abd_opened(disk, 0);
}

static void keeper_submit(struct abd_request *request)
{
    if (request->op != ABD_OP_READ)
        abd_complete(request, 0);
}

static void keeper_close(struct abd_disk *disk)
{
    abd_closed(disk);
}

static const struct abd_plugin plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "keeper",
    .version = "1",
    .open = keeper_open,
    .submit = keeper_submit,
    .close = keeper_close,
};

__attribute__((visibility("default"))) const struct abd_plugin *
abd_plugin_entry(void)
{
    return &plugin;
}
