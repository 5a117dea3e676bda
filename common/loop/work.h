/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The work pool behind abd_work_start(): threads for code that blocks.
 *
 * Threads start on demand up to the bound, and one that had nothing to do for
 * ten seconds ends.  Work is taken first come, first served. */
#ifndef ABD_LOOP_WORK_H
#define ABD_LOOP_WORK_H

/* Sets how many threads there may be (default 16).  Before any work. */
void work_set_threads(unsigned max);
/* After how long without work a thread ends (default 10 s).  For tests; at once
 * for threads that begin to idle from then on. */
void work_set_idle(unsigned ms);
/* How many threads there are now. */
unsigned work_count_threads(void);
/* Waits until no work is queued or running, and ends all threads. */
void work_finish(void);

#endif
