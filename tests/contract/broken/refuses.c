/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Does not get ready. */
#include "ram.h"

static int ready(struct abd_instance *instance)
{
    int err = ram_ready(instance);

    return err ? err : EIO;
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("refuses");
    plugin.ready = ready;
    return &plugin;
}
