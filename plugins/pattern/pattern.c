/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A read-only disk whose data says where it lies: each group of eight bytes is
 * its own offset, as a 64-bit big-endian number.  A client that mixes up its
 * requests sees it at once.  No state but the size, so every loop may call
 * submit() at once. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "abd-loop.h"
#include "abd-plugin.h"
#include "base/bytes.h"

struct pattern {
    /* Set once. */
    uint64_t size;
    bool has_size;
};

static void fill(uint8_t *data, uint64_t offset, uint64_t length)
{
    uint8_t group[8];
    uint64_t skip = offset & 7;

    if (skip) {
        uint64_t n = 8 - skip < length ? 8 - skip : length;
        store_be64(group, offset - skip);
        memcpy(data, group + skip, n);
        data += n;
        offset += n;
        length -= n;
    }
    for (; length >= 8; length -= 8) {
        store_be64(data, offset);
        data += 8;
        offset += 8;
    }
    store_be64(group, offset);
    memcpy(data, group, length);
}

static void pattern_submit(struct abd_request *request)
{
    int err = 0;

    switch (request->op) {
    case ABD_OP_READ:
        fill(request->data, request->offset, request->length);
        break;
    case ABD_OP_CACHE:
        break;
    default:
        err = EINVAL;
    }
    abd_complete(request, err);
}

static void pattern_open(struct abd_disk *disk)
{
    const struct pattern *pattern = disk->instance->state;

    disk->size = pattern->size;
    disk->block_min = 1;
    disk->block_preferred = 4096;
    disk->ops = 1u << ABD_OP_READ | 1u << ABD_OP_CACHE;
    disk->flags = ABD_DISK_PARALLEL | ABD_DISK_INLINE;
    abd_opened(disk, 0);
}

static void pattern_close(struct abd_disk *disk)
{
    abd_closed(disk);
}

static int pattern_create(struct abd_instance *instance)
{
    instance->state = calloc(1, sizeof(struct pattern));
    if (!instance->state) {
        abd_log(instance, NULL, ABD_ERROR, "%s", strerrordesc_np(ENOMEM));
        return ENOMEM;
    }
    return 0;
}

static int pattern_config(struct abd_instance *instance, const char *key,
                          const char *value)
{
    struct pattern *pattern = instance->state;

    if (strcmp(key, "size") != 0) {
        abd_log(instance, NULL, ABD_ERROR,
                "unknown parameter \"%s\": only size=SIZE is allowed", key);
        return EINVAL;
    }
    int err = abd_parse_size(instance, value, &pattern->size);
    if (!err)
        pattern->has_size = true;
    return err;
}

static int pattern_ready(struct abd_instance *instance)
{
    const struct pattern *pattern = instance->state;

    if (pattern->has_size)
        return 0;
    abd_log(instance, NULL, ABD_ERROR,
            "parameter size=SIZE is required: how large is the disk?");
    return EINVAL;
}

static void pattern_destroy(struct abd_instance *instance)
{
    free(instance->state);
    instance->state = NULL;
}

static const struct abd_parameter parameters[] = {
    {"size", "[size=]SIZE  (required) the size of the disk"},
    {NULL, NULL},
};

static const struct abd_plugin plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "pattern",
    .longname = "abdkit pattern plugin",
    .description =
        "a read-only disk of which each eight bytes are their offset",
    .parameters = parameters,
    .magic_key = "size",
    .create = pattern_create,
    .config = pattern_config,
    .ready = pattern_ready,
    .destroy = pattern_destroy,
    .open = pattern_open,
    .submit = pattern_submit,
    .close = pattern_close,
};

__attribute__((visibility("default"))) const struct abd_plugin *
abd_plugin_entry(void)
{
    return &plugin;
}
