/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The loop's mailbox: see mailbox.h for the argument why no wake-up is lost.
 * Memory orders: the push and the take also carry the message's contents (the
 * sequentially consistent exchange is release on one side, acquire on the
 * other). */
#include "loop/mailbox.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loop/loop.h"

void (*mailbox_test_pause)(enum mailbox_step step);

static inline void pause_at(enum mailbox_step step)
{
    if (__builtin_expect(mailbox_test_pause != NULL, 0))
        mailbox_test_pause(step);
}

int mailbox_init(struct mailbox *mailbox)
{
    mailbox->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (mailbox->event_fd < 0)
        return errno;
    atomic_init(&mailbox->stack, NULL);
    atomic_init(&mailbox->announced, false);
    mailbox->first = NULL;
    mailbox->last_next = &mailbox->first;
    return 0;
}

void mailbox_finish(struct mailbox *mailbox)
{
    if (mailbox->event_fd >= 0)
        close(mailbox->event_fd);
    mailbox->event_fd = -1;
}

void mailbox_push(struct mailbox *mailbox, struct loop_message *message)
{
    struct loop_message *top;

    pause_at(MAILBOX_PUSHING);
    top = atomic_load_explicit(&mailbox->stack, memory_order_relaxed);
    do
        message->next = top;
    while (!atomic_compare_exchange_weak_explicit(&mailbox->stack, &top,
                                                  message, memory_order_seq_cst,
                                                  memory_order_relaxed));
    pause_at(MAILBOX_PUSHED);
}

void mailbox_ring(struct mailbox *mailbox)
{
    uint64_t one = 1;

    /* An exchange, not a load: of many senders one writes. */
    if (!atomic_exchange_explicit(&mailbox->announced, false,
                                  memory_order_seq_cst))
        return;
    pause_at(MAILBOX_RANG);
    /* EAGAIN would mean 2^64 unread wake-ups; any other error, that the
     * descriptor is not ours any more, and that the loop would sleep for
     * ever. */
    while (write(mailbox->event_fd, &one, sizeof one) < 0)
        if (errno != EINTR && errno != EAGAIN)
            abort();
}

void mailbox_announce(struct mailbox *mailbox)
{
    atomic_store_explicit(&mailbox->announced, true, memory_order_seq_cst);
    pause_at(MAILBOX_ANNOUNCED);
}

void mailbox_withdraw(struct mailbox *mailbox)
{
    /* Relaxed: a sender that still sees the announcement wakes a loop that is
     * awake, once. */
    atomic_store_explicit(&mailbox->announced, false, memory_order_relaxed);
}

/* The stack has the newest on top; it is the last to be called. */
static void append_reversed(struct mailbox *mailbox, struct loop_message *taken)
{
    struct loop_message **last_next = &taken->next;
    struct loop_message *reversed = NULL;

    while (taken) {
        struct loop_message *next = taken->next;

        taken->next = reversed;
        reversed = taken;
        taken = next;
    }
    *mailbox->last_next = reversed;
    mailbox->last_next = last_next;
}

void mailbox_take(struct mailbox *mailbox)
{
    if (atomic_load_explicit(&mailbox->stack, memory_order_seq_cst))
        append_reversed(mailbox,
                        atomic_exchange_explicit(&mailbox->stack, NULL,
                                                 memory_order_seq_cst));
    pause_at(MAILBOX_TAKEN);
}

bool mailbox_prepare_sleep(struct mailbox *mailbox)
{
    mailbox_announce(mailbox);
    mailbox_take(mailbox);
    if (!mailbox->first)
        return true;
    mailbox_withdraw(mailbox);
    return false;
}

void mailbox_read_event(struct mailbox *mailbox)
{
    uint64_t count;

    /* Nothing to read (EAGAIN) is as good as having read it. */
    while (read(mailbox->event_fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
}

void mailbox_append(struct mailbox *mailbox, struct loop_message *message)
{
    message->next = NULL;
    *mailbox->last_next = message;
    mailbox->last_next = &message->next;
}
