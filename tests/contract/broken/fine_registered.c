/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Breaks no rule: it registers the memory that all data must lie in. */
#include "ram.h"

static struct abd_memory memory;

static int start(struct abd_instance *instance)
{
    abd_memory(instance, &memory);
    return memory.fd >= 0 && memory.length > 0 ? 0 : EIO;
}

static void submit(struct abd_request *request)
{
    uint64_t at = (uint64_t)((char *)request->data - (char *)memory.base);

    if (request->data && (at >= memory.length || at % 4096 ||
                          request->length > memory.length - at))
        abd_complete(request, EIO);
    else
        ram_submit(request);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("fine-registered");
    plugin.start = start;
    plugin.submit = submit;
    plugin.flags = ABD_PLUGIN_REGISTERS;
    return &plugin;
}
