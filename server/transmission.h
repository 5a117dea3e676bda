/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The transmission phase: receiving commands.
 *
 * As much as the socket holds is taken with one system call into the worker's
 * buffer, and parsed command by command.  A connection that must wait (for room
 * in the disk, for memory, for its own client) keeps what it has received and
 * is not read from meanwhile: that is all the back-pressure there is. */
#ifndef ABD_SERVER_TRANSMISSION_H
#define ABD_SERVER_TRANSMISSION_H

#include <stdint.h>

struct connection;
struct worker;

/* Begins to read. */
void transmission_begin(struct connection *connection);
/* Readiness of either descriptor; arg: the connection. */
void transmission_on_ready(void *arg, uint32_t ready);
/* The same for one that is only written to. */
void transmission_on_writable(void *arg, uint32_t ready);
/* Nothing will be received any more: stops, and gives everything back. */
void transmission_stop(struct connection *connection);
/* What it waited for may be there: it is parsed further in this turn. */
void transmission_resume(struct connection *connection);
/* Goes on with all that was resumed; part of the ANSWER stage. */
void transmission_run_ready(struct worker *worker);

#endif
