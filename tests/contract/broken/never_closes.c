/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Never says that a disk is closed. */
#include "ram.h"

static void close_never(struct abd_disk *disk)
{
    (void)disk;
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("never-closes");
    plugin.close = close_never;
    return &plugin;
}
