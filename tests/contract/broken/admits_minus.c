/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Refuses clients with -1. */
#include "ram.h"

static int admit(struct abd_disk *disk, const struct abd_client *client)
{
    (void)disk;
    return client->id % 4 == 0 ? -1 : 0;
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("admits-minus");
    plugin.admit = admit;
    return &plugin;
}
