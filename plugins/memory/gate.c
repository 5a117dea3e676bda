/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* See gate.h. */
#include "gate.h"

#include <sched.h>
#include <stdbool.h>

#include "abd-loop.h"

void gates_init(struct gates *gates)
{
    atomic_init(&gates->closed, false);
    for (unsigned i = 0; i < GATES; i++)
        atomic_init(&gates->gate[i].inside, false);
    pthread_mutex_init(&gates->closing, NULL);
    pthread_mutex_init(&gates->strangers, NULL);
}

void gates_finish(struct gates *gates)
{
    pthread_mutex_destroy(&gates->closing);
    pthread_mutex_destroy(&gates->strangers);
}

static struct gate *own_gate(struct gates *gates)
{
    const struct abd_loop *loop = abd_loop_current();

    if (loop)
        return &gates->gate[1 + abd_loop_index(loop)];
    pthread_mutex_lock(&gates->strangers);
    return &gates->gate[0];
}

struct gate *gate_enter(struct gates *gates)
{
    struct gate *gate = own_gate(gates);

    for (;;) {
        atomic_store(&gate->inside, true);
        if (!atomic_load(&gates->closed))
            return gate;
        atomic_store_explicit(&gate->inside, false, memory_order_release);
        pthread_mutex_lock(&gates->closing); /* until they are open again */
        pthread_mutex_unlock(&gates->closing);
    }
}

void gate_leave(struct gates *gates, struct gate *gate)
{
    atomic_store_explicit(&gate->inside, false, memory_order_release);
    if (gate == &gates->gate[0])
        pthread_mutex_unlock(&gates->strangers);
}

void gates_close(struct gates *gates)
{
    pthread_mutex_lock(&gates->closing);
    atomic_store(&gates->closed, true);
    /* Nobody stays longer than it takes to copy one request. */
    for (unsigned i = 0; i < GATES; i++) {
        while (atomic_load(&gates->gate[i].inside))
            sched_yield();
    }
}

void gates_open(struct gates *gates)
{
    atomic_store_explicit(&gates->closed, false, memory_order_release);
    pthread_mutex_unlock(&gates->closing);
}
