/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Changes the size of an open disk. */
#include "ram.h"

static void submit(struct abd_request *request)
{
    if (request->op == ABD_OP_READ && ram_every(50))
        request->disk->size += 512;
    ram_submit(request);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("grows");
    plugin.submit = submit;
    return &plugin;
}
