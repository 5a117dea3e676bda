/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Waiting for memory: nobody is forgotten, overtaken or starved.
 * MEMORY_ROUNDS in the environment: how many times (default 150,000; with
 * 10,000,000 it takes a minute). */
#include "tests/unit/memory_fixture.h"

#include <sched.h>
#include <stdatomic.h>

struct waiter {
    struct memory_waiter waiter;
    uint64_t size;
    void *buffer;
    unsigned number;
};

static unsigned served[16];
static unsigned served_count;
static sem_t one_served;

static bool on_try(struct memory_waiter *public)
{
    struct waiter *waiter = container_of(public, struct waiter, waiter);

    waiter->buffer = take(waiter->waiter.use, waiter->size);
    if (!waiter->buffer)
        return false;
    served[served_count++] = waiter->number;
    sem_post(&one_served);
    return true;
}

static struct waiter waiters[8];

static void wait_with(unsigned i, enum memory_use use, uint64_t size)
{
    waiters[i] = (struct waiter){{{NULL, NULL}, on_try, use, 0}, size, NULL, i};
    memory_wait(mine(), &waiters[i].waiter);
}

static void *held[80];

static void hold_all(void *arg)
{
    (void)arg;
    served_count = 0;
    for (unsigned i = 0; i < 72; i++)
        assert_non_null(held[i] = take(MEMORY_WRITE, MIB));
}

static void give_some(void *arg)
{
    const unsigned *range = arg;

    for (unsigned i = range[0]; i < range[1]; i++)
        memory_give(mine(), held[i], MIB);
}

static void wait_in_turn(void *arg)
{
    (void)arg;
    wait_with(0, MEMORY_WRITE, 3 * MIB);
    wait_with(1, MEMORY_WRITE, 4 * KIB);
    wait_with(2, MEMORY_WRITE, 4 * KIB);
    assert_true(memory_is_short(mine()));
    /* Nobody overtakes, but a read may use the reads' own. */
    assert_null(take(MEMORY_WRITE, 4 * KIB));
    held[72] = take(MEMORY_READ, 8 * MIB);
    assert_non_null(held[72]);
    memory_give(mine(), held[72], 8 * MIB);
}

static void give_up(void *arg)
{
    (void)arg;
    memory_wait_stop(mine(), &waiters[1].waiter);
    memory_wait_stop(mine(), &waiters[1].waiter);
}

static void is_not_short(void *arg)
{
    (void)arg;
    assert_false(memory_is_short(mine()));
}

static void waiters_are_served_in_turn(void **state)
{
    struct arena_counters counters;

    (void)state;
    sem_init(&one_served, 0, 0);
    begin(2, 80 * MIB, false);
    run_on(abd_loop_at(0), hold_all, NULL);
    run_on(abd_loop_at(1), wait_in_turn, NULL);
    arena_read_counters(arena, &counters);
    assert_int_equal(counters.waiters, 3);
    /* Not enough for the first: it waits, and so do all behind it. */
    run_on(abd_loop_at(0), give_some, (unsigned[]){0, 2});
    run_on(abd_loop_at(1), give_up, NULL);
    run_on(abd_loop_at(1), give_up, NULL);
    assert_int_equal(served_count, 0);
    run_on(abd_loop_at(0), give_some, (unsigned[]){2, 4});
    wait_for(&one_served);
    wait_for(&one_served);
    assert_int_equal(served_count, 2);
    assert_int_equal(served[0], 0);
    assert_int_equal(served[1], 2);
    run_on(abd_loop_at(1), is_not_short, NULL);
    run_on(abd_loop_at(0), give_some, (unsigned[]){4, 72});
    end();
}

static void wait_with_first(void *arg)
{
    (void)arg;
    wait_with(0, MEMORY_WRITE, 2 * MIB);
}

static void wait_with_second(void *arg)
{
    (void)arg;
    wait_with(1, MEMORY_WRITE, 4 * KIB);
}

static void wait_with_third(void *arg)
{
    (void)arg;
    wait_with(2, MEMORY_WRITE, 4 * KIB);
}

/* Behind all messages that the loop has got up to now. */
static void look_again(void *arg)
{
    (void)arg;
    assert_true(memory_is_short(mine()));
}

static void loops_are_served_in_turn_too(void **state)
{
    (void)state;
    sem_init(&one_served, 0, 0);
    begin(3, 80 * MIB, false);
    run_on(abd_loop_at(0), hold_all, NULL);
    run_on(abd_loop_at(1), wait_with_first, NULL);
    run_on(abd_loop_at(2), wait_with_second, NULL);
    run_on(abd_loop_at(1), wait_with_third, NULL);
    run_on(abd_loop_at(0), give_some, (unsigned[]){0, 1});
    /* Every loop has had its turn to do something wrong. */
    for (unsigned i = 0; i < 3; i++)
        run_on(abd_loop_at(i), look_again, NULL);
    assert_int_equal(served_count, 0);
    run_on(abd_loop_at(0), give_some, (unsigned[]){1, 4});
    for (unsigned i = 0; i < 3; i++)
        wait_for(&one_served);
    assert_int_equal(served[0], 0);
    assert_int_equal(served[1], 1);
    assert_int_equal(served[2], 2);
    run_on(abd_loop_at(0), give_some, (unsigned[]){4, 72});
    end();
}

/* A loop keeps one empty chunk: not while another waits for it. */
static void leave_a_spare(void *arg)
{
    (void)arg;
    memory_give(mine(), take(MEMORY_WRITE, 4 * KIB), 4 * KIB);
    memory_give(mine(), take(MEMORY_READ, 8 * KIB), 8 * KIB);
}

static void wait_for_all(void *arg)
{
    uint64_t all = 80 * MIB;

    (void)arg;
    assert_true(memory_fits(mine(), MEMORY_READ, &all, 1));
    served_count = 0;
    assert_null(take(MEMORY_READ, all));
    wait_with(0, MEMORY_READ, all);
}

static void idle_loops_give_back_what_they_spared(void **state)
{
    (void)state;
    sem_init(&one_served, 0, 0);
    begin(4, 80 * MIB, false);
    for (unsigned i = 0; i < 4; i++)
        run_on(abd_loop_at(i), leave_a_spare, NULL);
    run_on(abd_loop_at(0), wait_for_all, NULL);
    wait_for(&one_served);
    end();
}

/* A waiter that has become impossible is asked again. */
static bool try_or_despair(struct memory_waiter *public)
{
    struct waiter *waiter = container_of(public, struct waiter, waiter);

    if (memory_fits(mine(), waiter->waiter.use, &waiter->size, 1))
        return false;
    sem_post(&one_served);
    return true;
}

static void wait_in_vain(void *arg)
{
    (void)arg;
    waiters[0] = (struct waiter){
        {{NULL, NULL}, try_or_despair, MEMORY_READ, 0}, 80 * MIB, NULL, 0};
    memory_wait(mine(), &waiters[0].waiter);
}

static void a_charge_has_waiters_asked_again(void **state)
{
    (void)state;
    sem_init(&one_served, 0, 0);
    begin(2, 80 * MIB, false);
    run_on(abd_loop_at(0), wait_in_vain, NULL);
    assert_true(arena_charge(arena, 1));
    wait_for(&one_served);
    end();
}

/* --- many loops that take, wait and give back, without end --- */

#define CLIENTS 12 /* for each loop */

/* One that takes, holds it for some tasks, gives back, takes again; and waits
 * when there is nothing.  All of it ends only if no waiter is forgotten. */
struct client {
    struct memory_waiter waiter;
    struct abd_task task;
    uint64_t sizes[3];
    void *buffers[3];
    unsigned n, hold;
    bool is_big; /* takes more than half of all */
    unsigned long left;
    uint32_t seed;
    struct memory *memory;
};

static sem_t clients_done;
static atomic_ulong waits;

static void client_step(void *arg);

static void client_got(struct client *client)
{
    for (unsigned i = 0; i < client->n; i++)
        *(char *)client->buffers[i] = 1;
    client->hold = next_random(&client->seed) % 4;
    abd_post(abd_loop_current(), &client->task, client_step, client);
}

static bool client_take(struct client *client)
{
    return memory_take(client->memory, client->waiter.use, client->sizes,
                       client->n, client->buffers);
}

static bool client_try(struct memory_waiter *waiter)
{
    struct client *client = container_of(waiter, struct client, waiter);

    if (!client_take(client))
        return false;
    client_got(client);
    return true;
}

static void client_choose(struct client *client)
{
    client->waiter.use =
        next_random(&client->seed) % 3 ? MEMORY_WRITE : MEMORY_READ;
    do {
        client->n = 1 + next_random(&client->seed) % 3;
        for (unsigned i = 0; i < client->n; i++)
            client->sizes[i] =
                client->is_big ? 2 * MIB + 1 : random_size(&client->seed);
    } while (!memory_fits(client->memory, client->waiter.use, client->sizes,
                          client->n));
}

static void client_begin(struct client *client)
{
    client_choose(client);
    if (client_take(client)) {
        client_got(client);
        return;
    }
    atomic_fetch_add_explicit(&waits, 1, memory_order_relaxed);
    memory_wait(client->memory, &client->waiter);
    /* Some think better of it. */
    if (next_random(&client->seed) % 16 == 0) {
        memory_wait_stop(client->memory, &client->waiter);
        client->n = 0;
        client_got(client);
    }
}

static void client_step(void *arg)
{
    struct client *client = arg;

    if (client->hold > 0) {
        client->hold--;
        abd_post(abd_loop_current(), &client->task, client_step, client);
        return;
    }
    for (unsigned i = 0; i < client->n; i++)
        memory_give(client->memory, client->buffers[i], client->sizes[i]);
    if (--client->left > 0)
        client_begin(client);
    else
        sem_post(&clients_done);
}

static void start_client(void *arg)
{
    struct client *client = arg;

    client->memory = mine();
    client_begin(client);
}

static void run_clients(unsigned loops, unsigned each, uint64_t bytes)
{
    struct client *clients = calloc(loops * each, sizeof *clients);
    struct arena_counters counters;

    sem_init(&clients_done, 0, 0);
    atomic_store(&waits, 0);
    begin(loops, bytes, false);
    for (unsigned i = 0; i < loops * each; i++) {
        clients[i].waiter.try = client_try;
        clients[i].seed = i + 1;
        clients[i].is_big = each == 1;
        clients[i].left = rounds / 4 / each;
        abd_post(abd_loop_at(i % loops), &clients[i].task, start_client,
                 &clients[i]);
    }
    for (unsigned i = 0; i < loops * each; i++) {
        struct timespec until;

        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 300;
        if (sem_timedwait(&clients_done, &until) < 0)
            fail_msg("a waiter was forgotten");
    }
    arena_read_counters(arena, &counters);
    assert_int_equal(counters.in_use, 0);
    assert_int_equal(counters.waiters, 0);
    if (getenv("MEMORY_ROUNDS"))
        print_message("%lu takes, %lu waits\n", rounds / 4 * loops,
                      atomic_load(&waits));
    /* Two alone may happen to run one after the other. */
    assert_true(each == 1 || atomic_load(&waits) > rounds / 1000);
    end();
    free(clients);
}

static void no_waiter_is_forgotten(void **state)
{
    (void)state;
    run_clients(3, CLIENTS, 8 * MIB);
    /* One against one: each give wakes the other. */
    run_clients(2, 1, 4 * MIB);
}

static void pause_now_and_then(void)
{
    static _Thread_local unsigned calls;

    if (++calls % 5 == 0)
        sched_yield();
}

static void nor_with_pauses_where_a_race_would_hurt(void **state)
{
    (void)state;
    arena_test_pause = pause_now_and_then;
    run_clients(3, CLIENTS, 8 * MIB);
    run_clients(2, 1, 4 * MIB);
    arena_test_pause = NULL;
}

/* One loop gives its last chunk back in the very moment in which another begins
 * to wait, at each point where that may happen. */
static struct {
    unsigned at, calls;
    sem_t paused, go_on;
} meeting;

static void pause_to_meet(void)
{
    if (abd_loop_current() != abd_loop_at(1) || meeting.calls++ != meeting.at)
        return;
    sem_post(&meeting.paused);
    wait_for(&meeting.go_on);
}

static void take_all(void *arg)
{
    (void)arg;
    served_count = 0;
    held[0] = take(MEMORY_READ, 4 * MIB);
    assert_non_null(held[0]);
}

static void give_all(void *arg)
{
    (void)arg;
    memory_give(mine(), held[0], 4 * MIB);
}

static void wait_as_first(void *arg)
{
    (void)arg;
    if (!take(MEMORY_WRITE, MIB))
        wait_with(0, MEMORY_WRITE, MIB);
}

static void give_back_while_another_begins_to_wait(void **state)
{
    (void)state;
    arena_test_pause = pause_to_meet;
    for (meeting.at = 0; meeting.at < 3; meeting.at++) {
        struct abd_task task = {0};

        meeting.calls = 0;
        sem_init(&meeting.paused, 0, 0);
        sem_init(&meeting.go_on, 0, 0);
        sem_init(&one_served, 0, 0);
        begin(2, 4 * MIB, false);
        run_on(abd_loop_at(0), take_all, NULL);
        abd_post(abd_loop_at(1), &task, wait_as_first, NULL);
        wait_for(&meeting.paused);
        run_on(abd_loop_at(0), give_all, NULL);
        sem_post(&meeting.go_on);
        wait_for(&one_served);
        end();
    }
    arena_test_pause = NULL;
}

/* Others go on with what they have, but not for ever: while they lose nothing,
 * who waits for whole chunks would never see an empty one. */
static struct busy {
    struct abd_task task;
    struct memory_waiter waiter;
    void *buffers[2];
    bool stop;
} busy;

static void busy_step(void *arg);

static bool busy_try(struct memory_waiter *waiter)
{
    (void)waiter;
    busy.buffers[0] = take(MEMORY_WRITE, 128 * KIB);
    if (!busy.buffers[0])
        return false;
    abd_post(abd_loop_current(), &busy.task, busy_step, NULL);
    return true;
}

/* Never gives back the older of its two before it has another. */
static void busy_step(void *arg)
{
    (void)arg;
    if (busy.buffers[1])
        memory_give(mine(), busy.buffers[1], 128 * KIB);
    busy.buffers[1] = busy.buffers[0];
    busy.buffers[0] = NULL;
    if (busy.stop)
        sem_post(&one_served);
    else if (!busy_try(NULL)) {
        /* Waits while it holds nothing, as all have to. */
        memory_give(mine(), busy.buffers[1], 128 * KIB);
        busy.buffers[1] = NULL;
        memory_wait(mine(), &busy.waiter);
    }
}

static void start_busy(void *arg)
{
    (void)arg;
    memset(&busy, 0, sizeof busy);
    busy.waiter.try = busy_try;
    busy.waiter.use = MEMORY_WRITE;
    assert_true(busy_try(NULL));
}

static void wait_for_three(void *arg)
{
    (void)arg;
    served_count = 0;
    wait_with(0, MEMORY_WRITE, 3 * MIB);
}

static void set_stop(void *arg)
{
    (void)arg;
    busy.stop = true;
}

static void give_three(void *arg)
{
    (void)arg;
    memory_give(mine(), waiters[0].buffer, 3 * MIB);
}

static void who_has_memory_cannot_go_on_with_it_for_ever(void **state)
{
    (void)state;
    sem_init(&one_served, 0, 0);
    begin(2, 4 * MIB, false);
    run_on(abd_loop_at(0), start_busy, NULL);
    run_on(abd_loop_at(1), wait_for_three, NULL);
    wait_for(&one_served);
    run_on(abd_loop_at(0), set_stop, NULL);
    run_on(abd_loop_at(1), give_three, NULL);
    wait_for(&one_served);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waiters_are_served_in_turn),
        cmocka_unit_test(loops_are_served_in_turn_too),
        cmocka_unit_test(idle_loops_give_back_what_they_spared),
        cmocka_unit_test(a_charge_has_waiters_asked_again),
        cmocka_unit_test(give_back_while_another_begins_to_wait),
        cmocka_unit_test(who_has_memory_cannot_go_on_with_it_for_ever),
        cmocka_unit_test(no_waiter_is_forgotten),
        cmocka_unit_test(nor_with_pauses_where_a_race_would_hurt),
    };

    set_rounds();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
