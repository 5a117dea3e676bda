/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Asks the disk below for what lies behind its end. */
#include "ram.h"

static void submit(struct abd_request *request)
{
    abd_forward(request, request->disk->state, request->offset + 1, NULL);
}

EXPORTED const struct abd_filter *abd_filter_entry(void)
{
    static struct abd_plugin plugin;
    static const struct abd_filter filter = {
        .abi = ABD_ABI,
        .struct_size = sizeof(struct abd_filter),
        .plugin = &plugin,
        .children = 0,
    };

    plugin = below_plugin("filter-unaligned");
    plugin.submit = submit;
    return &filter;
}
