/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* exitlast - a filter that ends the server when the last client has left.
 *
 * The count of clients is the instance's and atomic: it spans all disks, whose
 * clients come and go on several loops.  Whoever takes it to zero ends the
 * server, once: another client may still slip in before the listener is closed.
 * Requests never pass through here. */
#include "../common/config.h"
#include "abd-filter.h"
#include "abd-loop.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

/* instance->state; shared, see above */
struct exitlast {
    _Atomic uint64_t count;
    atomic_bool ended;
};

static int exitlast_create(struct abd_instance *instance)
{
    struct exitlast *exitlast = calloc(1, sizeof *exitlast);

    if (!exitlast)
        return config_no_memory(instance);
    instance->state = exitlast;
    return 0;
}

static void exitlast_destroy(struct abd_instance *instance)
{
    free(instance->state);
}

static int exitlast_admit(struct abd_disk *disk,
                          const struct abd_client *client)
{
    struct exitlast *exitlast = disk->instance->state;

    (void)client;
    atomic_fetch_add_explicit(&exitlast->count, 1, memory_order_relaxed);
    return 0;
}

static void exitlast_leave(struct abd_disk *disk,
                           const struct abd_client *client)
{
    struct exitlast *exitlast = disk->instance->state;

    (void)client;
    /* Relaxed: neither value guards anything but itself. */
    if (atomic_fetch_sub_explicit(&exitlast->count, 1, memory_order_relaxed) !=
        1)
        return;
    if (atomic_exchange_explicit(&exitlast->ended, true, memory_order_relaxed))
        return;
    abd_log(disk->instance, disk, ABD_DEBUG,
            "the last client has left: the server ends");
    abd_shutdown();
}

static const struct abd_parameter exitlast_parameters[] = {{NULL}};

static const struct abd_plugin exitlast_plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "exitlast",
    .longname = "abdkit exitlast filter",
    .description = "ends the server when the last client has left",
    .parameters = exitlast_parameters,
    .create = exitlast_create,
    .destroy = exitlast_destroy,
    .admit = exitlast_admit,
    .leave = exitlast_leave,
};

static const struct abd_filter exitlast_filter = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_filter),
    .plugin = &exitlast_plugin,
    .flags = ABD_FILTER_PARALLEL | ABD_FILTER_LENDS,
};

__attribute__((visibility("default"))) const struct abd_filter *
abd_filter_entry(void)
{
    return &exitlast_filter;
}
