/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Follows a null pointer. */
#include "ram.h"

static void submit(struct abd_request *request)
{
    if (ram_every(100))
        *(volatile int *)ram_at(&(struct abd_request){
            .disk = request->disk, .offset = 1ULL << 46}) = 1;
    ram_submit(request);
}

EXPORTED const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin = ram_plugin("crashes");
    plugin.submit = submit;
    return &plugin;
}
