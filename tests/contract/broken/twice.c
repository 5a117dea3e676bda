/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Completes a request twice, at once. */
#include "ram.h"

static void submit(struct abd_request *request)
{
    int err = ram_do(request);

    abd_complete(request, err);
    if (ram_every(20))
        abd_complete(request, err);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("twice");
    plugin.submit = submit;
    return &plugin;
}
