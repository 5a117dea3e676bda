/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The event loops: what programs see of them beside include/abd-loop.h.
 *
 * A process has one set of loops, each a thread with one epoll instance.  They
 * are created first, so that others can point to them, and run from
 * loops_start() to loops_stop().  A turn of a loop:
 *
 *     wait -> watches -> timers -> messages and tasks -> hooks -> stage KICK
 *          -> stage ANSWER -> (again without sleeping if a stage says so)
 *
 * A program puts its own batch work into the stages.  Everything else reaches a
 * loop from outside by a message. */
#ifndef ABD_LOOP_LOOP_H
#define ABD_LOOP_LOOP_H

#include "abd-loop.h"

#include <stdbool.h>

#define LOOPS_MAX 64

/* In front of the definition of what plugins call: makes it visible in the
 * program, all of which is hidden otherwise. */
#define LOOP_EXPORTED __attribute__((visibility("default")))

/* Creates n loops (1 to LOOPS_MAX) that do not run yet.  Once a process at a
 * time; 0 or an errno value. */
int loops_create(unsigned n);
/* Starts their threads (all signals blocked in them).  0 or an errno value, in
 * which case none runs. */
int loops_start(void);
/* Asks every loop to end after its turn, and waits for their threads.  What is
 * still queued or started is not called any more. */
void loops_stop(void);
/* Frees them.  Not after programs have handed them to plugins whose threads may
 * still be returning from a completion: there they are left alone. */
void loops_destroy(void);

/* Something to be done on a loop's thread.  Embedded in what it is about; must
 * stay until fn is called, and may be freed or sent again from there on. */
struct loop_message {
    struct loop_message *next;
    void (*fn)(struct loop_message *message);
};

/* Any thread, also the loop's own, never blocks.  Messages (and tasks) of one
 * thread arrive in the order of sending.  The sender touches nothing of the
 * message after the push, so its end may free it at once. */
void loop_send(struct abd_loop *loop, struct loop_message *message);

/* Called on the loop's thread once a turn.  Returns true if it leaves work
 * behind that must not wait for an event: the loop then takes another turn
 * without sleeping.  Set before loops_start(). */
enum loop_stage { LOOP_STAGE_KICK, LOOP_STAGE_ANSWER, LOOP_STAGES };
void loop_set_stage(struct abd_loop *loop, enum loop_stage stage,
                    bool (*fn)(void *arg), void *arg);

/* One pointer of the program's for each loop. */
void loop_set_context(struct abd_loop *loop, void *context);
void *loop_context(const struct abd_loop *loop);

/* The loop of this thread, or NULL.  The library's; others ask the question
 * below, which is asked for each request. */
extern _Thread_local struct abd_loop *loop_self;

/* Is this the loop's thread? */
static inline bool loop_is_current(const struct abd_loop *loop)
{
    return loop == loop_self;
}

/* For a stage: all is answered, and whoever got the one answer will ask again
 * at once.  If that has come true several times in a row, the loop looks for
 * events for some microseconds before it sleeps, because on two processors
 * waking up costs more than all else.  Nothing is looked for while nobody asks,
 * nor where there is one processor only; and the less often, the more often it
 * has been in vain. */
void loop_expect_soon(struct abd_loop *loop);

/* Brings abd_loop_now_ns() up to date in the middle of a turn.  The loop's
 * thread. */
void loop_read_clock(struct abd_loop *loop);

/* Names whose code runs now (borrowed; NULL: the program's own), for the report
 * of what held the loop for more than 100 ms.  Loop thread only. */
void loop_set_busy_with(struct abd_loop *loop, const char *name);

/* Called instead of the default (a warning in the log) when something held the
 * loop: name of the plugin, shared object or "server", and for how long. */
void loops_set_slow_report(void (*fn)(const char *name, uint64_t ns));

/* How often the loop went to sleep, was woken by another thread, took a turn.
 */
struct loop_counters {
    uint64_t turns, sleeps, wakeups;
    uint64_t spins; /* how often it looked for events before it slept */
};
void loop_read_counters(const struct abd_loop *loop, struct loop_counters *ret);

#endif
