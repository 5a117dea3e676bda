/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* nozero - a filter that takes the short way of writing zeroes away.
 *
 * zeromode says what becomes of zero requests, fastzeromode what becomes of
 * those that must be fast.  An emulated request is written below one piece
 * after the other, always from the same zeroed memory, which nobody writes to
 * and which all requests share.  Runs on the loops; each request's state is in
 * its scratch, and everything else is set once. */
#include "../common/below.h"
#include "../common/config.h"

#include <errno.h>
#include <stdlib.h>

/* The zeroed memory: what the server moves in one piece by default. */
#define NOZERO_PIECE (UINT64_C(1) << 20)

enum nozero_mode { ZERO_NONE, ZERO_EMULATE, ZERO_NOTRIM, ZERO_PLUGIN };
enum nozero_fast { FAST_DEFAULT, FAST_NONE, FAST_SLOW, FAST_IGNORE };

static const char *const nozero_modes[] = {
    [ZERO_NONE] = "none",
    [ZERO_EMULATE] = "emulate",
    [ZERO_NOTRIM] = "notrim",
    [ZERO_PLUGIN] = "plugin",
};
static const char *const nozero_fasts[] = {
    [FAST_DEFAULT] = "default",
    [FAST_NONE] = "none",
    [FAST_SLOW] = "slow",
    [FAST_IGNORE] = "ignore",
};

/* instance->state; set once before the loops run. */
struct nozero {
    unsigned mode; /* enum nozero_mode */
    unsigned fast; /* enum nozero_fast */
    void *zeroes;  /* NOZERO_PIECE bytes; only to emulate */
};

/* scratch of an emulated request: how much of it is written. */
struct nozero_request {
    uint64_t done;
};

static int nozero_create(struct abd_instance *instance)
{
    instance->state = calloc(1, sizeof(struct nozero));
    return instance->state ? 0 : config_no_memory(instance);
}

static void nozero_destroy(struct abd_instance *instance)
{
    struct nozero *nozero = instance->state;

    if (!nozero)
        return;
    free(nozero->zeroes);
    free(nozero);
}

/* Finds value among four words. */
static bool nozero_find(const char *const words[4], const char *value,
                        unsigned *ret)
{
    for (unsigned i = 0; i < 4; i++) {
        if (strcmp(words[i], value) == 0) {
            *ret = i;
            return true;
        }
    }
    return false;
}

static int nozero_config(struct abd_instance *instance, const char *key,
                         const char *value)
{
    struct nozero *nozero = instance->state;

    if (strcmp(key, "zeromode") == 0) {
        if (nozero_find(nozero_modes, value, &nozero->mode))
            return 0;
        return config_check(instance, key, value, EINVAL,
                            "not one of none, emulate, notrim, plugin");
    }
    if (nozero_find(nozero_fasts, value, &nozero->fast))
        return 0;
    return config_check(instance, key, value, EINVAL,
                        "not one of default, none, slow, ignore");
}

static int nozero_ready(struct abd_instance *instance)
{
    struct nozero *nozero = instance->state;

    if (nozero->mode == ZERO_EMULATE) {
        nozero->zeroes = aligned_alloc(4096, NOZERO_PIECE);
        if (!nozero->zeroes) {
            return config_no_memory(instance);
        }
        memset(nozero->zeroes, 0, NOZERO_PIECE);
    }
    /* What "default" stands for depends on the other parameter. */
    if (nozero->fast == FAST_DEFAULT && nozero->mode == ZERO_EMULATE)
        nozero->fast = FAST_SLOW;
    if (nozero->mode == ZERO_NONE)
        nozero->fast = FAST_NONE;
    return 0;
}

static void nozero_refused(struct abd_disk *disk)
{
    abd_opened(disk, EINVAL);
}

static void nozero_opened(struct abd_disk *disk, struct abd_disk *below,
                          int error)
{
    struct nozero *nozero = disk->instance->state;

    if (!below_adopt(disk, below, error))
        return;
    if (!(disk->ops & 1U << ABD_OP_WRITE)) {
        abd_opened(disk, 0); /* read-only: there are no zeroes to be written */
        return;
    }
    switch (nozero->mode) {
    case ZERO_NONE:
        disk->ops &= ~(1U << ABD_OP_ZERO);
        disk->flags |= ABD_DISK_HIDES_ZERO;
        break;
    case ZERO_EMULATE:
        disk->ops |= 1U << ABD_OP_ZERO;
        disk->max_zero = 0;
        break;
    default:
        if (disk->ops & 1U << ABD_OP_ZERO)
            break;
        abd_log(disk->instance, disk, ABD_ERROR,
                "zeromode=%s: the layer below cannot write zeroes; "
                "allowed here are none, emulate",
                nozero_modes[nozero->mode]);
        abd_close_below(disk, below, nozero_refused);
        return;
    }
    if (nozero->fast == FAST_NONE)
        disk->flags &= ~(uint32_t)ABD_DISK_FAST_ZERO;
    else if (nozero->fast != FAST_DEFAULT)
        disk->flags |= ABD_DISK_FAST_ZERO;
    abd_opened(disk, 0);
}

static void nozero_open(struct abd_disk *disk)
{
    abd_open_below(disk, NULL, disk->read_only, nozero_opened);
}

static void nozero_ended(struct abd_request *child, int error, void *arg)
{
    (void)error;
    abd_complete_as((struct abd_request *)arg, child);
}

/* Hands a ZERO on with other flags than its own, which needs a child. */
static void nozero_change(struct abd_request *request, uint32_t flags)
{
    struct abd_io io = {
        .op = ABD_OP_ZERO,
        .flags = flags,
        .offset = request->offset,
        .length = request->length,
    };

    abd_child(request, request->disk->state, &io, nozero_ended, request);
}

/* Declared here because each piece begins the next. */
static void nozero_written(struct abd_request *child, int error, void *arg);

static void nozero_write_piece(struct abd_request *request)
{
    struct nozero *nozero = request->disk->instance->state;
    struct nozero_request *scratch = request->scratch;
    uint64_t left = request->length - scratch->done;
    struct abd_io io = {
        .op = ABD_OP_WRITE,
        .flags = request->flags & ABD_REQ_FUA,
        .offset = request->offset + scratch->done,
        .length = left < NOZERO_PIECE ? left : NOZERO_PIECE,
        .data = nozero->zeroes,
    };

    abd_child(request, request->disk->state, &io, nozero_written, request);
}

static void nozero_written(struct abd_request *child, int error, void *arg)
{
    struct abd_request *request = arg;
    struct nozero_request *scratch = request->scratch;
    uint64_t left = request->length - scratch->done;
    uint64_t piece = left < NOZERO_PIECE ? left : NOZERO_PIECE;

    (void)child;
    if (error) {
        abd_fail(request, error, scratch->done,
                 "zeroes could not be written as data");
        return;
    }
    scratch->done += piece;
    if (scratch->done == request->length)
        abd_complete(request, 0);
    else if (abd_cancelled(request))
        abd_complete(request, ESHUTDOWN);
    else
        nozero_write_piece(request);
}

static void nozero_zero(struct abd_request *request)
{
    struct nozero *nozero = request->disk->instance->state;
    uint32_t flags = request->flags;

    if (nozero->fast == FAST_IGNORE)
        flags &= ~(uint32_t)ABD_REQ_FAST;
    if (nozero->mode == ZERO_NOTRIM)
        flags &= ~(uint32_t)ABD_REQ_MAY_TRIM;

    bool refused = nozero->mode == ZERO_NONE ||
                   (flags & ABD_REQ_FAST && nozero->fast != FAST_DEFAULT);
    if (refused)
        abd_complete(request, ENOTSUP);
    else if (nozero->mode == ZERO_EMULATE)
        nozero_write_piece(request);
    else if (flags == request->flags)
        below_forward(request);
    else
        nozero_change(request, flags);
}

static void nozero_submit(struct abd_request *request)
{
    if (request->op == ABD_OP_ZERO)
        nozero_zero(request);
    else
        below_forward(request);
}

static const struct abd_parameter nozero_parameters[] = {
    {"zeromode", "none (default), emulate, notrim or plugin"},
    {"fastzeromode", "default, none, slow or ignore"},
    {NULL},
};

static const struct abd_plugin nozero_plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "nozero",
    .longname = "abdkit nozero filter",
    .description = "takes the short way of writing zeroes away",
    .parameters = nozero_parameters,
    .scratch_size = sizeof(struct nozero_request),
    .create = nozero_create,
    .config = nozero_config,
    .ready = nozero_ready,
    .destroy = nozero_destroy,
    .open = nozero_open,
    .submit = nozero_submit,
    .close = below_close,
};

static const struct abd_filter nozero_filter = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_filter),
    .plugin = &nozero_plugin,
    .flags = ABD_FILTER_PARALLEL | ABD_FILTER_LENDS,
    /* The next piece begins while the one before is still ending. */
    .children = 2,
};

__attribute__((visibility("default"))) const struct abd_filter *
abd_filter_entry(void)
{
    return &nozero_filter;
}
