/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Was built for another version of the interface. */
#include "ram.h"

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("older");
    plugin.abi = 99;
    return &plugin;
}
