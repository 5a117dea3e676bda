/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Forwards on a thread of its own. */
#include "ram.h"

static struct abd_work work;

static void run(void *arg)
{
    struct abd_request *request = arg;

    abd_forward(request, request->disk->state, request->offset, NULL);
}

static void done(void *arg)
{
    (void)arg;
}

static void submit(struct abd_request *request)
{
    abd_work_start(request->disk->loop, &work, run, done, request);
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

    plugin = below_plugin("filter-foreign");
    plugin.submit = submit;
    return &filter;
}
