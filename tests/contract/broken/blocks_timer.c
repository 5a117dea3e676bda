/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Sleeps in the callback of a timer. */
#include "ram.h"

#include <unistd.h>

static struct abd_timer timer;

static void on_timer(void *arg)
{
    abd_opened(arg, 0);
    usleep(300000);
}

static void open_slowly(struct abd_disk *disk)
{
    ram_fill(disk);
    abd_timer_start(&timer, 1000, 0, on_timer, disk);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("blocks-timer");
    plugin.open = open_slowly;
    return &plugin;
}
