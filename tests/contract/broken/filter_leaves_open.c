/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Is closed while the disk below is open. */
#include "ram.h"

static void close_only_me(struct abd_disk *disk)
{
    abd_closed(disk);
}

EXPORTED const struct abd_filter *abd_filter_entry(void)
{
    static struct abd_plugin plugin;
    static const struct abd_filter filter = {
        .abi = ABD_ABI,
        .struct_size = sizeof(struct abd_filter),
        .plugin = &plugin,
        .children = 0,
    };

    plugin = below_plugin("filter-leaves-open");
    plugin.close = close_only_me;
    return &filter;
}
