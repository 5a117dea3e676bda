/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Sleeps in submit(). */
#include "ram.h"

#include <unistd.h>

static void submit(struct abd_request *request)
{
    if (ram_every(100))
        usleep(300000);
    ram_submit(request);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("blocks");
    plugin.submit = submit;
    return &plugin;
}
