/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* No wake-up is lost: a loop that sleeps after each message, and senders.
 *
 * Three ways: millions of messages through real loops; the same with pauses
 * between the steps of both sides; and every order in which the steps of a
 * sender and a loop can follow each other, for the right and for wrong
 * programs of both, so that it shows which of these checks fails for what.
 * LOOP_WAKEUPS in the environment: how many messages (default 250,000). */
#include "tests/unit/loop_fixture.h"

#include <poll.h>
#include <sched.h>
#include <stdatomic.h>

#include "loop/mailbox.h"
#include "loop/self.h"

#define SENDERS 4

static unsigned long messages = 250000;

/* --- real loops --- */

static struct {
    struct loop_message message;
    atomic_ulong seen;
    sem_t back;
} pings[SENDERS];

static void on_ping(struct loop_message *message)
{
    for (unsigned i = 0; i < SENDERS; i++)
        if (message == &pings[i].message)
            sem_post(&pings[i].back);
}

static void *ping(void *arg)
{
    unsigned i = (unsigned)(uintptr_t)arg;
    unsigned long n = messages / SENDERS;
    uint32_t seed = i;

    pings[i].message.fn = on_ping;
    while (n-- > 0) {
        /* The loop is on its way to sleep: meet it at every point of it. */
        seed = seed * 1664525 + 1013904223;
        for (volatile uint32_t wait = seed >> 21; wait > 0; wait--)
            ;
        loop_send(abd_loop_at(0), &pings[i].message);
        wait_for(&pings[i].back);
        atomic_fetch_add_explicit(&pings[i].seen, 1, memory_order_relaxed);
    }
    return NULL;
}

/* A watchdog instead of a hanging test: somebody must always get on. */
static void join_or_fail(pthread_t *threads, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct timespec until;

        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 300;
        if (pthread_timedjoin_np(threads[i], NULL, &until) != 0)
            fail_msg("a wake-up was lost");
    }
}

static void ping_from(unsigned senders)
{
    pthread_t threads[SENDERS];
    struct loop_counters counters;
    unsigned long sum = 0;

    assert_int_equal(start_loops(1), 0);
    for (uintptr_t i = 0; i < senders; i++) {
        sem_init(&pings[i].back, 0, 0);
        atomic_store(&pings[i].seen, 0);
        pthread_create(&threads[i], NULL, ping, (void *)i);
    }
    join_or_fail(threads, senders);
    for (unsigned i = 0; i < senders; i++)
        sum += atomic_load(&pings[i].seen);
    assert_int_equal(sum, messages / SENDERS * senders);
    loop_read_counters(abd_loop_at(0), &counters);
    /* If the loop had hardly slept, nothing would have been tested. */
    assert_true(counters.sleeps > messages / SENDERS / 50);
    assert_true(counters.wakeups > 0);
    if (getenv("LOOP_WAKEUPS"))
        print_message("%lu messages, %lu turns, %lu sleeps, %lu wake-ups\n",
                      sum, (unsigned long)counters.turns,
                      (unsigned long)counters.sleeps,
                      (unsigned long)counters.wakeups);
    stop_loops();
}

static void one_sender_that_waits_for_each(void **state)
{
    (void)state;
    ping_from(1);
}

static void four_senders_that_wait_for_each(void **state)
{
    (void)state;
    ping_from(SENDERS);
}

/* Without waiting: fresh tasks in crowds, and each is seen. */
struct flood {
    struct abd_task *tasks;
    unsigned long n;
};
static atomic_ulong flooded;

static void on_flood(void *arg)
{
    (void)arg;
    atomic_fetch_add_explicit(&flooded, 1, memory_order_relaxed);
}

static void *flood(void *arg)
{
    struct flood *mine = arg;

    for (unsigned long i = 0; i < mine->n; i++) {
        abd_post(abd_loop_at(0), &mine->tasks[i], on_flood, NULL);
        if (i % 16 == 0)
            sched_yield();
    }
    return NULL;
}

static void nothing(void *arg)
{
    (void)arg;
}

static void four_senders_that_do_not_wait(void **state)
{
    pthread_t threads[SENDERS];
    struct flood floods[SENDERS];

    (void)state;
    atomic_store(&flooded, 0);
    assert_int_equal(start_loops(1), 0);
    for (unsigned i = 0; i < SENDERS; i++) {
        floods[i].n = messages;
        floods[i].tasks = calloc(messages, sizeof *floods[i].tasks);
        pthread_create(&threads[i], NULL, flood, &floods[i]);
    }
    join_or_fail(threads, SENDERS);
    run_on(abd_loop_at(0), nothing, NULL);
    assert_int_equal(atomic_load(&flooded), SENDERS * messages);
    for (unsigned i = 0; i < SENDERS; i++)
        free(floods[i].tasks);
    stop_loops();
}

/* Lets the other side run between two steps, now and then. */
static void yield_at(enum mailbox_step step)
{
    static _Thread_local unsigned calls;

    if ((++calls + (unsigned)step) % 3 == 0)
        for (unsigned i = 0; i < calls % 7; i++)
            sched_yield();
}

static void the_same_with_pauses_between_the_steps(void **state)
{
    unsigned long all = messages;

    (void)state;
    mailbox_test_pause = yield_at;
    messages /= 4;
    ping_from(1);
    ping_from(SENDERS);
    messages = all;
    mailbox_test_pause = NULL;
}

/* --- every order of the steps --- */

/* The programs.  A sender pushes and rings, a loop announces and takes; the
 * last step of a loop is to decide, by what it took, whether it sleeps. */
typedef void (*step)(struct mailbox *mailbox, struct loop_message *message);

static void push(struct mailbox *mailbox, struct loop_message *message)
{
    mailbox_push(mailbox, message);
}

static void ring(struct mailbox *mailbox, struct loop_message *message)
{
    (void)message;
    mailbox_ring(mailbox);
}

static void announce(struct mailbox *mailbox, struct loop_message *message)
{
    (void)message;
    mailbox_announce(mailbox);
}

static void take(struct mailbox *mailbox, struct loop_message *message)
{
    (void)message;
    mailbox_take(mailbox);
}

static void read_event(struct mailbox *mailbox, struct loop_message *message)
{
    (void)message;
    mailbox_read_event(mailbox);
}

static const step right_sender[] = {push, ring};
static const step wrong_sender[] = {ring, push};
static const step right_loop[] = {announce, take};
static const step wrong_loop[] = {take, announce};
/* Reads the event only after it has looked at the stack, while announced. */
static const step late_reader[] = {announce, take, read_event};

static bool would_wake(const struct mailbox *mailbox)
{
    struct pollfd fd = {.fd = mailbox->event_fd, .events = POLLIN};

    return poll(&fd, 1, 0) == 1;
}

/* One order: bit i of the mask says whether step i is a sender's.  Lost is a
 * message that nobody has taken while the loop sleeps and nothing wakes it. */
static bool is_lost(const step *sender, const step *loop, unsigned loop_steps,
                    unsigned mask, unsigned senders)
{
    struct mailbox mailbox;
    struct loop_message messages_[2] = {{NULL, NULL}, {NULL, NULL}};
    unsigned sent = 0;
    unsigned looped = 0;
    bool lost;

    assert_int_equal(mailbox_init(&mailbox), 0);
    for (unsigned i = 0; i < 2 * senders + loop_steps; i++)
        if (mask >> i & 1) {
            sender[sent % 2](&mailbox, &messages_[sent / 2]);
            sent++;
        } else {
            loop[looped++](&mailbox, NULL);
        }
    lost =
        !mailbox.first && atomic_load(&mailbox.stack) && !would_wake(&mailbox);
    mailbox_finish(&mailbox);
    return lost;
}

static unsigned count_lost(const step *sender, const step *loop,
                           unsigned loop_steps, unsigned senders)
{
    unsigned steps = 2 * senders + loop_steps;
    unsigned lost = 0;

    for (unsigned mask = 0; mask < 1U << steps; mask++)
        if ((unsigned)__builtin_popcount(mask) == 2 * senders &&
            is_lost(sender, loop, loop_steps, mask, senders))
            lost++;
    return lost;
}

static void no_order_of_the_steps_loses_one(void **state)
{
    (void)state;
    assert_int_equal(count_lost(right_sender, right_loop, 2, 1), 0);
    assert_int_equal(count_lost(right_sender, right_loop, 2, 2), 0);
}

static void a_wrong_order_would_be_noticed(void **state)
{
    (void)state;
    assert_true(count_lost(wrong_sender, right_loop, 2, 1) > 0);
    assert_true(count_lost(right_sender, wrong_loop, 2, 1) > 0);
    assert_true(count_lost(right_sender, late_reader, 3, 1) > 0);
}

/* --- the loop's own code, the other side's steps put between its own --- */

static struct {
    struct mailbox mailbox;
    struct loop_message message;
    enum mailbox_step at;
    const step *sender;
    unsigned sent, upto;
} between;

/* At the step, the sender goes on until it has taken upto steps. */
static void send_between(enum mailbox_step at)
{
    if (at != between.at)
        return;
    while (between.sent < between.upto)
        between.sender[between.sent++](&between.mailbox, &between.message);
}

static bool loses_between(const step *sender, unsigned before,
                          enum mailbox_step at, unsigned upto)
{
    bool sleeps;
    bool lost;

    memset(&between, 0, sizeof between);
    assert_int_equal(mailbox_init(&between.mailbox), 0);
    between.at = at;
    between.sender = sender;
    between.upto = upto;
    while (between.sent < before)
        sender[between.sent++](&between.mailbox, &between.message);
    mailbox_test_pause = send_between;
    sleeps = mailbox_prepare_sleep(&between.mailbox);
    mailbox_test_pause = NULL;
    while (between.sent < 2)
        sender[between.sent++](&between.mailbox, &between.message);
    lost = sleeps && !between.mailbox.first && !would_wake(&between.mailbox);
    mailbox_finish(&between.mailbox);
    return lost;
}

static void a_pause_in_the_loop_shows_a_wrong_sender_at_once(void **state)
{
    unsigned wrong = 0;

    (void)state;
    for (unsigned i = 0; i < 3 * 2 * 3; i++) {
        unsigned before = i / 6;
        enum mailbox_step at = i / 3 % 2 ? MAILBOX_TAKEN : MAILBOX_ANNOUNCED;
        unsigned upto = i % 3;

        assert_false(loses_between(right_sender, before, at, upto));
        wrong += loses_between(wrong_sender, before, at, upto);
    }
    assert_true(wrong > 0);
}

/* The same the other way round: the loop goes to sleep between the steps of
 * loop_send(). */
static enum mailbox_step sleep_at;
static bool sleeping;

static void sleep_between(enum mailbox_step at)
{
    mailbox_test_pause = NULL;
    if (at == sleep_at)
        sleeping = mailbox_prepare_sleep(&abd_loop_at(0)->mailbox);
    mailbox_test_pause = sleep_between;
}

static void sending_wakes_a_loop_that_falls_asleep_meanwhile(void **state)
{
    (void)state;
    for (sleep_at = MAILBOX_PUSHING; sleep_at <= MAILBOX_RANG; sleep_at++) {
        struct loop_message message = {NULL, NULL};
        const struct mailbox *mailbox;

        assert_int_equal(loops_create(1), 0);
        mailbox = &abd_loop_at(0)->mailbox;
        sleeping = false;
        mailbox_test_pause = sleep_between;
        loop_send(abd_loop_at(0), &message);
        mailbox_test_pause = NULL;
        assert_int_equal(sleeping, sleep_at == MAILBOX_PUSHING);
        assert_true(!sleeping || would_wake(mailbox));
        loops_destroy();
    }
}

static void messages_are_taken_oldest_first(void **state)
{
    struct mailbox mailbox;
    struct loop_message sent[5];
    const struct loop_message *message;
    unsigned i = 0;

    (void)state;
    assert_int_equal(mailbox_init(&mailbox), 0);
    mailbox_take(&mailbox);
    mailbox_append(&mailbox, &sent[0]);
    mailbox_push(&mailbox, &sent[1]);
    mailbox_push(&mailbox, &sent[2]);
    mailbox_take(&mailbox);
    mailbox_append(&mailbox, &sent[3]);
    mailbox_push(&mailbox, &sent[4]);
    mailbox_take(&mailbox);
    for (message = mailbox.first; message; message = message->next)
        assert_ptr_equal(message, &sent[i++]);
    assert_int_equal(i, 5);
    mailbox_finish(&mailbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_taken_oldest_first),
        cmocka_unit_test(no_order_of_the_steps_loses_one),
        cmocka_unit_test(a_wrong_order_would_be_noticed),
        cmocka_unit_test(a_pause_in_the_loop_shows_a_wrong_sender_at_once),
        cmocka_unit_test(sending_wakes_a_loop_that_falls_asleep_meanwhile),
        cmocka_unit_test(one_sender_that_waits_for_each),
        cmocka_unit_test(four_senders_that_wait_for_each),
        cmocka_unit_test(four_senders_that_do_not_wait),
        cmocka_unit_test(the_same_with_pauses_between_the_steps),
    };
    const char *asked = getenv("LOOP_WAKEUPS");

    if (asked)
        messages = strtoul(asked, NULL, 10);
    else if (UNDER_SANITIZER)
        messages /= 6;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
