/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Makes more children than it has announced. */
#include "ram.h"

static void ended(struct abd_request *child, int error, void *arg)
{
    (void)child, (void)error, (void)arg;
}

static void submit(struct abd_request *request)
{
    struct abd_io io = {.op = ABD_OP_FLUSH};

    abd_child(request, request->disk->state, &io, ended, NULL);
    abd_child(request, request->disk->state, &io, ended, NULL);
}

EXPORTED const struct abd_filter *abd_filter_entry(void)
{
    static struct abd_plugin plugin;
    static const struct abd_filter filter = {
        .abi = ABD_ABI,
        .struct_size = sizeof(struct abd_filter),
        .plugin = &plugin,
        .children = 1,
    };

    plugin = below_plugin("filter-children");
    plugin.submit = submit;
    return &filter;
}
