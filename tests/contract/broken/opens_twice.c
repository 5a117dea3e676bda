/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Opens a disk twice. */
#include "ram.h"

static void open_twice(struct abd_disk *disk)
{
    ram_open(disk);
    abd_opened(disk, 0);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("opens-twice");
    plugin.open = open_twice;
    return &plugin;
}
