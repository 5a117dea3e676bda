/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The server's side of the handshake, as little of it as real clients need. */
#ifndef ABD_BENCH_GREET_H
#define ABD_BENCH_GREET_H

#include <stdbool.h>
#include <stdint.h>

/* Blocks until the client has chosen the export (any name is the one export)
 * or has been silent for five seconds.  Returns 0 or an errno value. */
int greet(int fd, uint64_t size, uint16_t flags, bool *ret_structured);

#endif
