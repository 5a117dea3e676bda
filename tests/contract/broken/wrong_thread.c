/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Starts a timer of a loop on a thread of its own. */
#include "ram.h"

static struct abd_timer timer;

static void on_timer(void *arg)
{
    (void)arg;
}

static int start(struct abd_instance *instance)
{
    /* The main thread is no loop. */
    abd_timer_start(&timer, 1, 0, on_timer, instance);
    return 0;
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("wrong-thread");
    plugin.start = start;
    return &plugin;
}
