/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Says that it is ABD_DISK_INLINE, but completes a turn later. */
#include "ram.h"

static void on_task(void *arg)
{
    ram_submit(arg);
}

static void submit(struct abd_request *request)
{
    abd_post(request->disk->loop, request->scratch, on_task, request);
}

static void open_inline(struct abd_disk *disk)
{
    ram_fill(disk);
    disk->flags = ABD_DISK_INLINE;
    abd_opened(disk, 0);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("not-inline");
    plugin.submit = submit;
    plugin.open = open_inline;
    return &plugin;
}
