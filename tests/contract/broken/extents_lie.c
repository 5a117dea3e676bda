/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Says that all is a hole. */
#include "ram.h"

static void submit(struct abd_request *request)
{
    if (request->op == ABD_OP_EXTENTS) {
        abd_add_extent(request, request->length,
                       ABD_EXTENT_HOLE | ABD_EXTENT_ZERO);
        abd_complete(request, 0);
    } else {
        ram_submit(request);
    }
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("extents-lie");
    plugin.submit = submit;
    return &plugin;
}
