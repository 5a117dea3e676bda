/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Counts in the request instead of in a variable. */
#include "ram.h"

static void submit(struct abd_request *request)
{
    while (request->length > 1 && request->op == ABD_OP_READ) {
        *(char *)request->data = *ram_at(request);
        request->length--;
    }
    ram_submit(request);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("changes-request");
    plugin.submit = submit;
    return &plugin;
}
