/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Closes a disk with requests in flight, without close(). */
#include "ram.h"

static void submit(struct abd_request *request)
{
    if (ram_every(100))
        abd_closed(request->disk);
    ram_submit(request);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("closes-early");
    plugin.submit = submit;
    return &plugin;
}
