/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Counting latencies in constant time.
 *
 * The number of leading zeroes gives the power of two; three comparisons of the
 * value, shifted to the top, with the fourth roots of 2, 4 and 8 give the
 * quarter.  There is one writer, so it loads and stores; nothing on this path
 * needs a locked instruction.  Readers are any threads. */
#include "base/histogram.h"

#include <assert.h>
#include <stddef.h>

enum {
    FIRST_POWER = 8, /* bucket 0 begins at 256 ns, and takes what is less */
    QUARTERS = 4,
};

/* 2^63 times the fourth root of 1, 2, 4, 8, rounded up. */
static const uint64_t quarter_start[QUARTERS] = {
    UINT64_C(0x8000000000000000),
    UINT64_C(0x9837f0518db8a970),
    UINT64_C(0xb504f333f9de6485),
    UINT64_C(0xd744fccad69d6af5),
};

static uint64_t load(const _Atomic uint64_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

/* The only writer is the caller, so nothing is lost between load and store. */
static void add(_Atomic uint64_t *to, uint64_t value)
{
    atomic_store_explicit(to, load(to) + value, memory_order_relaxed);
}

static void raise_to(_Atomic uint64_t *to, uint64_t value)
{
    if (value > load(to))
        atomic_store_explicit(to, value, memory_order_relaxed);
}

static unsigned bucket_of(uint64_t ns)
{
    if (ns < UINT64_C(1) << FIRST_POWER)
        return 0;

    unsigned zeroes = (unsigned)__builtin_clzll(ns);
    uint64_t top = ns << zeroes;
    unsigned quarter = (unsigned)(top >= quarter_start[1]) +
                       (unsigned)(top >= quarter_start[2]) +
                       (unsigned)(top >= quarter_start[3]);
    unsigned bucket = (63 - zeroes - FIRST_POWER) * QUARTERS + quarter;

    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

/* The smallest value that belongs to the next bucket. */
static uint64_t upper_border(unsigned bucket)
{
    if (bucket == HISTOGRAM_BUCKETS - 1)
        return UINT64_MAX;

    unsigned power = FIRST_POWER + (bucket + 1) / QUARTERS;

    /* Rounded up, as a value below the exact border may lie above it rounded
     * down. */
    return ((quarter_start[(bucket + 1) % QUARTERS] - 1) >> (63 - power)) + 1;
}

void histogram_add(struct histogram *histogram, uint64_t ns)
{
    raise_to(&histogram->max_ns, ns);
    add(&histogram->sum_ns, ns);
    add(&histogram->count[bucket_of(ns)], 1);
    add(&histogram->total, 1);
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
    raise_to(&to->max_ns, load(&from->max_ns));
    add(&to->sum_ns, load(&from->sum_ns));
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        add(&to->count[i], load(&from->count[i]));
    add(&to->total, load(&from->total));
}

/* Which value in order of size is meant: 1 to total. */
static uint64_t rank_of(double part, uint64_t total)
{
    if (!(part > 0))
        return 1;
    if (part >= 1)
        return total;

    double exact = part * (double)total;
    uint64_t rank = (uint64_t)exact;

    if ((double)rank < exact)
        rank++;
    if (rank < 1)
        return 1;
    return rank < total ? rank : total;
}

uint64_t histogram_percentile(const struct histogram *histogram, double part)
{
    uint64_t total = 0;

    /* Not histogram->total: it may lag behind the buckets or run ahead. */
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        total += load(&histogram->count[i]);
    if (total == 0)
        return 0;

    uint64_t rank = rank_of(part, total), seen = 0;
    unsigned bucket = 0;

    /* Buckets only grow, so what was there before is still found; it need not
     * be in the last bucket, which therefore needs no look. */
    for (; bucket < HISTOGRAM_BUCKETS - 1; bucket++) {
        seen += load(&histogram->count[bucket]);
        if (seen >= rank)
            break;
    }

    uint64_t border = upper_border(bucket), max = load(&histogram->max_ns);

    return border < max ? border : max;
}
