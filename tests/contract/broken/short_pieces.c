/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Lends less than was asked for. */
#include "ram.h"

static void open_lending(struct abd_disk *disk)
{
    ram_fill(disk);
    disk->flags = ABD_DISK_LENDS;
    abd_opened(disk, 0);
}

static void release(void *arg)
{
    (void)arg;
}

static void submit(struct abd_request *request)
{
    struct abd_piece *piece = request->scratch;

    if (request->op != ABD_OP_READ || request->length < 2) {
        ram_submit(request);
        return;
    }
    *piece = (struct abd_piece){.kind = ABD_PIECE_MEMORY,
                                .length = request->length - 1,
                                .data = ram_at(request)};
    abd_complete_lent(request, piece, 1, release, NULL);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("short-pieces");
    plugin.submit = submit;
    plugin.open = open_lending;
    return &plugin;
}
