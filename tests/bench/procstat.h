/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the kernel says about a process and its children. */
#ifndef ABD_BENCH_PROCSTAT_H
#define ABD_BENCH_PROCSTAT_H

#include <stdint.h>
#include <sys/types.h>

/* Sums over the process and all its descendants (a server may fork for each
 * client).  Threads and children that have ended are in cpu_ns, but not in
 * the switches. */
struct procstat {
    uint64_t cpu_ns;
    uint64_t user_ms, system_ms;
    uint64_t processes, threads;
    uint64_t rss_kib, peak_kib;
    uint64_t voluntary, involuntary; /* context switches */
};

/* Returns 0 or an errno value (ESRCH: no such process). */
int procstat_read(struct procstat *ret, pid_t pid);

#endif
