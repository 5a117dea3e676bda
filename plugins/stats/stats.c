/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* stats - a filter that counts requests and writes a table at the end.
 *
 * Each loop counts for itself, so nothing is locked or shared; destroy() adds
 * the counts up, at a time when no disk is open any more.  A request's start is
 * in its scratch.  The file is opened at start-up, so that a bad name is found
 * before any client comes. */
#include "report.h"

#include "../common/below.h"
#include "../common/config.h"
#include "abd-loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* instance->state; set once before the loops serve anybody. */
struct stats {
    char *path; /* owned */
    bool append;
    uint64_t threshold; /* percent of requests to describe; 0: no breakdown */
    FILE *file;
    uint64_t started_ns;
    unsigned n;
    struct stats_counts **counts; /* n, one for each loop and its own */
};

/* request->scratch */
struct stats_request {
    uint64_t started_ns;
};

/* Not the loop's clock, which stands still during a turn: most requests to
 * memory begin and end in one. */
static uint64_t stats_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int stats_create(struct abd_instance *instance)
{
    struct stats *stats = calloc(1, sizeof *stats);

    if (!stats)
        return config_no_memory(instance);
    stats->threshold = 95;
    instance->state = stats;
    return 0;
}

static void stats_write(struct abd_instance *instance)
{
    struct stats *stats = instance->state;
    struct stats_counts *sum = calloc(1, sizeof *sum);

    if (!sum) {
        abd_log(instance, NULL, ABD_ERROR, "no memory for the report");
        return;
    }
    for (unsigned i = 0; i < stats->n; i++)
        stats_add(sum, stats->counts[i]);
    stats_report(stats->file, sum, stats_now_ns() - stats->started_ns,
                 (unsigned)stats->threshold);
    free(sum);
    int err = fflush(stats->file) == 0 && !ferror(stats->file) ? 0 : errno;
    if (err)
        abd_log(instance, NULL, ABD_ERROR, "statsfile=%s: %s", stats->path,
                strerrordesc_np(err));
}

static void stats_destroy(struct abd_instance *instance)
{
    struct stats *stats = instance->state;

    if (!stats)
        return;
    if (stats->counts && stats->file)
        stats_write(instance);
    if (stats->file)
        fclose(stats->file);
    for (unsigned i = 0; stats->counts && i < stats->n; i++)
        free(stats->counts[i]);
    free(stats->counts);
    free(stats->path);
    free(stats);
}

static int stats_config(struct abd_instance *instance, const char *key,
                        const char *value)
{
    struct stats *stats = instance->state;

    if (strcmp(key, "statsappend") == 0)
        return config_bool(instance, key, value, &stats->append);
    if (strcmp(key, "statsthreshold") == 0) {
        uint64_t threshold;
        const char *why;
        int err = parse_number(value, 100, &threshold, &why);
        if (err)
            return config_check(instance, key, value, err,
                                "not a percentage: a whole number from 0 "
                                "(no breakdown) to 100");
        stats->threshold = threshold;
        return 0;
    }
    free(stats->path);
    stats->path = NULL;
    return abd_absolute_path(instance, value, &stats->path);
}

static int stats_ready(struct abd_instance *instance)
{
    struct stats *stats = instance->state;

    if (!stats->path) {
        abd_log(instance, NULL, ABD_ERROR,
                "statsfile=FILE is missing: where to write the statistics");
        return EINVAL;
    }
    stats->file = fopen(stats->path, stats->append ? "ae" : "we");
    if (!stats->file) {
        int err = errno;
        abd_log(instance, NULL, ABD_ERROR, "statsfile=%s: %s", stats->path,
                strerrordesc_np(err));
        return err;
    }
    return 0;
}

static int stats_start(struct abd_instance *instance)
{
    struct stats *stats = instance->state;
    unsigned n = abd_loop_count();

    stats->started_ns = stats_now_ns();
    stats->counts = calloc(n, sizeof(struct stats_counts *));
    if (!stats->counts)
        return config_no_memory(instance);
    for (; stats->n < n; stats->n++) {
        stats->counts[stats->n] = calloc(1, sizeof(struct stats_counts));
        if (!stats->counts[stats->n])
            return config_no_memory(instance);
    }
    return 0;
}

static void stats_opened(struct abd_disk *disk, struct abd_disk *below,
                         int error)
{
    if (below_adopt(disk, below, error))
        abd_opened(disk, 0);
}

static void stats_open(struct abd_disk *disk)
{
    abd_open_below(disk, NULL, disk->read_only, stats_opened);
}

static int stats_after(struct abd_request *request, int error)
{
    const struct stats *stats = request->disk->instance->state;
    const struct stats_request *scratch = request->scratch;
    struct stats_counts *counts =
        stats->counts[abd_loop_index(abd_loop_current())];

    stats_count(&counts->ops[request->op], request->offset, request->length,
                stats_now_ns() - scratch->started_ns, error);
    return error;
}

static void stats_submit(struct abd_request *request)
{
    struct stats_request *scratch = request->scratch;

    scratch->started_ns = stats_now_ns();
    abd_forward(request, request->disk->state, request->offset, stats_after);
}

static const struct abd_parameter stats_parameters[] = {
    {"statsfile", "the file to write to (needed)"},
    {"statsappend", "yes: keep what the file holds (default no)"},
    {"statsthreshold", "percent of requests to break down; 0: none (95)"},
    {NULL},
};

static const struct abd_plugin stats_plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "stats",
    .longname = "abdkit stats filter",
    .description = "counts requests and writes a table at the end",
    .parameters = stats_parameters,
    .scratch_size = sizeof(struct stats_request),
    .create = stats_create,
    .config = stats_config,
    .ready = stats_ready,
    .start = stats_start,
    .destroy = stats_destroy,
    .open = stats_open,
    .submit = stats_submit,
    .close = below_close,
};

static const struct abd_filter stats_filter = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_filter),
    .plugin = &stats_plugin,
    .flags = ABD_FILTER_PARALLEL | ABD_FILTER_LENDS,
};

__attribute__((visibility("default"))) const struct abd_filter *
abd_filter_entry(void)
{
    return &stats_filter;
}
