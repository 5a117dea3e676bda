/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The loop itself, for the files of this folder only: watch.c and timer.c work
 * on the parts of it that are theirs.  Everybody else uses loop.h. */
#ifndef ABD_LOOP_SELF_H
#define ABD_LOOP_SELF_H

#include "abd-loop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>

#include "base/list.h"
#include "loop/loop.h"
#include "loop/mailbox.h"

#define LOOP_BATCH 256 /* events fetched at once */

/* Created by loops_create(), freed by loops_destroy(). */
/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): cache lines. */
struct abd_loop {
    /* Set once, or before the threads run. */
    unsigned index;
    int epoll_fd;
    pthread_t thread;
    void *context;
    struct {
        bool (*fn)(void *arg);
        void *arg;
    } stages[LOOP_STAGES];

    /* Loop thread only. */
    uint64_t now_ns;
    struct epoll_event batch[LOOP_BATCH]; /* entries of stopped watches: NULL */
    unsigned batch_next, batch_count;
    struct timer *timers; /* the first of a pairing heap */
    uint32_t timer_sequence;
    struct list hooks, hooks_to_run;
    bool again;             /* a stage left work behind */
    bool expects;           /* an event, within microseconds */
    unsigned quick;         /* how often in a row it has come so soon */
    unsigned quick_wanted;  /* so often, before the loop does not sleep */
    bool has_others;        /* processors, from which events may come */
    bool stop;              /* this turn is the last */
    bool has_pwait2;        /* the kernel takes timeouts in nanoseconds */
    uintptr_t running;      /* the callback, for whom to name */
    const char *busy_with;  /* or NULL */
    uint64_t busy_since_ns; /* coarse clock */

    /* Written by the loop's thread, read by any (relaxed: only counters). */
    _Atomic uint64_t turns, sleeps, spins, wakeups;

    /* Shared, see there; and loops_stop()'s message. */
    struct mailbox mailbox;
    struct loop_message stop_message;
};

/* CLOCK_MONOTONIC, now. */
uint64_t loop_clock_ns(void);

/* busy.c: reports what held the loop for too long.  Reset when the loop wakes
 * up; begin and check around each callback of anybody. */
void busy_reset(struct abd_loop *loop);
void busy_begin(struct abd_loop *loop, uintptr_t code);
void busy_check(struct abd_loop *loop);

/* hook.c: calls those that are started at this moment. */
void hook_run(struct abd_loop *loop);

/* busy.c: ends the program with a message that names the owner of the code at
 * fn. */
_Noreturn void loop_misuse(uintptr_t code, const char *what, const char *why);
/* The current loop; if this thread is none, misuse. */
struct abd_loop *loop_need_self(uintptr_t code, const char *what);

/* watch.c: calls what the batch holds. */
void watch_run(struct abd_loop *loop);

/* timer.c: calls what is due at now_ns. */
void timer_run(struct abd_loop *loop);
/* When the loop has to wake up for a timer; UINT64_MAX: never. */
uint64_t timer_next_ns(const struct abd_loop *loop);

#endif
