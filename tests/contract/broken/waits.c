/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Completes a request only when another one comes. */
#include "ram.h"

static struct abd_request *kept;

static void submit(struct abd_request *request)
{
    struct abd_request *before = kept;

    kept = request;
    if (before)
        ram_submit(before);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("waits");
    plugin.submit = submit;
    return &plugin;
}
