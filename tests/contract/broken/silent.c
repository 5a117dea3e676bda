/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Refuses a parameter without a word. */
#include "ram.h"

static int config(struct abd_instance *instance, const char *key,
                  const char *value)
{
    return value[0] == '/' ? EINVAL : ram_config(instance, key, value);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("silent");
    plugin.config = config;
    return &plugin;
}
