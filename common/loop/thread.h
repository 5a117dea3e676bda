/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Starting a thread that signals leave alone: all are blocked in it from its
 * first instruction on, so they reach the program's main thread. */
#ifndef ABD_LOOP_THREAD_H
#define ABD_LOOP_THREAD_H

#include <pthread.h>

/* ret: NULL for a detached thread.  0 or an errno value. */
int thread_start(pthread_t *ret, void *(*fn)(void *arg), void *arg);

#endif
