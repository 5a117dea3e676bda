/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Completes a READ without data as if it had some. */
#include "ram.h"

static void open_lending(struct abd_disk *disk)
{
    ram_fill(disk);
    disk->flags = ABD_DISK_LENDS;
    abd_opened(disk, 0);
}

static void submit(struct abd_request *request)
{
    if (request->op == ABD_OP_READ && !request->data)
        abd_complete(request, 0);
    else
        ram_submit(request);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("no-pieces");
    plugin.submit = submit;
    plugin.open = open_lending;
    return &plugin;
}
