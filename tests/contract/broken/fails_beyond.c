/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Names a first failed byte that does not lie in the request. */
#include "ram.h"

static void submit(struct abd_request *request)
{
    ram_do(request);
    if (ram_every(50) && request->op == ABD_OP_READ)
        abd_fail(request, EIO, request->length, "beyond");
    else
        abd_complete(request, 0);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("fails-beyond");
    plugin.submit = submit;
    return &plugin;
}
