/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The arena: all or nothing, a tenth for reads, nobody forgotten or overtaken.
 * MEMORY_ROUNDS in the environment: how many takes a loop makes in the tests
 * with several loops (default 150,000). */
#include "tests/unit/loop_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "loop/arena.h"
#include "loop/memory.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)

static unsigned long rounds = 150000;
static struct arena *arena;

static void begin(unsigned loops, uint64_t bytes, bool registered)
{
    assert_int_equal(loops_create(loops), 0);
    assert_int_equal(arena_create(bytes, registered, &arena), 0);
    assert_int_equal(loops_start(), 0);
}

static void end(void)
{
    loops_stop();
    arena_destroy(arena);
    arena = NULL;
    loops_destroy();
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static struct memory *mine(void)
{
    return arena_memory(arena, abd_loop_current());
}

static void *take(enum memory_use use, uint64_t size)
{
    void *buffer;

    return memory_take(mine(), use, &size, 1, &buffer) ? buffer : NULL;
}

static void refuses_what_cannot_be_an_arena(void **state)
{
    struct arena *none = NULL;
    struct arena_counters counters;

    (void)state;
    assert_int_equal(arena_create(80 * MIB, false, &none), EINVAL);
    assert_int_equal(loops_create(1), 0);
    assert_int_equal(arena_create(4 * MIB - 1, false, &none), EINVAL);
    assert_int_equal(arena_create(UINT64_MAX, false, &none), EINVAL);
    assert_null(none);
    assert_int_equal(arena_create(5 * MIB - 1, false, &none), 0);
    arena_read_counters(none, &counters);
    assert_int_equal(counters.total, 4 * MIB);
    arena_destroy(none);
    arena_destroy(NULL);
    loops_destroy();
}

static void create_without_memory(void)
{
    struct rlimit limit = {1024 * MIB, 1024 * MIB};
    struct arena *none = NULL;
    int lowest = dup(0);

    close(lowest);
    if (loops_create(1) != 0)
        _exit(1);
    setrlimit(RLIMIT_AS, &limit);
    if (arena_create(4096 * MIB, false, &none) != ENOMEM || none)
        _exit(2);
    if (arena_create(4096 * MIB, true, &none) != ENOMEM || none)
        _exit(3);
    loops_destroy();
    /* Nothing was left open. */
    if (dup(0) != lowest)
        _exit(4);
}

static void reports_lack_of_address_space(void **state)
{
    char text[4096];

    (void)state;
    if (UNDER_SANITIZER)
        skip();
    assert_int_equal(run_in_child(create_without_memory, text, sizeof text), 0);
}

static void create_without_files(void)
{
    struct rlimit limit;
    struct arena *none = NULL;

    if (loops_create(1) != 0)
        _exit(1);
    limit.rlim_cur = limit.rlim_max = (rlim_t)dup(0);
    setrlimit(RLIMIT_NOFILE, &limit);
    if (arena_create(4 * MIB, true, &none) != EMFILE || none)
        _exit(2);
    loops_destroy();
}

static void reports_lack_of_descriptors(void **state)
{
    char text[4096];

    (void)state;
    assert_int_equal(run_in_child(create_without_files, text, sizeof text), 0);
}

static void costs_are_those_of_the_class(void **state)
{
    (void)state;
    assert_int_equal(memory_cost(1), 4 * KIB);
    assert_int_equal(memory_cost(4 * KIB), 4 * KIB);
    assert_int_equal(memory_cost(4 * KIB + 1), 8 * KIB);
    assert_int_equal(memory_cost(128 * KIB), 128 * KIB);
    assert_int_equal(memory_cost(MIB - 1), MIB);
    assert_int_equal(memory_cost(MIB), MIB);
    assert_int_equal(memory_cost(MIB + 1), 2 * MIB);
    assert_int_equal(memory_cost(64 * MIB), 64 * MIB);
}

/* Bytes of the range that lie in memory. */
static uint64_t resident(void)
{
    static unsigned char pages[80 * MIB / 4096];
    uint64_t length;
    uint64_t bytes = 0;
    void *base;
    int fd;

    arena_range(arena, &base, &length, &fd);
    assert_int_equal(mincore(base, length, pages), 0);
    for (uint64_t i = 0; i < length / 4096; i++)
        if (pages[i] & 1)
            bytes += 4096;
    return bytes;
}

static void use_little(void *arg)
{
    void *buffers[512];

    (void)arg;
    /* Takes all, touches nothing. */
    for (unsigned i = 0; i < 512; i++) {
        buffers[i] = take(MEMORY_WRITE, 128 * KIB);
        assert_non_null(buffers[i]);
        assert_int_equal((uintptr_t)buffers[i] % 4096, 0);
    }
    assert_int_equal(resident(), 0);
    for (unsigned i = 0; i < 512; i++)
        memory_give(mine(), buffers[i], 128 * KIB);
    assert_int_equal(resident(), 0);
    /* What was given back last is taken first: it is warm. */
    for (unsigned i = 0; i < 1000; i++) {
        void *one = take(MEMORY_WRITE, 128 * KIB);
        void *two = take(MEMORY_READ, 4 * KIB);

        memset(one, 1, 128 * KIB);
        memset(two, 1, 4 * KIB);
        memory_give(mine(), two, 4 * KIB);
        memory_give(mine(), one, 128 * KIB);
    }
    assert_true(resident() <= 2 * 132 * KIB);
}

static void memory_is_touched_only_where_it_is_used(void **state)
{
    (void)state;
    begin(1, 80 * MIB, false);
    run_on(abd_loop_at(0), use_little, NULL);
    end();
}

static void use_much(void *arg)
{
    void *buffers[2];

    (void)arg;
    for (unsigned i = 0; i < 2; i++) {
        buffers[i] = take(MEMORY_WRITE, 32 * MIB);
        memset(buffers[i], 1, 32 * MIB);
    }
    memory_give(mine(), buffers[0], 32 * MIB);
    /* In use, and used a moment ago. */
    arena_trim(arena);
    assert_int_equal(resident(), 64 * MIB);
    arena_trim(arena);
    assert_int_equal(resident(), 32 * MIB);
    memory_give(mine(), buffers[1], 32 * MIB);
    arena_trim(arena);
    arena_trim(arena);
    assert_int_equal(resident(), 0);
    /* It is memory all the same. */
    buffers[0] = take(MEMORY_READ, 80 * MIB);
    assert_non_null(buffers[0]);
    memset(buffers[0], 1, 80 * MIB);
    memory_give(mine(), buffers[0], 80 * MIB);
}

static void trimming_gives_back_what_is_cold(void **state)
{
    (void)state;
    begin(1, 80 * MIB, false);
    run_on(abd_loop_at(0), use_much, NULL);
    end();
}

static void use_registered(void *arg)
{
    struct abd_loop *loop = abd_loop_current();
    void *buffer = take(MEMORY_WRITE, 2 * MIB);
    void *base;
    uint64_t length;
    char byte;
    int fd;

    (void)arg;
    arena_range(arena, &base, &length, &fd);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal((uintptr_t)base % (2 * MIB), 0);
    assert_int_equal(length, 80 * MIB);
    memset(buffer, 'x', 2 * MIB);
    assert_int_equal(
        pread(fd, &byte, 1, (char *)buffer - (char *)base + 1234567), 1);
    assert_int_equal(byte, 'x');
    memory_give(arena_memory(arena, loop), buffer, 2 * MIB);
    arena_trim(arena);
    arena_trim(arena);
    assert_int_equal(resident(), 2 * MIB);
}

static void a_registered_arena_is_a_file_and_keeps_its_pages(void **state)
{
    (void)state;
    begin(1, 80 * MIB, true);
    run_on(abd_loop_at(0), use_registered, NULL);
    end();
}

static void use_up(void *arg)
{
    struct arena_counters counters;
    void *writes[72];
    void *reads[8];

    (void)arg;
    for (unsigned i = 0; i < 72; i++)
        assert_non_null(writes[i] = take(MEMORY_WRITE, MIB));
    assert_null(take(MEMORY_WRITE, MIB));
    assert_null(take(MEMORY_WRITE, 4 * KIB));
    for (unsigned i = 0; i < 8; i++)
        assert_non_null(reads[i] = take(MEMORY_READ, MIB));
    assert_null(take(MEMORY_READ, 4 * KIB));
    arena_read_counters(arena, &counters);
    assert_int_equal(counters.in_use, 80 * MIB);
    assert_int_equal(memory_free_bytes(mine()), 0);
    /* A write's place serves a read, a read's last ones no write. */
    memory_give(mine(), reads[0], MIB);
    assert_null(take(MEMORY_WRITE, 4 * KIB));
    memory_give(mine(), writes[0], MIB);
    assert_non_null(reads[0] = take(MEMORY_READ, MIB));
    assert_non_null(writes[0] = take(MEMORY_READ, MIB));
    for (unsigned i = 0; i < 72; i++)
        memory_give(mine(), writes[i], MIB);
    for (unsigned i = 0; i < 8; i++)
        memory_give(mine(), reads[i], MIB);
    assert_int_equal(memory_free_bytes(mine()), 80 * MIB);
}

static void writes_leave_a_tenth_to_reads(void **state)
{
    (void)state;
    begin(1, 80 * MIB, false);
    run_on(abd_loop_at(0), use_up, NULL);
    end();
}

static void use_small(void *arg)
{
    const uint64_t sizes[] = {4 * KIB, 4 * KIB, 2 * MIB};
    const uint64_t too_much[] = {4 * KIB, 2 * MIB, MIB};
    void *buffers[3];

    (void)arg;
    /* Three chunks of the four. */
    assert_true(memory_fits(mine(), MEMORY_WRITE, sizes, 3));
    assert_false(memory_fits(mine(), MEMORY_WRITE, too_much, 3));
    assert_true(memory_fits(mine(), MEMORY_READ, too_much, 3));
    for (unsigned i = 0; i < 100; i++) {
        assert_true(memory_take(mine(), MEMORY_WRITE, sizes, 3, buffers));
        assert_null(take(MEMORY_WRITE, 8 * KIB));
        for (unsigned j = 0; j < 3; j++)
            memory_give(mine(), buffers[j], sizes[j]);
        /* All or nothing. */
        assert_false(memory_take(mine(), MEMORY_WRITE, too_much, 3, buffers));
        assert_int_equal(memory_free_bytes(mine()), 4 * MIB);
        assert_true(memory_take(mine(), MEMORY_READ, too_much, 3, buffers));
        for (unsigned j = 0; j < 3; j++)
            memory_give(mine(), buffers[j], too_much[j]);
    }
}

static void taking_is_all_or_nothing(void **state)
{
    (void)state;
    begin(1, 4 * MIB, false);
    run_on(abd_loop_at(0), use_small, NULL);
    end();
}

static void charge(void *arg)
{
    uint64_t all = 80 * MIB;
    uint64_t less = 60 * MIB;
    uint64_t writes = 54 * MIB;
    void *buffer;

    (void)arg;
    assert_true(memory_fits(mine(), MEMORY_READ, &all, 1));
    assert_false(arena_charge(arena, 20 * MIB + 1));
    assert_true(arena_charge(arena, 1));
    assert_false(memory_fits(mine(), MEMORY_READ, &all, 1));
    assert_null(take(MEMORY_READ, all));
    assert_true(arena_charge(arena, 20 * MIB - 1));
    assert_false(arena_charge(arena, 1));
    assert_int_equal(memory_free_bytes(mine()), 60 * MIB);
    assert_non_null(buffer = take(MEMORY_READ, less));
    assert_null(take(MEMORY_READ, 4 * KIB));
    memory_give(mine(), buffer, less);
    assert_true(memory_fits(mine(), MEMORY_WRITE, &writes, 1));
    assert_non_null(buffer = take(MEMORY_WRITE, writes));
    assert_null(take(MEMORY_WRITE, 4 * KIB));
    memory_give(mine(), buffer, writes);
}

static void what_is_charged_is_missing(void **state)
{
    struct arena_counters counters;

    (void)state;
    begin(1, 80 * MIB, false);
    run_on(abd_loop_at(0), charge, NULL);
    arena_read_counters(arena, &counters);
    assert_int_equal(counters.charged, 20 * MIB);
    end();
}

/* Buffers never overlap, whatever is taken and given back: each is filled with
 * its own number, which must still be there at the end. */
#define MODEL 300

struct model_buffer {
    void *data;
    uint64_t size;
    unsigned char number;
};

static uint64_t random_size(uint32_t *seed)
{
    unsigned bits = next_random(seed) % 23;

    return 1 + next_random(seed) % (UINT64_C(1) << bits);
}

static void mark(const struct model_buffer *buffer)
{
    char *data = buffer->data;

    data[0] = data[buffer->size / 2] = data[buffer->size - 1] =
        (char)buffer->number;
}

static bool is_marked(const struct model_buffer *buffer)
{
    const char *data = buffer->data;
    char number = (char)buffer->number;

    return data[0] == number && data[buffer->size / 2] == number &&
           data[buffer->size - 1] == number;
}

static void run_model(void *arg)
{
    struct model_buffer *model = calloc(MODEL, sizeof *model);
    uint32_t seed = (uint32_t)(uintptr_t)arg;
    uint64_t used = 0;
    unsigned refused = 0;

    for (unsigned long i = 0; i < rounds; i++) {
        struct model_buffer *buffer = &model[next_random(&seed) % MODEL];

        if (buffer->data) {
            assert_true(is_marked(buffer));
            memory_give(mine(), buffer->data, buffer->size);
            used -= memory_cost(buffer->size);
            buffer->data = NULL;
            continue;
        }
        buffer->size = random_size(&seed);
        buffer->number = (unsigned char)next_random(&seed);
        buffer->data = take(next_random(&seed) % 2 ? MEMORY_READ : MEMORY_WRITE,
                            buffer->size);
        if (buffer->data) {
            used += memory_cost(buffer->size);
            mark(buffer);
        } else {
            refused++;
        }
        assert_true(used <= 24 * MIB);
    }
    assert_true(refused > 0);
    for (unsigned i = 0; i < MODEL; i++)
        if (model[i].data)
            memory_give(mine(), model[i].data, model[i].size);
    free(model);
}

static void buffers_of_several_loops_never_overlap(void **state)
{
    struct call calls[3];

    (void)state;
    begin(3, 24 * MIB, false);
    for (uintptr_t i = 0; i < 3; i++) {
        calls[i] = (struct call){.fn = run_model, .arg = (void *)(i + 1)};
        sem_init(&calls[i].done, 0, 0);
        abd_post(abd_loop_at((unsigned)i), &calls[i].task, on_call, &calls[i]);
    }
    /* From elsewhere, all the while. */
    for (unsigned i = 0; i < 200; i++) {
        arena_trim(arena);
        sched_yield();
    }
    for (unsigned i = 0; i < 3; i++)
        wait_for(&calls[i].done);
    end();
}

/* --- waiting --- */

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

/* --- misuse --- */

static void give_twice(void *arg)
{
    void *one = take(MEMORY_WRITE, 4 * KIB);
    void *two = take(MEMORY_WRITE, 4 * KIB);

    (void)arg;
    memory_give(mine(), one, 4 * KIB);
    memory_give(mine(), one, 4 * KIB);
    memory_give(mine(), two, 4 * KIB);
}

static void give_as_another_size(void *arg)
{
    (void)arg;
    memory_give(mine(), take(MEMORY_WRITE, 4 * KIB), 8 * KIB);
}

static void (*misuse)(void *arg);

static void commit_misuse(void)
{
    begin(1, 4 * MIB, false);
    run_on(abd_loop_at(0), misuse, NULL);
}

static void giving_back_what_was_not_taken_aborts(void **state)
{
    char text[4096];
    int status;

    (void)state;
    misuse = give_twice;
    status = run_in_child(commit_misuse, text, sizeof text);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    misuse = give_as_another_size;
    status = run_in_child(commit_misuse, text, sizeof text);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_cannot_be_an_arena),
        cmocka_unit_test(reports_lack_of_address_space),
        cmocka_unit_test(reports_lack_of_descriptors),
        cmocka_unit_test(giving_back_what_was_not_taken_aborts),
        cmocka_unit_test(costs_are_those_of_the_class),
        cmocka_unit_test(memory_is_touched_only_where_it_is_used),
        cmocka_unit_test(trimming_gives_back_what_is_cold),
        cmocka_unit_test(a_registered_arena_is_a_file_and_keeps_its_pages),
        cmocka_unit_test(writes_leave_a_tenth_to_reads),
        cmocka_unit_test(taking_is_all_or_nothing),
        cmocka_unit_test(what_is_charged_is_missing),
        cmocka_unit_test(buffers_of_several_loops_never_overlap),
        cmocka_unit_test(waiters_are_served_in_turn),
        cmocka_unit_test(loops_are_served_in_turn_too),
        cmocka_unit_test(idle_loops_give_back_what_they_spared),
        cmocka_unit_test(a_charge_has_waiters_asked_again),
        cmocka_unit_test(give_back_while_another_begins_to_wait),
        cmocka_unit_test(who_has_memory_cannot_go_on_with_it_for_ever),
        cmocka_unit_test(no_waiter_is_forgotten),
        cmocka_unit_test(nor_with_pauses_where_a_race_would_hurt),
    };
    const char *asked = getenv("MEMORY_ROUNDS");

    if (asked)
        rounds = strtoul(asked, NULL, 10);
    else if (UNDER_SANITIZER)
        rounds /= 7;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
