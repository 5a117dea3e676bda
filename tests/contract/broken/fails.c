/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Fails now and then. */
#include "ram.h"

static void submit(struct abd_request *request)
{
    int err = ram_do(request);

    abd_complete(request, ram_every(50) ? EIO : err);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("fails");
    plugin.submit = submit;
    return &plugin;
}
