/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A histogram of latencies that is right within 1.6%.
 *
 * The server's own histogram (base/histogram.h) is small and coarse; here two
 * servers are told apart by 5%.  64 buckets to each power of two, from 1 ns to
 * over an hour.  One thread. */
#ifndef ABD_BENCH_LATENCY_H
#define ABD_BENCH_LATENCY_H

#include <stdint.h>

#define LATENCY_FINE    64
#define LATENCY_BUCKETS (37 * LATENCY_FINE)

/* Zeroed memory is an empty histogram. */
struct latency {
    uint64_t count[LATENCY_BUCKETS];
    uint64_t total, sum_ns, max_ns;
};

static inline void latency_add(struct latency *latency, uint64_t ns)
{
    unsigned bucket = (unsigned)ns;

    if (ns >= LATENCY_FINE) {
        /* ns = (64 + fine) << shift, so its top bit is bit 6 + shift. */
        unsigned shift = 57 - (unsigned)__builtin_clzll(ns);
        bucket = (shift << 6) + (unsigned)(ns >> shift);
        if (bucket >= LATENCY_BUCKETS)
            bucket = LATENCY_BUCKETS - 1;
    }
    latency->count[bucket]++;
    latency->total++;
    latency->sum_ns += ns;
    if (ns > latency->max_ns)
        latency->max_ns = ns;
}

/* The upper border of the bucket that the given part (0.5, 0.99) of all values
 * reaches; never above the largest; 0 if there is none. */
uint64_t latency_percentile(const struct latency *latency, double part);

#endif
