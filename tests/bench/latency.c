/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Reading percentiles from the histogram; adding is inline, in the header.
 * See there for how a value finds its bucket. */
#include "tests/bench/latency.h"

static uint64_t upper_border(unsigned bucket)
{
    if (bucket < 2 * LATENCY_FINE)
        return bucket;
    unsigned shift = bucket / LATENCY_FINE - 1;
    uint64_t fine = bucket % LATENCY_FINE + LATENCY_FINE;
    return ((fine + 1) << shift) - 1;
}

uint64_t latency_percentile(const struct latency *latency, double part)
{
    uint64_t seen = 0;

    if (latency->total == 0)
        return 0;
    uint64_t wanted = (uint64_t)(part * (double)latency->total);
    if (wanted >= latency->total)
        wanted = latency->total - 1;
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
        seen += latency->count[i];
        if (seen > wanted) {
            uint64_t border = upper_border(i);
            return border < latency->max_ns ? border : latency->max_ns;
        }
    }
    return latency->max_ns;
}
