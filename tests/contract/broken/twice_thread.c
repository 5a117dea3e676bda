/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Completes a request again, on another thread than the first time. */
#include "ram.h"

static struct abd_work work;
static bool is_done;

static void complete_again(void *arg)
{
    abd_complete(arg, 0);
}

static void done(void *arg)
{
    (void)arg;
}

static void submit(struct abd_request *request)
{
    struct abd_loop *loop = request->disk->loop;

    ram_submit(request);
    if (is_done)
        return;
    is_done = true;
    abd_work_start(loop, &work, complete_again, done, request);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("twice-thread");
    plugin.submit = submit;
    return &plugin;
}
