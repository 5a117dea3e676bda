/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Names an export that it does not know. */
#include "ram.h"

static void list(struct abd_exports *exports)
{
    abd_add_export(exports, "there", NULL);
    abd_exports_done(exports, 0);
}

static void open_default(struct abd_disk *disk)
{
    if (disk->export_name[0])
        abd_opened(disk, ENOENT);
    else
        ram_open(disk);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("unknown-exports");
    plugin.exports = list;
    plugin.open = open_default;
    plugin.flags = ABD_PLUGIN_EXPORTS;
    return &plugin;
}
