/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A plugin with an export of every name: each has a disk of zeroes of its own,
 * where every WRITE fails with ENOSPC, and READs of the export "slow" are kept
 * until they are cancelled. */
#include <errno.h>
#include <string.h>

#include "abd-plugin.h"

static void names_exports(struct abd_exports *exports)
{
    abd_add_export(exports, "any", NULL);
    abd_exports_done(exports, 0);
}

static void names_open(struct abd_disk *disk)
{
    disk->size = 1 << 20;
    disk->ops = 1U << ABD_OP_READ | 1U << ABD_OP_WRITE | 1U << ABD_OP_FLUSH;
    disk->max_requests = 8;
    abd_opened(disk, 0);
}

static void names_submit(struct abd_request *request)
{
    if (request->op == ABD_OP_READ &&
        strcmp(request->disk->export_name, "slow") == 0)
        return;
    if (request->op == ABD_OP_READ)
        memset(request->data, 0, request->length);
    abd_complete(request, request->op == ABD_OP_WRITE ? ENOSPC : 0);
}

static void names_cancel(struct abd_request *request)
{
    abd_complete(request, ESHUTDOWN);
}

static void names_close(struct abd_disk *disk)
{
    abd_closed(disk);
}

static const struct abd_plugin plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "names",
    .version = "1",
    .flags = ABD_PLUGIN_EXPORTS,
    .exports = names_exports,
    .open = names_open,
    .submit = names_submit,
    .cancel = names_cancel,
    .close = names_close,
};

__attribute__((visibility("default"))) const struct abd_plugin *
abd_plugin_entry(void)
{
    return &plugin;
}
