/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Lends a buffer that the next READ is lent, too. */
#include "ram.h"

static char buffer[1 << 20];

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

    if (request->op != ABD_OP_READ || request->data) {
        ram_submit(request);
        return;
    }
    memcpy(buffer, ram_at(request), request->length);
    *piece = (struct abd_piece){
        .kind = ABD_PIECE_MEMORY, .length = request->length, .data = buffer};
    abd_complete_lent(request, piece, 1, release, NULL);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("reuses-lent");
    plugin.submit = submit;
    plugin.open = open_lending;
    return &plugin;
}
