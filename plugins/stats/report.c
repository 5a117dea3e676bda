/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The numbers of the stats filter, and the table made of them.
 *
 * One line for each kind of request that was seen, then how long such requests
 * took, then their sizes, the most frequent first, each with the share of
 * requests that are aligned to so many bits or better.  Main thread, but for
 * stats_count(). */
#include "report.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

static const char *const stats_names[STATS_OPS] = {
    [ABD_OP_READ] = "read",   [ABD_OP_WRITE] = "write",
    [ABD_OP_ZERO] = "zero",   [ABD_OP_TRIM] = "trim",
    [ABD_OP_FLUSH] = "flush", [ABD_OP_EXTENTS] = "extents",
    [ABD_OP_CACHE] = "cache",
};

/* The longest human() text. */
#define HUMAN 32

void stats_count(struct stats_op *op, uint64_t offset, uint64_t length,
                 uint64_t ns, int error)
{
    if (error) {
        op->failed++;
        return;
    }
    op->requests++;
    op->bytes += length;
    op->ns += ns;
    histogram_add(&op->latency, ns);
    if (length == 0)
        return;
    unsigned size = 63 - (unsigned)__builtin_clzll(length);
    unsigned alignment = offset ? (unsigned)__builtin_ctzll(offset) : 64;
    op->bytes_of[size] += length;
    op->count[size][alignment]++;
}

void stats_add(struct stats_counts *to, const struct stats_counts *from)
{
    for (unsigned i = 0; i < STATS_OPS; i++) {
        struct stats_op *sum = &to->ops[i];
        const struct stats_op *op = &from->ops[i];

        sum->requests += op->requests;
        sum->bytes += op->bytes;
        sum->ns += op->ns;
        sum->failed += op->failed;
        histogram_merge(&sum->latency, &op->latency);
        for (unsigned size = 0; size < STATS_BITS; size++) {
            sum->bytes_of[size] += op->bytes_of[size];
            for (unsigned bits = 0; bits < STATS_BITS; bits++)
                sum->count[size][bits] += op->count[size][bits];
        }
    }
}

/* "1.50 GiB"; whole bytes have no fraction. */
static const char *human(double bytes, char text[HUMAN])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB",
                                        "TiB",   "PiB", "EiB"};
    unsigned unit = 0;

    while (bytes >= 1024 && unit < 6) {
        bytes /= 1024;
        unit++;
    }
    snprintf(text, HUMAN, unit ? "%.2f %s" : "%.0f %s", bytes, units[unit]);
    return text;
}

/* bytes in ns, as "... /s"; nothing takes no time at all. */
static const char *rate(uint64_t bytes, uint64_t ns, char text[HUMAN])
{
    return human((double)bytes * 1e9 / (double)(ns ? ns : 1), text);
}

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

static double percent(uint64_t part, uint64_t whole)
{
    return 100.0 * (double)part / (double)whole;
}

static uint64_t sized(const struct stats_op *op, unsigned size)
{
    uint64_t sum = 0;

    for (unsigned bits = 0; bits < STATS_BITS; bits++)
        sum += op->count[size][bits];
    return sum;
}

/* How many requests of this size are aligned to so many bits or better; a line
 * only where the number changes. */
static void report_alignment(FILE *file, const struct stats_op *op,
                             unsigned size, uint64_t requests)
{
    uint64_t left = requests;

    for (unsigned bits = 0; bits < STATS_BITS; bits++) {
        uint64_t exactly = op->count[size][bits];

        if (exactly == 0)
            continue;
        if (bits == 64)
            fprintf(file, "         offset 0: %5.1f%% (%" PRIu64 ")\n",
                    percent(left, requests), left);
        else
            fprintf(file, "      %2u bit aligned: %5.1f%% (%" PRIu64 ")\n",
                    bits, percent(left, requests), left);
        left -= exactly;
    }
}

static void report_sizes(FILE *file, const struct stats_op *op,
                         unsigned threshold)
{
    bool shown[STATS_BITS] = {false};
    uint64_t left = op->requests, bytes = op->bytes;
    char text[HUMAN];

    fprintf(file, "  Request size and alignment breakdown:\n");
    while (left && percent(op->requests - left, op->requests) < threshold) {
        unsigned best = 0;
        uint64_t most = 0;

        for (unsigned size = 0; size < STATS_BITS; size++) {
            uint64_t n = shown[size] ? 0 : sized(op, size);
            if (n > most) {
                most = n;
                best = size;
            }
        }
        fprintf(file, "    %2u bits: %5.1f%% (%" PRIu64 " reqs, %s total)\n",
                best, percent(most, op->requests), most,
                human((double)op->bytes_of[best], text));
        report_alignment(file, op, best, most);
        shown[best] = true;
        left -= most;
        bytes -= op->bytes_of[best];
    }
    if (left)
        fprintf(file, "    other sizes: %5.1f%% (%" PRIu64 " reqs, %s total)\n",
                percent(left, op->requests), left, human((double)bytes, text));
}

static void report_op(FILE *file, const char *name, const struct stats_op *op,
                      uint64_t elapsed_ns, unsigned threshold)
{
    char bytes[HUMAN], own[HUMAN], total[HUMAN];

    fprintf(file, "%s: %" PRIu64 " ops, %.6f s, %s, %s/s op, %s/s total", name,
            op->requests, seconds(op->ns), human((double)op->bytes, bytes),
            rate(op->bytes, op->ns, own), rate(op->bytes, elapsed_ns, total));
    if (op->failed)
        fprintf(file, ", %" PRIu64 " failed", op->failed);
    fprintf(file, "\n");
    if (op->requests) {
        const struct histogram *latency = &op->latency;

        fprintf(file,
                "  Latency: 50%% %.6f s, 90%% %.6f s, 99%% %.6f s, "
                "longest %.6f s\n",
                seconds(histogram_percentile(latency, 0.5)),
                seconds(histogram_percentile(latency, 0.9)),
                seconds(histogram_percentile(latency, 0.99)),
                seconds(latency->max_ns));
        if (threshold && op->bytes)
            report_sizes(file, op, threshold);
    }
    fprintf(file, "\n");
}

void stats_report(FILE *file, const struct stats_counts *counts,
                  uint64_t elapsed_ns, unsigned threshold)
{
    uint64_t requests = 0, bytes = 0;
    char amount[HUMAN], total[HUMAN];

    for (unsigned i = 0; i < STATS_OPS; i++) {
        requests += counts->ops[i].requests;
        bytes += counts->ops[i].bytes;
    }
    fprintf(file, "total: %" PRIu64 " ops, %.6f s, %s, %s/s\n", requests,
            seconds(elapsed_ns), human((double)bytes, amount),
            rate(bytes, elapsed_ns, total));
    for (unsigned i = 0; i < STATS_OPS; i++) {
        const struct stats_op *op = &counts->ops[i];

        if (op->requests || op->failed)
            report_op(file, stats_names[i], op, elapsed_ns, threshold);
    }
}
