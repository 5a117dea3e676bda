/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

#include "ram.h"

char *ram_at(const struct abd_request *request)
{
    const struct ram *ram = request->disk->instance->state;

    return ram->bytes + request->offset;
}

int ram_do(struct abd_request *request)
{
    char *at = ram_at(request);

    switch (request->op) {
    case ABD_OP_READ:
        memcpy(request->data, at, request->length);
        return 0;
    case ABD_OP_WRITE:
        memcpy(at, request->data, request->length);
        return 0;
    case ABD_OP_ZERO:
    case ABD_OP_TRIM:
        memset(at, 0, request->length);
        return 0;
    case ABD_OP_EXTENTS:
        abd_add_extent(request, request->length, 0);
        return 0;
    default:
        return 0;
    }
}

void ram_submit(struct abd_request *request)
{
    abd_complete(request, ram_do(request));
}

void ram_fill(struct abd_disk *disk)
{
    const struct ram *ram = disk->instance->state;

    disk->size = ram->size;
    disk->block_min = 1;
    disk->ops = (2U << ABD_OP_CACHE) - 2;
    disk->fua = ABD_FUA_NATIVE;
    disk->max_requests = 64;
}

void ram_open(struct abd_disk *disk)
{
    ram_fill(disk);
    abd_opened(disk, 0);
}

void ram_close(struct abd_disk *disk)
{
    abd_closed(disk);
}

int ram_create(struct abd_instance *instance)
{
    struct ram *ram = calloc(1, sizeof *ram);

    if (!ram)
        return ENOMEM;
    ram->size = 1 << 20;
    instance->state = ram;
    return 0;
}

int ram_config(struct abd_instance *instance, const char *key,
               const char *value)
{
    struct ram *ram = instance->state;

    (void)key;
    return abd_parse_size(instance, value, &ram->size);
}

int ram_ready(struct abd_instance *instance)
{
    struct ram *ram = instance->state;

    ram->bytes = calloc(1, ram->size);
    return ram->bytes ? 0 : ENOMEM;
}

void ram_destroy(struct abd_instance *instance)
{
    struct ram *ram = instance->state;

    free(ram->bytes);
    free(ram);
}

bool ram_every(unsigned n)
{
    static unsigned calls;

    return ++calls % n == 0;
}

struct abd_plugin ram_plugin(const char *name)
{
    static const struct abd_parameter parameters[] = {
        {"size", "the size of the disk"},
        {NULL, NULL},
    };

    return (struct abd_plugin){
        .abi = ABD_ABI,
        .struct_size = sizeof(struct abd_plugin),
        .name = name,
        .parameters = parameters,
        .scratch_size = 64,
        .create = ram_create,
        .config = ram_config,
        .ready = ram_ready,
        .destroy = ram_destroy,
        .open = ram_open,
        .submit = ram_submit,
        .close = ram_close,
    };
}

/* --- filters --- */

static void on_below(struct abd_disk *disk, struct abd_disk *below, int error)
{
    if (!error) {
        abd_inherit(disk, below);
        disk->state = below;
    }
    abd_opened(disk, error);
}

void below_open(struct abd_disk *disk)
{
    abd_open_below(disk, NULL, disk->read_only, on_below);
}

void below_close(struct abd_disk *disk)
{
    abd_close_below(disk, disk->state, abd_closed);
}

struct abd_plugin below_plugin(const char *name)
{
    return (struct abd_plugin){
        .abi = ABD_ABI,
        .struct_size = sizeof(struct abd_plugin),
        .name = name,
        .scratch_size = 64,
        .open = below_open,
        .close = below_close,
    };
}
