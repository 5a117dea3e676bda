/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Loses its contents when it is closed. */
#include "ram.h"

static void close_empty(struct abd_disk *disk)
{
    struct ram *ram = disk->instance->state;

    memset(ram->bytes, 0, ram->size);
    abd_closed(disk);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("forgets-closed");
    plugin.close = close_empty;
    return &plugin;
}
