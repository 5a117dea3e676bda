/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The numbers of the stats filter, and the table made of them. */
#ifndef ABD_PLUGINS_STATS_REPORT_H
#define ABD_PLUGINS_STATS_REPORT_H

#include "abd-plugin.h"
#include "base/histogram.h"

#include <stdint.h>
#include <stdio.h>

#define STATS_OPS  (ABD_OP_CACHE + 1)
#define STATS_BITS 65

/* Requests of one kind.  A request of 4096 to 8191 bytes has 12 bits; an offset
 * of 0 is aligned to anything, 64 bits. */
struct stats_op {
    uint64_t requests, bytes, ns, failed;
    uint64_t bytes_of[STATS_BITS];          /* by size */
    uint64_t count[STATS_BITS][STATS_BITS]; /* by size and alignment */
    struct histogram latency;
};

struct stats_counts {
    struct stats_op ops[STATS_OPS];
};

/* One request has ended.  The bytes and sizes of one that failed do not count,
 * and its time neither. */
void stats_count(struct stats_op *op, uint64_t offset, uint64_t length,
                 uint64_t ns, int error);
/* to += from */
void stats_add(struct stats_counts *to, const struct stats_counts *from);
/* Writes the table.  threshold: how many percent of the requests of a kind the
 * breakdown by size describes, the most frequent sizes first; 0: none. */
void stats_report(FILE *file, const struct stats_counts *counts,
                  uint64_t elapsed_ns, unsigned threshold);

#endif
