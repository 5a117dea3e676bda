/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Says that the last extent reaches past the end of the disk. */
#include "ram.h"

static void submit(struct abd_request *request)
{
    if (request->op == ABD_OP_EXTENTS)
        abd_add_extent(request, request->disk->size + 1 - request->offset, 0);
    abd_complete(request, request->op == ABD_OP_EXTENTS ? 0 : ram_do(request));
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("extents-past");
    plugin.submit = submit;
    return &plugin;
}
