/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A plugin of another version: AGED_ABI and AGED_SIZE are what it says of its
 * struct.  What lies past that size is no pointer that anybody may follow, as
 * in a program that was built with another header. */
#include <string.h>

#include "abd-plugin.h"

#ifndef AGED_ABI
#define AGED_ABI ABD_ABI
#endif
#ifndef AGED_SIZE
#define AGED_SIZE sizeof(struct abd_plugin)
#endif

static void aged_open(struct abd_disk *disk)
{
    disk->size = 1 << 20;
    disk->ops = 1U << ABD_OP_READ;
    abd_opened(disk, 0);
}

static void aged_submit(struct abd_request *request)
{
    memset(request->data, 'a', request->length);
    abd_complete(request, 0);
}

static void aged_close(struct abd_disk *disk)
{
    abd_closed(disk);
}

__attribute__((visibility("default"))) const struct abd_plugin *
abd_plugin_entry(void)
{
    static union {
        struct abd_plugin plugin;
        char bytes[sizeof(struct abd_plugin) + 256];
    } aged;

    aged.plugin = (struct abd_plugin){
        .abi = AGED_ABI,
        .struct_size = AGED_SIZE,
        .name = "aged",
        .open = aged_open,
        .submit = aged_submit,
        .close = aged_close,
    };
    memset(aged.bytes + AGED_SIZE, 0xa5, sizeof aged.bytes - AGED_SIZE);
    return &aged.plugin;
}
