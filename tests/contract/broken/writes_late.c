/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Writes to the data of a READ that has ended. */
#include "ram.h"

static char *data;

static void submit(struct abd_request *request)
{
    if (request->op == ABD_OP_READ)
        data = request->data;
    ram_submit(request);
    if (data && ram_every(200))
        data[0] = 1;
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("writes-late");
    plugin.submit = submit;
    return &plugin;
}
