/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Changes the data of a WRITE. */
#include "ram.h"

static void submit(struct abd_request *request)
{
    char *data = request->data;

    if (request->op == ABD_OP_WRITE)
        data[0] = 0;
    ram_submit(request);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("writes-write");
    plugin.submit = submit;
    return &plugin;
}
