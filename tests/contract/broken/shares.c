/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Keeps the contents in a global variable. */
#include "ram.h"

static char bytes[1 << 20];

static void submit(struct abd_request *request)
{
    char *at = bytes + request->offset;

    if (request->op == ABD_OP_READ)
        memcpy(request->data, at, request->length);
    else if (request->op == ABD_OP_WRITE)
        memcpy(at, request->data, request->length);
    else if (request->op == ABD_OP_ZERO || request->op == ABD_OP_TRIM)
        memset(at, 0, request->length);
    abd_complete(request, 0);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("shares");
    plugin.submit = submit;
    return &plugin;
}
