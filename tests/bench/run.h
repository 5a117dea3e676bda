/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* One measurement: connections, the event loop around them, and what came out.
 */
#ifndef ABD_BENCH_RUN_H
#define ABD_BENCH_RUN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/bench/latency.h"
#include "tests/bench/procstat.h"
#include "tests/bench/pump.h"
#include "tests/bench/target.h"

/* Borrowed by run_measure for the time of the call. */
struct run_options {
    struct target target;
    enum reply_style style;
    struct pump_profile profile; /* of an ordinary connection */
    unsigned connections;        /* all of them */
    bool heavy_writer; /* one of them writes 1 MiB requests at depth 64 */
    bool deaf;         /* one of them never reads its replies */
    unsigned idle;     /* > 0: measure this many connections at rest */
    bool verify, sequential;
    uint64_t seed;
    uint64_t time_ns, warmup_ns; /* time_ns 0: until count */
    uint64_t count;              /* 0: until time_ns */
    uint64_t rate_limit;         /* requests a second, all together; 0: none */
    uint64_t send_buffer;        /* SO_SNDBUF; 0: the kernel's */
    pid_t server;                /* 0: unknown */
};

/* The measured time only, without warming up and draining. */
struct run_result {
    struct pump_counts all;    /* ordinary connections */
    struct pump_counts writer; /* the heavy writer */
    double seconds;
    uint64_t client_cpu_ns;
    struct procstat before, after; /* zero without a server's id */
    uint64_t slowest, fastest;     /* requests of an ordinary connection */
    struct latency latency;
};

/* Returns 0 or an errno value, after a message on stderr. */
int run_measure(const struct run_options *options, struct run_result *ret);

#endif
