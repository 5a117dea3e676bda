/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A plugin for the tests of exports: ten thousand of them, "export-0" to
 * "export-9999", each with a size of its own (4096 bytes more than the one
 * before).  The default one is "export-7".  What is read is the number of
 * disks that are open, in the first byte. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abd-plugin.h"

#define EXPORTS 10000
#define DEFAULT 7

/* Loops open and close disks at the same time. */
static atomic_uint open_disks;

static void exports_exports(struct abd_exports *exports)
{
    char name[32], description[32];

    for (int i = 0; i < EXPORTS; i++) {
        snprintf(name, sizeof name, "export-%d", i);
        snprintf(description, sizeof description, "number %d", i);
        abd_add_export(exports, name, description);
    }
    abd_exports_done(exports, 0);
}

/* -1: no such export */
static int number_of(const char *name)
{
    char *end;
    long number;

    if (name[0] == '\0')
        return DEFAULT;
    if (strncmp(name, "export-", 7) != 0)
        return -1;
    number = strtol(name + 7, &end, 10);
    return end == name + 7 || *end || number < 0 || number >= EXPORTS
               ? -1
               : (int)number;
}

static void exports_open(struct abd_disk *disk)
{
    int number = number_of(disk->export_name);

    if (number < 0) {
        abd_opened(disk, ENOENT);
        return;
    }
    if (number == DEFAULT) {
        disk->canonical_name = "export-7";
        disk->description = "number 7";
    }
    disk->size = 4096 * (uint64_t)(number + 1);
    disk->ops = 1U << ABD_OP_READ;
    atomic_fetch_add(&open_disks, 1);
    abd_opened(disk, 0);
}

static void exports_submit(struct abd_request *request)
{
    unsigned open = atomic_load(&open_disks);

    memset(request->data, 0, request->length);
    *(unsigned char *)request->data = open > 255 ? 255 : (unsigned char)open;
    abd_complete(request, 0);
}

static void exports_close(struct abd_disk *disk)
{
    atomic_fetch_sub(&open_disks, 1);
    abd_closed(disk);
}

static const struct abd_plugin plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "exports",
    .version = "1",
    .flags = ABD_PLUGIN_EXPORTS,
    .exports = exports_exports,
    .open = exports_open,
    .submit = exports_submit,
    .close = exports_close,
};

__attribute__((visibility("default"))) const struct abd_plugin *
abd_plugin_entry(void)
{
    return &plugin;
}
