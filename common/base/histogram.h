/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A histogram of latencies, small enough to have one for each command.
 *
 * Buckets grow geometrically, four to each power of two, from 256 ns to over a
 * minute, so a percentile is right within 19%.  One thread adds; others may
 * read at the same time and see each bucket whole (relaxed atomics). */
#ifndef ABD_BASE_HISTOGRAM_H
#define ABD_BASE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#define HISTOGRAM_BUCKETS 120

struct histogram {
    _Atomic uint64_t count[HISTOGRAM_BUCKETS];
    _Atomic uint64_t total, sum_ns, max_ns;
};

void histogram_add(struct histogram *histogram, uint64_t ns);
/* to += from */
void histogram_merge(struct histogram *to, const struct histogram *from);
/* The upper border of the bucket with the given part (0.5, 0.99) of all values;
 * never above the largest seen; 0 if there is none. */
uint64_t histogram_percentile(const struct histogram *histogram, double part);

#endif
