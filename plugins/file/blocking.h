/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Requests in the work pool. */
#ifndef FILE_BLOCKING_H
#define FILE_BLOCKING_H

struct op;

/* Takes over an op, runs it in the pool and completes it, on the loop that
 * calls. */
void blocking_start(struct op *op);

/* On a thread that may block: runs the op, from op->done on, and returns its
 * error. */
int blocking_run(struct op *op);

#endif
