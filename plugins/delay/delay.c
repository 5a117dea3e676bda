/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* delay - a filter that makes every request wait before it goes on.
 *
 * A waiting request is nothing but a timer in its scratch, so any number waits
 * at once and no thread does.  The timer belongs to the loop that submitted the
 * request, which is also the one that cancels it: all that happens to a request
 * here happens on one thread, and nothing is locked. */
#include "../common/config.h"
#include "abd-filter.h"
#include "abd-loop.h"

#include <errno.h>
#include <stdlib.h>

/* What can be delayed; requests are numbered like enum abd_op. */
enum delay_place {
    DELAY_READ = ABD_OP_READ,
    DELAY_WRITE = ABD_OP_WRITE,
    DELAY_ZERO = ABD_OP_ZERO,
    DELAY_TRIM = ABD_OP_TRIM,
    DELAY_EXTENTS = ABD_OP_EXTENTS,
    DELAY_CACHE = ABD_OP_CACHE,
    DELAY_OPEN,
    DELAY_CLOSE,
    DELAY_PLACES,
};

/* instance->state; set once by config(). */
struct delay {
    uint64_t ns[DELAY_PLACES];
    bool fast_zero;
};

/* disk->state; the disk's loop only. */
struct delay_disk {
    struct abd_disk *below;
    struct abd_timer timer; /* open() or close() waits */
};

/* request->scratch; waiting is false once the request is not ours any more. */
struct delay_request {
    struct abd_timer timer;
    bool waiting;
};

static const struct {
    const char *key;
    uint32_t places;
} delay_keys[] = {
    {"rdelay", 1 << DELAY_READ},
    {"wdelay", 1 << DELAY_WRITE | 1 << DELAY_ZERO | 1 << DELAY_TRIM},
    {"zdelay", 1 << DELAY_ZERO},
    {"tdelay", 1 << DELAY_TRIM},
    {"edelay", 1 << DELAY_EXTENTS},
    {"cdelay", 1 << DELAY_CACHE},
    {"delay-read", 1 << DELAY_READ},
    {"delay-write", 1 << DELAY_WRITE},
    {"delay-zero", 1 << DELAY_ZERO},
    {"delay-trim", 1 << DELAY_TRIM},
    {"delay-extents", 1 << DELAY_EXTENTS},
    {"delay-cache", 1 << DELAY_CACHE},
    {"delay-open", 1 << DELAY_OPEN},
    {"delay-close", 1 << DELAY_CLOSE},
};
#define DELAY_KEYS (sizeof delay_keys / sizeof delay_keys[0])

static int delay_create(struct abd_instance *instance)
{
    struct delay *delay = calloc(1, sizeof *delay);

    if (!delay)
        return config_no_memory(instance);
    delay->fast_zero = true;
    instance->state = delay;
    return 0;
}

static void delay_destroy(struct abd_instance *instance)
{
    free(instance->state);
}

static int delay_config(struct abd_instance *instance, const char *key,
                        const char *value)
{
    struct delay *delay = instance->state;

    if (strcmp(key, "delay-fast-zero") == 0)
        return config_bool(instance, key, value, &delay->fast_zero);

    uint64_t ns;
    int err = config_delay(instance, key, value, &ns);
    if (err)
        return err;
    for (unsigned i = 0; i < DELAY_KEYS; i++) {
        if (strcmp(key, delay_keys[i].key) != 0)
            continue;
        for (unsigned place = 0; place < DELAY_PLACES; place++)
            if (delay_keys[i].places & 1u << place)
                delay->ns[place] = ns;
        return 0;
    }
    return config_check(instance, key, value, EINVAL, "unknown parameter");
}

static void delay_opened(struct abd_disk *disk, struct abd_disk *below,
                         int error)
{
    struct delay *delay = disk->instance->state;
    struct delay_disk *state = disk->state;

    if (error) {
        disk->state = NULL;
        free(state);
        abd_opened(disk, error);
        return;
    }
    state->below = below;
    abd_inherit(disk, below);
    /* What waits here is not in the disk below: that one's bound must not
     * decide how much is on the way.  The server's does. */
    disk->max_requests = 0;
    if (!delay->fast_zero && disk->ops & 1 << ABD_OP_ZERO)
        disk->flags |= ABD_DISK_FAST_ZERO; /* answered here, if only by no */
    abd_opened(disk, 0);
}

static void delay_on_open(void *arg)
{
    struct abd_disk *disk = arg;

    abd_open_below(disk, NULL, disk->read_only, delay_opened);
}

static void delay_open(struct abd_disk *disk)
{
    struct delay *delay = disk->instance->state;
    struct delay_disk *state = calloc(1, sizeof *state);

    if (!state) {
        abd_opened(disk, ENOMEM);
        return;
    }
    disk->state = state;
    if (delay->ns[DELAY_OPEN])
        abd_timer_start(&state->timer, delay->ns[DELAY_OPEN], 0, delay_on_open,
                        disk);
    else
        delay_on_open(disk);
}

static void delay_on_closed(struct abd_disk *disk)
{
    free(disk->state);
    disk->state = NULL;
    abd_closed(disk);
}

static void delay_on_close(void *arg)
{
    struct abd_disk *disk = arg;
    struct delay_disk *state = disk->state;

    abd_close_below(disk, state->below, delay_on_closed);
}

static void delay_close(struct abd_disk *disk)
{
    struct delay *delay = disk->instance->state;
    struct delay_disk *state = disk->state;

    if (delay->ns[DELAY_CLOSE])
        abd_timer_start(&state->timer, delay->ns[DELAY_CLOSE], 0,
                        delay_on_close, disk);
    else
        delay_on_close(disk);
}

static void delay_forward(struct abd_request *request)
{
    struct delay_disk *state = request->disk->state;

    abd_forward(request, state->below, request->offset, NULL);
}

static void delay_on_timeout(void *arg)
{
    struct abd_request *request = arg;
    struct delay_request *scratch = request->scratch;

    scratch->waiting = false;
    delay_forward(request);
}

static void delay_submit(struct abd_request *request)
{
    struct delay *delay = request->disk->instance->state;
    struct delay_request *scratch = request->scratch;

    if (request->op == ABD_OP_ZERO && request->flags & ABD_REQ_FAST &&
        !delay->fast_zero) {
        abd_complete(request, ENOTSUP);
        return;
    }
    uint64_t ns = request->op < DELAY_PLACES ? delay->ns[request->op] : 0;
    if (ns == 0) {
        delay_forward(request);
        return;
    }
    scratch->waiting = true;
    abd_timer_start(&scratch->timer, ns, 0, delay_on_timeout, request);
}

static void delay_cancel(struct abd_request *request)
{
    struct delay_request *scratch = request->scratch;

    if (!scratch->waiting)
        return;
    scratch->waiting = false;
    abd_timer_stop(&scratch->timer);
    abd_complete(request, ESHUTDOWN);
}

static const struct abd_parameter delay_parameters[] = {
    {"rdelay", "time that reads wait: seconds, or with ms, us or ns"},
    {"wdelay", "time that writes, zeroes and trims wait"},
    {"zdelay", "the same as delay-zero"},
    {"tdelay", "the same as delay-trim"},
    {"edelay", "the same as delay-extents"},
    {"cdelay", "the same as delay-cache"},
    {"delay-read", "the same as rdelay"},
    {"delay-write", "time that writes wait"},
    {"delay-zero", "time that zero requests wait"},
    {"delay-trim", "time that trim requests wait"},
    {"delay-extents", "time that block status requests wait"},
    {"delay-cache", "time that cache requests wait"},
    {"delay-open", "time before the disk is opened"},
    {"delay-close", "time before the disk is closed"},
    {"delay-fast-zero", "no: fast zero requests fail at once"},
    {NULL},
};

static const struct abd_plugin delay_plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "delay",
    .longname = "abdkit delay filter",
    .description = "makes requests wait before they go on",
    .parameters = delay_parameters,
    .scratch_size = sizeof(struct delay_request),
    .create = delay_create,
    .config = delay_config,
    .destroy = delay_destroy,
    .open = delay_open,
    .submit = delay_submit,
    .cancel = delay_cancel,
    .close = delay_close,
};

static const struct abd_filter delay_filter = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_filter),
    .plugin = &delay_plugin,
    .flags = ABD_FILTER_PARALLEL | ABD_FILTER_LENDS,
};

__attribute__((visibility("default"))) const struct abd_filter *
abd_filter_entry(void)
{
    return &delay_filter;
}
