/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* error - a filter that lets some requests fail, to test clients.
 *
 * Chance is a counter mixed into a number (splitmix64): one atomic addition
 * draws the next number on any loop, and the same error-seed gives the same
 * sequence.  Whether a trigger file exists is asked only for requests that
 * chance has already chosen, so a low rate costs no system calls. */
#include "../common/below.h"
#include "../common/config.h"
#include "abd-loop.h"

#include "base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define ERROR_OPS (ABD_OP_CACHE + 1)

/* What happens to the requests of one kind.  Set once by config(). */
struct error_rule {
    int error;
    double rate;
    char *file; /* owned; NULL: no trigger is needed */
};

/* instance->state */
struct error_state {
    struct error_rule rules[ERROR_OPS];
    bool seeded;              /* error-seed was given */
    _Atomic uint64_t counter; /* shared: see the head */
};

static const struct {
    const char *name;
    int error;
} error_names[] = {
    {"EPERM", EPERM},   {"EIO", EIO},       {"ENOMEM", ENOMEM},
    {"EINVAL", EINVAL}, {"ENOSPC", ENOSPC}, {"ESHUTDOWN", ESHUTDOWN},
};
#define ERROR_NAMES (sizeof error_names / sizeof error_names[0])

/* The word in the keys: "" stands for all of the others. */
static const struct {
    const char *key;
    uint32_t ops;
} error_keys[] = {
    {"error", 1 << ABD_OP_READ | 1 << ABD_OP_WRITE | 1 << ABD_OP_TRIM |
                  1 << ABD_OP_ZERO | 1 << ABD_OP_EXTENTS | 1 << ABD_OP_CACHE},
    {"error-pread", 1 << ABD_OP_READ},
    {"error-pwrite", 1 << ABD_OP_WRITE},
    {"error-trim", 1 << ABD_OP_TRIM},
    {"error-zero", 1 << ABD_OP_ZERO},
    {"error-extents", 1 << ABD_OP_EXTENTS},
    {"error-cache", 1 << ABD_OP_CACHE},
};
#define ERROR_KEYS (sizeof error_keys / sizeof error_keys[0])

static const char *error_op_name(uint32_t op)
{
    for (unsigned i = 1; i < ERROR_KEYS; i++)
        if (error_keys[i].ops & 1U << op)
            return error_keys[i].key + strlen("error-");
    return "request";
}

static const char *error_name(int error)
{
    for (unsigned i = 0; i < ERROR_NAMES; i++)
        if (error_names[i].error == error)
            return error_names[i].name;
    return "?";
}

static int error_create(struct abd_instance *instance)
{
    struct error_state *state = calloc(1, sizeof *state);

    if (!state)
        return config_no_memory(instance);
    for (unsigned op = 0; op < ERROR_OPS; op++)
        state->rules[op].error = EIO;
    instance->state = state;
    return 0;
}

static void error_destroy(struct abd_instance *instance)
{
    struct error_state *state = instance->state;

    if (!state)
        return;
    for (unsigned op = 0; op < ERROR_OPS; op++)
        free(state->rules[op].file);
    free(state);
}

static int error_config_error(struct abd_instance *instance, const char *key,
                              uint32_t ops, const char *value)
{
    struct error_state *state = instance->state;

    for (unsigned i = 0; i < ERROR_NAMES; i++) {
        if (strcmp(value, error_names[i].name) != 0)
            continue;
        for (unsigned op = 0; op < ERROR_OPS; op++)
            if (ops & 1U << op)
                state->rules[op].error = error_names[i].error;
        return 0;
    }
    return config_check(instance, key, value, EINVAL,
                        "not one of EPERM, EIO, ENOMEM, EINVAL, ENOSPC, "
                        "ESHUTDOWN");
}

static int error_config_rate(struct abd_instance *instance, const char *key,
                             uint32_t ops, const char *value)
{
    struct error_state *state = instance->state;
    const char *why = NULL;
    double rate;
    int err = parse_probability(value, &rate, &why);

    if (err)
        return config_check(instance, key, value, err, why);
    for (unsigned op = 0; op < ERROR_OPS; op++)
        if (ops & 1U << op)
            state->rules[op].rate = rate;
    return 0;
}

static int error_config_file(struct abd_instance *instance, uint32_t ops,
                             const char *value)
{
    struct error_state *state = instance->state;
    _cleanup_free_ char *path = NULL;
    int err = abd_absolute_path(instance, value, &path);

    for (unsigned op = 0; !err && op < ERROR_OPS; op++) {
        if (!(ops & 1U << op))
            continue;
        char *copy = strdup(path);
        if (!copy)
            return config_no_memory(instance);
        free(state->rules[op].file);
        state->rules[op].file = copy;
    }
    return err;
}

static int error_config(struct abd_instance *instance, const char *key,
                        const char *value)
{
    struct error_state *state = instance->state;

    if (strcmp(key, "error-seed") == 0) {
        uint64_t seed;
        int err = config_number(instance, key, value, UINT64_MAX, &seed);

        if (err)
            return err;
        state->seeded = true;
        atomic_store_explicit(&state->counter, seed, memory_order_relaxed);
        return 0;
    }
    for (unsigned i = 0; i < ERROR_KEYS; i++) {
        size_t length = strlen(error_keys[i].key);
        uint32_t ops = error_keys[i].ops;

        if (strncmp(key, error_keys[i].key, length) != 0)
            continue;
        const char *rest = key + length;
        if (*rest == '\0')
            return error_config_error(instance, key, ops, value);
        if (strcmp(rest, "-rate") == 0)
            return error_config_rate(instance, key, ops, value);
        if (strcmp(rest, "-file") == 0)
            return error_config_file(instance, ops, value);
    }
    return config_check(instance, key, value, EINVAL, "unknown parameter");
}

static int error_ready(struct abd_instance *instance)
{
    struct error_state *state = instance->state;

    if (!state->seeded) {
        uint64_t seed;

        if (getrandom(&seed, sizeof seed, 0) != sizeof seed) {
            int err = errno;
            abd_log(instance, NULL, ABD_ERROR, "getrandom: %s",
                    strerrordesc_np(err));
            return err;
        }
        atomic_store_explicit(&state->counter, seed, memory_order_relaxed);
    }
    abd_log(instance, NULL, ABD_DEBUG, "error-seed=%" PRIu64,
            atomic_load_explicit(&state->counter, memory_order_relaxed));
    return 0;
}

/* A number from 0 to less than 1, of 53 random bits. */
static double error_draw(struct error_state *state)
{
    const uint64_t step = UINT64_C(0x9e3779b97f4a7c15);
    /* Relaxed: only that no two draws get the same value matters. */
    uint64_t z =
        atomic_fetch_add_explicit(&state->counter, step, memory_order_relaxed) +
        step;

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

static bool error_is_due(struct error_state *state,
                         const struct error_rule *rule)
{
    if (rule->rate <= 0)
        return false;
    if (error_draw(state) >= rule->rate)
        return false;
    return !rule->file || access(rule->file, F_OK) == 0;
}

static void error_opened(struct abd_disk *disk, struct abd_disk *below,
                         int error)
{
    if (below_adopt(disk, below, error))
        abd_opened(disk, 0);
}

static void error_open(struct abd_disk *disk)
{
    abd_open_below(disk, NULL, disk->read_only, error_opened);
}

static void error_submit(struct abd_request *request)
{
    struct error_state *state = request->disk->instance->state;
    const struct error_rule *rule =
        &state->rules[request->op < ERROR_OPS ? request->op : 0];

    if (!error_is_due(state, rule)) {
        below_forward(request);
        return;
    }
    abd_log(request->disk->instance, request->disk, ABD_DEBUG,
            "request %" PRIu64 ": injecting %s into %s", request->id,
            error_name(rule->error), error_op_name(request->op));
    abd_fail(request, rule->error, ABD_NO_OFFSET, "injected %s into %s",
             error_name(rule->error), error_op_name(request->op));
}

static const struct abd_parameter error_parameters[] = {
    {"error", "EPERM, EIO, ENOMEM, EINVAL, ENOSPC or ESHUTDOWN (default EIO)"},
    {"error-rate", "how often: 10%, 0.1 or 1:10 (default 0)"},
    {"error-file", "only while this file exists"},
    {"error-pread", "which error, for reads only"},
    {"error-pread-rate", "how often, for reads only"},
    {"error-pread-file", "which file, for reads only"},
    {"error-pwrite", "which error, for writes only"},
    {"error-pwrite-rate", "how often, for writes only"},
    {"error-pwrite-file", "which file, for writes only"},
    {"error-trim", "which error, for trims only"},
    {"error-trim-rate", "how often, for trims only"},
    {"error-trim-file", "which file, for trims only"},
    {"error-zero", "which error, for zero requests only"},
    {"error-zero-rate", "how often, for zero requests only"},
    {"error-zero-file", "which file, for zero requests only"},
    {"error-extents", "which error, for block status requests only"},
    {"error-extents-rate", "how often, for block status requests only"},
    {"error-extents-file", "which file, for block status requests only"},
    {"error-cache", "which error, for cache requests only"},
    {"error-cache-rate", "how often, for cache requests only"},
    {"error-cache-file", "which file, for cache requests only"},
    {"error-seed", "a number: the same errors every time"},
    {NULL},
};

static const struct abd_plugin error_plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "error",
    .longname = "abdkit error filter",
    .description = "lets some requests fail",
    .parameters = error_parameters,
    .create = error_create,
    .config = error_config,
    .ready = error_ready,
    .destroy = error_destroy,
    .open = error_open,
    .submit = error_submit,
    .close = below_close,
};

static const struct abd_filter error_filter = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_filter),
    .plugin = &error_plugin,
    .flags = ABD_FILTER_PARALLEL | ABD_FILTER_LENDS,
};

__attribute__((visibility("default"))) const struct abd_filter *
abd_filter_entry(void)
{
    return &error_filter;
}
