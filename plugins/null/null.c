/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A disk of zeroes that forgets what is written to it: the server's own cost
 * with nothing behind it.  No state but the size, so every loop may call
 * submit() at once; READs lend one hole and touch no memory. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "abd-loop.h"
#include "abd-plugin.h"

struct null {
    uint64_t size; /* set once */
};

static void release_nothing(void *arg)
{
    (void)arg;
}

static void null_read(struct abd_request *request)
{
    if (request->data) {
        memset(request->data, 0, request->length);
        abd_complete(request, 0);
        return;
    }

    /* The piece must stay until it was sent, and so does scratch. */
    struct abd_piece *piece = request->scratch;
    *piece = (struct abd_piece){
        .kind = ABD_PIECE_HOLE, .fd = -1, .length = request->length};
    abd_complete_lent(request, piece, 1, release_nothing, NULL);
}

static void null_submit(struct abd_request *request)
{
    int err = 0;

    switch (request->op) {
    case ABD_OP_READ:
        null_read(request);
        return;
    case ABD_OP_EXTENTS:
        abd_add_extent(request, request->length,
                       ABD_EXTENT_HOLE | ABD_EXTENT_ZERO);
        break;
    case ABD_OP_WRITE:
    case ABD_OP_ZERO:
    case ABD_OP_TRIM:
    case ABD_OP_FLUSH:
    case ABD_OP_CACHE:
        break;
    default:
        err = EINVAL;
    }
    abd_complete(request, err);
}

static void null_open(struct abd_disk *disk)
{
    const struct null *null = disk->instance->state;

    disk->size = null->size;
    disk->block_min = 1;
    disk->block_preferred = 4096;
    disk->ops = 1u << ABD_OP_READ | 1u << ABD_OP_WRITE | 1u << ABD_OP_ZERO |
                1u << ABD_OP_TRIM | 1u << ABD_OP_FLUSH | 1u << ABD_OP_EXTENTS |
                1u << ABD_OP_CACHE;
    disk->flags = ABD_DISK_PARALLEL | ABD_DISK_INLINE | ABD_DISK_LENDS |
                  ABD_DISK_FAST_ZERO;
    disk->fua = ABD_FUA_NATIVE;
    abd_opened(disk, 0);
}

static void null_close(struct abd_disk *disk)
{
    abd_closed(disk);
}

static int null_create(struct abd_instance *instance)
{
    instance->state = calloc(1, sizeof(struct null));
    if (!instance->state) {
        abd_log(instance, NULL, ABD_ERROR, "%s", strerrordesc_np(ENOMEM));
        return ENOMEM;
    }
    return 0;
}

static int null_config(struct abd_instance *instance, const char *key,
                       const char *value)
{
    struct null *null = instance->state;

    if (strcmp(key, "size") != 0) {
        abd_log(instance, NULL, ABD_ERROR,
                "unknown parameter \"%s\": only size=SIZE is allowed", key);
        return EINVAL;
    }
    return abd_parse_size(instance, value, &null->size);
}

static void null_destroy(struct abd_instance *instance)
{
    free(instance->state);
    instance->state = NULL;
}

static const struct abd_parameter parameters[] = {
    {"size", "[size=]SIZE  the size of the disk (default: 0)"},
    {NULL, NULL},
};

static const struct abd_plugin plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "null",
    .longname = "abdkit null plugin",
    .description = "reads as zeroes, forgets what is written",
    .parameters = parameters,
    .magic_key = "size",
    .scratch_size = sizeof(struct abd_piece),
    .create = null_create,
    .config = null_config,
    .destroy = null_destroy,
    .open = null_open,
    .submit = null_submit,
    .close = null_close,
};

__attribute__((visibility("default"))) const struct abd_plugin *
abd_plugin_entry(void)
{
    return &plugin;
}
