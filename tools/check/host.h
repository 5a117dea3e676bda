/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The kit's loops: whose code runs on each, whether it blocks, kick() once
 * after a batch; and waiting for them from the main thread. */
#ifndef ABD_CHECK_HOST_H
#define ABD_CHECK_HOST_H

#include "abd-plugin.h"

#include "base/list.h"
#include "loop/loop.h"

#include <semaphore.h>
#include <stdint.h>

struct lane;

/* One for each loop; lives as long as the process. */
struct worker {
    /* Set once. */
    struct abd_loop *loop;
    unsigned index;
    /* Loop thread only. */
    struct list kicks; /* of struct lane */
    int waited_fd;     /* how long the thread had to wait for a processor */
    uint64_t waited_ns;
    const char *outer; /* who called whom: one level is enough */
    /* Shared: for messages. */
    const char *_Atomic who;      /* the plugin whose code runs */
    const char *_Atomic callback; /* which of its callbacks */
};

void host_start(unsigned loops);
struct worker *host_worker(void); /* of this loop's thread */
struct worker *host_worker_of(const struct abd_loop *loop);

/* Around every call of a plugin on a loop. */
struct host_call {
    const char *who, *callback;
};
struct host_call host_enter(const char *who, const char *callback);
void host_leave(struct host_call before);

/* Whose code runs on this thread, else the plugin's name. */
const char *host_busy_with(void);
/* Is some loop inside a callback that has not returned?  NULL: none. */
const char *host_stuck(const char **ret_callback);

/* Runs fn on the loop and waits until it has returned. */
void host_run(struct abd_loop *loop, void (*fn)(void *arg), void *arg);
/* Waits for it for so long; false: in vain. */
bool host_wait(sem_t *sem, uint64_t ns);

/* Something is wrong with the kit or its machine. */
__attribute__((noreturn)) void host_die(const char *what);

/* From a seed, never 0 twice in a row. */
uint64_t host_random(uint64_t *state);

#endif
