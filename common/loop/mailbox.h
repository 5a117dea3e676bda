/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* How other threads reach a loop: a lock-free stack of messages, an
 * announcement that the loop is about to sleep, and an eventfd to wake it.
 *
 * No wake-up is lost, because each side first says what it has to say and only
 * then looks at the other, all four sequentially consistent:
 *
 *     loop:    announce (store)   then  take the stack (exchange), sleep if
 * empty sender:  push (exchange)    then  ring: exchange the announcement, and
 *                                       write the eventfd if it was set
 *
 * In their one total order either the push comes before the loop's look, and is
 * seen, or the announcement comes before the sender's look, and the loop is
 * woken.  The loop takes the whole stack at once, so there is no ABA.
 *
 * The steps are functions of their own so that a test can put them in a wrong
 * order, and show that it notices. */
#ifndef ABD_LOOP_MAILBOX_H
#define ABD_LOOP_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct loop_message;

/* Embedded in its loop, which ends it. */
/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): cache lines. */
struct mailbox {
    /* Set once. */
    int event_fd;

    /* Shared: any thread pushes and clears the announcement, the loop's thread
     * takes and announces. */
    _Alignas(64) _Atomic(struct loop_message *) stack;
    atomic_bool announced;

    /* Loop thread only: what was taken or sent by the loop itself, oldest
     * first. */
    _Alignas(64) struct loop_message *first;
    struct loop_message **last_next;
};

int mailbox_init(struct mailbox *mailbox);
void mailbox_finish(struct mailbox *mailbox);

/* The sender's two steps, on any thread.  After the push the message belongs to
 * the loop. */
void mailbox_push(struct mailbox *mailbox, struct loop_message *message);
void mailbox_ring(struct mailbox *mailbox);

/* The loop's steps. */
void mailbox_announce(struct mailbox *mailbox);
void mailbox_withdraw(struct mailbox *mailbox);
/* Moves what was pushed behind what is in first. */
void mailbox_take(struct mailbox *mailbox);
/* Announce and take, in the right order: true if the loop may sleep now.  If
 * not, the announcement is withdrawn. */
bool mailbox_prepare_sleep(struct mailbox *mailbox);
/* Empties the eventfd; to be called before mailbox_take(). */
void mailbox_read_event(struct mailbox *mailbox);

/* From the loop's own thread: no atomics. */
void mailbox_append(struct mailbox *mailbox, struct loop_message *message);

/* For tests: called between the steps of both sides if it is not NULL.  Set
 * while nothing runs. */
enum mailbox_step {
    MAILBOX_PUSHING,   /* sender, before it pushes */
    MAILBOX_PUSHED,    /* sender, before it rings */
    MAILBOX_RANG,      /* sender, before it writes the eventfd */
    MAILBOX_ANNOUNCED, /* loop, before it takes */
    MAILBOX_TAKEN,     /* loop, after it has looked at the stack */
};
extern void (*mailbox_test_pause)(enum mailbox_step step);

#endif
