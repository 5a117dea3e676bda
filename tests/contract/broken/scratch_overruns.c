/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Uses more scratch than it has asked for. */
#include "ram.h"

static void submit(struct abd_request *request)
{
    memset(request->scratch, 1, 65);
    ram_submit(request);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("scratch-overruns");
    plugin.submit = submit;
    return &plugin;
}
