/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The least plugin and the least filter, built into shared objects for
 * test_module.c: SAMPLE_PLUGIN, SAMPLE_FILTER and SAMPLE_ABI say which. */
#include "abd-filter.h"
#include "abd-plugin.h"

#ifndef SAMPLE_ABI
#define SAMPLE_ABI ABD_ABI
#endif

static void sample_open(struct abd_disk *disk)
{
    abd_opened(disk, 0);
}

static void sample_submit(struct abd_request *request)
{
    abd_complete(request, 0);
}

static void sample_close(struct abd_disk *disk)
{
    abd_closed(disk);
}

static const struct abd_plugin sample_plugin = {
    .abi = SAMPLE_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "sample",
    .open = sample_open,
    .submit = sample_submit,
    .close = sample_close,
};

#ifdef SAMPLE_PLUGIN
__attribute__((visibility("default"))) const struct abd_plugin *
abd_plugin_entry(void)
{
    return &sample_plugin;
}
#endif

#ifdef SAMPLE_FILTER
static const struct abd_filter sample_filter = {
    .abi = SAMPLE_ABI,
    .struct_size = sizeof(struct abd_filter),
    .plugin = &sample_plugin,
};

__attribute__((visibility("default"))) const struct abd_filter *
abd_filter_entry(void)
{
    return &sample_filter;
}
#endif
