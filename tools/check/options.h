/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the command line says; read-only once the checks begin. */
#ifndef ABD_CHECK_OPTIONS_H
#define ABD_CHECK_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct options {
    char **modules; /* paths of filters, outermost first, then the plugin */
    unsigned modules_n;
    char **parameters; /* key=value */
    unsigned parameters_n;
    const char **other; /* of the second instance, if they differ */
    unsigned other_n;
    uint64_t seed, operations, timeout_ns;
    uint64_t time_ns; /* 0: one round */
    uint64_t held_ns; /* so long may a callback hold a loop */
    unsigned loops, depth;
    bool writes;  /* may write */
    bool keeps;   /* the disk keeps what is written */
    bool errors;  /* operations may fail */
    bool verbose; /* -v */
};
extern struct options options;

#endif
