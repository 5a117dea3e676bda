/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Can be opened for writing only. */
#include "ram.h"

static void open_writable(struct abd_disk *disk)
{
    if (disk->read_only)
        abd_opened(disk, EACCES);
    else
        ram_open(disk);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("refuses-read-only");
    plugin.open = open_writable;
    return &plugin;
}
