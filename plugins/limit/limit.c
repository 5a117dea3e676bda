/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* limit - a filter that lets in only so many clients at a time.
 *
 * The count is the instance's: it spans all disks, and on parallel disks
 * clients come and go on several loops, so it is an atomic.  A client takes a
 * place by raising the count only where there is one, so that two that come at
 * once cannot both have the last.  Requests never pass through here. */
#include "../common/config.h"
#include "abd-filter.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

/* instance->state */
struct limit {
    uint64_t max;           /* set once; 0: any number */
    _Atomic uint64_t count; /* shared: clients that were let in */
};

static int limit_create(struct abd_instance *instance)
{
    struct limit *limit = calloc(1, sizeof *limit);

    if (!limit)
        return config_no_memory(instance);
    limit->max = 1;
    instance->state = limit;
    return 0;
}

static void limit_destroy(struct abd_instance *instance)
{
    free(instance->state);
}

static int limit_config(struct abd_instance *instance, const char *key,
                        const char *value)
{
    struct limit *limit = instance->state;

    return config_number(instance, key, value, UINT32_MAX, &limit->max);
}

static int limit_admit(struct abd_disk *disk, const struct abd_client *client)
{
    struct limit *limit = disk->instance->state;
    uint64_t count = atomic_load_explicit(&limit->count, memory_order_relaxed);

    /* Relaxed: the count guards nothing but itself. */
    do {
        if (limit->max && count >= limit->max) {
            abd_log(disk->instance, disk, ABD_ERROR,
                    "client %" PRIu64 " refused: limit=%" PRIu64
                    " clients are connected",
                    client ? client->id : 0, limit->max);
            return EBUSY;
        }
    } while (!atomic_compare_exchange_weak_explicit(
        &limit->count, &count, count + 1, memory_order_relaxed,
        memory_order_relaxed));
    return 0;
}

static void limit_leave(struct abd_disk *disk, const struct abd_client *client)
{
    struct limit *limit = disk->instance->state;

    (void)client;
    atomic_fetch_sub_explicit(&limit->count, 1, memory_order_relaxed);
}

static const struct abd_parameter limit_parameters[] = {
    {"limit", "how many clients at a time; 0: any number (default 1)"},
    {NULL},
};

static const struct abd_plugin limit_plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "limit",
    .longname = "abdkit limit filter",
    .description = "limits how many clients are connected at a time",
    .parameters = limit_parameters,
    .create = limit_create,
    .config = limit_config,
    .destroy = limit_destroy,
    .admit = limit_admit,
    .leave = limit_leave,
};

static const struct abd_filter limit_filter = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_filter),
    .plugin = &limit_plugin,
    .flags = ABD_FILTER_PARALLEL | ABD_FILTER_LENDS,
};

__attribute__((visibility("default"))) const struct abd_filter *
abd_filter_entry(void)
{
    return &limit_filter;
}
