/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Requests in the work pool. */
#ifndef FILE_BLOCKING_H
#define FILE_BLOCKING_H

struct op;

/* Takes over a list of ops (op->next), runs them one after another in the pool
 * and completes them, on the loop that calls. */
void blocking_start(struct op *ops);

#endif
