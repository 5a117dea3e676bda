/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Never completes one request in fifty. */
#include "ram.h"

static void submit(struct abd_request *request)
{
    if (!ram_every(50))
        ram_submit(request);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("forgets");
    plugin.submit = submit;
    return &plugin;
}
