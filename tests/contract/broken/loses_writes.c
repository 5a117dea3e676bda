/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Stores one byte less of a WRITE. */
#include "ram.h"

static void submit(struct abd_request *request)
{
    if (request->op == ABD_OP_WRITE) {
        memcpy(ram_at(request), request->data, request->length - 1);
        abd_complete(request, 0);
    } else {
        ram_submit(request);
    }
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("loses-writes");
    plugin.submit = submit;
    return &plugin;
}
