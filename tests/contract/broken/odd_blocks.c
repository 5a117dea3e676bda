/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Has blocks of three bytes. */
#include "ram.h"

static void open_odd(struct abd_disk *disk)
{
    ram_fill(disk);
    disk->block_min = 3;
    abd_opened(disk, 0);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("odd-blocks");
    plugin.open = open_odd;
    return &plugin;
}
