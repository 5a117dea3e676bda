/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Reads one byte more than it was asked for. */
#include "ram.h"

static void submit(struct abd_request *request)
{
    char *data = request->data;

    if (request->op == ABD_OP_READ)
        data[request->length] = 1;
    ram_submit(request);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("overruns");
    plugin.submit = submit;
    return &plugin;
}
