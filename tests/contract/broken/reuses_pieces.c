/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Uses the same array of pieces for every READ. */
#include "ram.h"

static struct abd_piece piece;

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
    if (request->op != ABD_OP_READ || request->data) {
        ram_submit(request);
        return;
    }
    piece = (struct abd_piece){.kind = ABD_PIECE_MEMORY,
                               .length = request->length,
                               .data = ram_at(request)};
    abd_complete_lent(request, &piece, 1, release, NULL);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("reuses-pieces");
    plugin.submit = submit;
    plugin.open = open_lending;
    return &plugin;
}
