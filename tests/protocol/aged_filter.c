/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A filter of another version, see aged_plugin.c.  It says in the log that it
 * was created, and lets everything pass. */
#include <string.h>

#include "abd-filter.h"

#ifndef AGED_ABI
#define AGED_ABI ABD_ABI
#endif
#ifndef AGED_SIZE
#define AGED_SIZE sizeof(struct abd_filter)
#endif
#ifndef AGED_PLUGIN_ABI
#define AGED_PLUGIN_ABI ABD_ABI
#endif
#ifndef AGED_PLUGIN_SIZE
#define AGED_PLUGIN_SIZE sizeof(struct abd_plugin)
#endif

static int aged_create(struct abd_instance *instance)
{
    abd_log(instance, NULL, ABD_WARNING, "the filter is here");
    return 0;
}

__attribute__((visibility("default"))) const struct abd_filter *
abd_filter_entry(void)
{
    static union {
        struct abd_plugin plugin;
        char bytes[sizeof(struct abd_plugin) + 256];
    } plugin;
    static union {
        struct abd_filter filter;
        char bytes[sizeof(struct abd_filter) + 256];
    } aged;

    plugin.plugin = (struct abd_plugin){
        .abi = AGED_PLUGIN_ABI,
        .struct_size = AGED_PLUGIN_SIZE,
        .name = "aged",
        .create = aged_create,
    };
    memset(plugin.bytes + AGED_PLUGIN_SIZE, 0xa5,
           sizeof plugin.bytes - AGED_PLUGIN_SIZE);
    aged.filter = (struct abd_filter){
        .abi = AGED_ABI,
        .struct_size = AGED_SIZE,
        .plugin = &plugin.plugin,
        .flags = ABD_FILTER_PARALLEL,
    };
    memset(aged.bytes + AGED_SIZE, 0xa5, sizeof aged.bytes - AGED_SIZE);
    return &aged.filter;
}
