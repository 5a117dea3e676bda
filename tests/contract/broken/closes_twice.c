/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Closes a disk twice. */
#include "ram.h"

static void close_twice(struct abd_disk *disk)
{
    abd_closed(disk);
    abd_closed(disk);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("closes-twice");
    plugin.close = close_twice;
    return &plugin;
}
