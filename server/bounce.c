/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* See bounce.h. */
#include "server/bounce.h"

#include "server/disk.h"
#include "server/layer.h"
#include "server/worker.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

uint64_t bounces_size(unsigned workers_count)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < chain.n; i++)
        n += chain.layers[i]->below_children;
    return n * workers_count * BOUNCE_SIZE;
}

int bounces_create(struct worker *worker, char **memory)
{
    worker->bounces = calloc(chain.n, sizeof *worker->bounces);
    if (!worker->bounces)
        return ENOMEM;
    for (unsigned i = 0; i < chain.n; i++) {
        list_init(&worker->bounces[i].waiting);
        if (!chain.layers[i]->below_children)
            continue;
        worker->bounces[i].reserved = *memory;
        *memory += BOUNCE_SIZE;
    }
    return 0;
}

static bool is_registered(const void *data)
{
    void *base;
    uint64_t length;
    int fd;

    arena_range(server_arena, &base, &length, &fd);
    return (uintptr_t)data - (uintptr_t)base < length;
}

bool bounce_is_needed(const struct disk *disk, const void *data)
{
    if (!disk->layer->below_children)
        return false; /* all data is the server's */
    return ((uintptr_t)data & (disk->alignment - 1)) ||
           (disk->layer->plugin->flags & ABD_PLUGIN_REGISTERS &&
            !is_registered(data));
}

void *bounce_take(struct worker *worker, const struct disk *disk,
                  uint64_t wanted, uint32_t *ret_size)
{
    struct bounce *bounce = &worker->bounces[disk->layer->index];
    void *buffer;

    wanted = wanted < MIB ? wanted : MIB;
    if (memory_take(worker->memory, MEMORY_WRITE, &wanted, 1, &buffer)) {
        *ret_size = (uint32_t)wanted;
        return buffer;
    }
    assert(bounce->reserved);
    if (bounce->taken)
        return NULL;
    bounce->taken = true;
    *ret_size = wanted < BOUNCE_SIZE ? (uint32_t)wanted : BOUNCE_SIZE;
    return bounce->reserved;
}

void bounce_give(struct worker *worker, const struct disk *disk, void *buffer,
                 uint32_t size)
{
    struct bounce *bounce = &worker->bounces[disk->layer->index];

    if (buffer == bounce->reserved)
        bounce->taken = false;
    else
        memory_give(worker->memory, buffer, size);
}
