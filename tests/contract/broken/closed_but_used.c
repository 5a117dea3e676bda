/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Looks at a disk that it has closed. */
#include "ram.h"

static struct abd_disk *closed;

static void open_later(struct abd_disk *disk)
{
    if (closed && closed->size == 0)
        abort();
    ram_open(disk);
}

static void close_remembered(struct abd_disk *disk)
{
    closed = disk;
    abd_closed(disk);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("closed-but-used");
    plugin.open = open_later;
    plugin.close = close_remembered;
    return &plugin;
}
