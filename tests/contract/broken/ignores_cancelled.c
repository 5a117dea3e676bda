/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Drops requests that are cancelled before it has begun with them. */
#include "ram.h"

struct later {
    struct abd_task task;
    bool dropped;
};

static void on_task(void *arg)
{
    struct abd_request *request = arg;
    const struct later *later = request->scratch;

    if (!later->dropped)
        ram_submit(request);
}

static void submit(struct abd_request *request)
{
    struct later *later = request->scratch;

    abd_post(request->disk->loop, &later->task, on_task, request);
}

static void cancel(struct abd_request *request)
{
    struct later *later = request->scratch;

    later->dropped = true;
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("ignores-cancelled");
    plugin.submit = submit;
    plugin.cancel = cancel;
    return &plugin;
}
