/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Requests in the work pool. */
#ifndef FILE_BLOCKING_H
#define FILE_BLOCKING_H

struct op;

/* Takes over an op, runs it in the pool and completes it, on the loop that
 * calls. */
void blocking_start(struct op *op);
/* The same for a list of WRITEs (op->next), one after another; then calls
 * ring_batch_done() of that loop's ring. */
void blocking_start_batch(struct op *ops);

#endif
