/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Never says that a disk is open. */
#include "ram.h"

static void open_never(struct abd_disk *disk)
{
    ram_fill(disk);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("never-opens");
    plugin.open = open_never;
    return &plugin;
}
