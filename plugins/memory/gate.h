/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Many readers on known threads, rare writers: the gates of a memory disk.
 *
 * Every loop has a gate of its own, so entering is one store that no other
 * thread's cache has, and leaving a plain one (a locked instruction there would
 * wait for all of the bytes just copied to reach the cache).  Who must be alone
 * closes all gates and waits until everybody inside has left.
 *
 * Who enters first says so, then looks whether the gates are closed; who closes
 * first says so, then looks who is inside (both sequentially consistent), so at
 * least one of them sees the other. */
#ifndef ABD_MEMORY_GATE_H
#define ABD_MEMORY_GATE_H

#include <pthread.h>
#include <stdatomic.h>

#define GATES 65 /* one for each loop that there can be, one for strangers */

struct gate {
    _Alignas(64) atomic_bool inside;
};

struct gates {
    _Alignas(64) atomic_bool closed;
    pthread_mutex_t closing;   /* held by who has closed them */
    pthread_mutex_t strangers; /* held inside the gate of threads that are no
                                  loop */
    struct gate gate[GATES];
};

void gates_init(struct gates *gates);
void gates_finish(struct gates *gates);

/* Any thread; not from inside.  Waits while the gates are closed. */
struct gate *gate_enter(struct gates *gates);
void gate_leave(struct gates *gates, struct gate *gate);

/* Alone from here to there. */
void gates_close(struct gates *gates);
void gates_open(struct gates *gates);

#endif
