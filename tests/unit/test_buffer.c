/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Buffers that plugins take out of the budget, and give back under pressure. */
#include "tests/unit/memory_fixture.h"

static struct {
    void *at;
    enum abd_buffer_use use;
} buffers[128];
static unsigned taken;

static void begin_lent(unsigned loops, uint64_t bytes)
{
    begin(loops, bytes, false);
    memory_lend(arena);
    taken = 0;
}

static void end_lent(void)
{
    memory_lend(NULL);
    end();
}

/* On one loop, with a budget of so many bytes. */
static void run_lent(uint64_t bytes, void (*fn)(void *arg))
{
    begin_lent(1, bytes);
    run_on(abd_loop_at(0), fn, NULL);
    end_lent();
}

static void take_all(enum abd_buffer_use use)
{
    void *buffer;

    while ((buffer = abd_buffer_take(MIB, use))) {
        assert_int_equal((uintptr_t)buffer % 4096, 0);
        memset(buffer, 1, MIB);
        buffers[taken].at = buffer;
        buffers[taken++].use = use;
    }
}

static void give(unsigned n)
{
    while (n-- > 0) {
        taken--;
        abd_buffer_give(buffers[taken].at, MIB, buffers[taken].use);
    }
}

static bool fits(enum memory_use use, uint64_t size)
{
    return memory_fits(mine(), use, &size, 1);
}

static void take_needed(void *arg)
{
    (void)arg;
    assert_int_equal(abd_buffer_budget(), 40 * MIB);
    assert_null(abd_buffer_take(0, ABD_BUFFER_NEEDED));
    assert_null(abd_buffer_take(MIB + 1, ABD_BUFFER_NEEDED));
    abd_buffer_give(NULL, MIB, ABD_BUFFER_NEEDED);
    assert_true(fits(MEMORY_READ, 40 * MIB));
    take_all(ABD_BUFFER_NEEDED);
    assert_int_equal(taken, 20);
    assert_null(abd_buffer_take(1, ABD_BUFFER_NEEDED));
    /* Requests know that they can't have it, and don't wait for it. */
    assert_true(fits(MEMORY_READ, 20 * MIB));
    assert_false(fits(MEMORY_READ, 20 * MIB + 1));
    assert_true(fits(MEMORY_WRITE, 16 * MIB));
    assert_false(fits(MEMORY_WRITE, 16 * MIB + 1));
    give(20);
    assert_true(fits(MEMORY_READ, 40 * MIB));
}

static void take_spare(void *arg)
{
    (void)arg;
    take_all(ABD_BUFFER_SPARE);
    assert_int_equal(taken, 30);
    give(1);
    take_all(ABD_BUFFER_SPARE);
    assert_int_equal(taken, 30);
    give(30);
}

/* Chunks of what requests have and of what is needed are never the same, so all
 * that is left is there when requests have ended. */
static void needed_lies_apart(void *arg)
{
    void *kept[640];
    void *passing[640];
    uint64_t size = 4096;
    void *run;

    (void)arg;
    for (unsigned i = 0; i < 640; i++) {
        assert_true(memory_take(mine(), MEMORY_WRITE, &size, 1, &passing[i]));
        kept[i] = abd_buffer_take(4096 << i % 3, ABD_BUFFER_NEEDED);
        assert_non_null(kept[i]);
        assert_int_equal((uintptr_t)kept[i] % (4096 << i % 3), 0);
        memset(kept[i], (int)i, 4096 << i % 3);
    }
    /* 5.9 MiB, and not one of them in vain but at the end. */
    assert_true(memory_free_bytes(mine()) >= 40 * MIB - 6 * MIB - 3 * MIB);
    for (unsigned i = 0; i < 640; i++)
        memory_give(mine(), passing[i], size);
    assert_true(fits(MEMORY_WRITE, 27 * MIB));
    assert_false(fits(MEMORY_WRITE, 31 * MIB));
    size = 27 * MIB;
    assert_true(memory_take(mine(), MEMORY_WRITE, &size, 1, &run));
    memset(run, 0xff, size);
    memory_give(mine(), run, size);
    for (unsigned i = 0; i < 640; i++) {
        const uint8_t *bytes = kept[i];

        for (unsigned at = 0; at < 4096U << i % 3; at++)
            assert_int_equal(bytes[at], i % 256);
        abd_buffer_give(kept[i], 4096 << i % 3, ABD_BUFFER_NEEDED);
    }
    assert_true(fits(MEMORY_READ, 40 * MIB));
    memory_drop_spare(mine());
    assert_int_equal(memory_free_bytes(mine()), 40 * MIB);
}

static void requests_go_on_around_what_is_needed(void **state)
{
    (void)state;
    run_lent(40 * MIB, needed_lies_apart);
}

static void take_from_few(void *arg)
{
    uint64_t size = 4096;
    void *needed;
    void *buffer;

    (void)arg;
    needed = abd_buffer_take(4096, ABD_BUFFER_NEEDED);
    assert_non_null(needed);
    assert_null(abd_buffer_take(MIB, ABD_BUFFER_NEEDED));
    /* All that may be charged is. */
    assert_true(arena_charge(mine()->arena, MIB));
    assert_true(fits(MEMORY_WRITE, MIB));
    assert_false(fits(MEMORY_WRITE, MIB + 1));
    assert_true(memory_take(mine(), MEMORY_WRITE, &size, 1, &buffer));
    memory_give(mine(), buffer, size);
    abd_buffer_give(needed, 4096, ABD_BUFFER_NEEDED);
}

static void a_chunk_is_left_to_writes(void **state)
{
    (void)state;
    run_lent(4 * MIB, take_from_few);
}

/* Whole chunks that are needed lie between those that are not. */
static void needed_in_the_middle(void *arg)
{
    uint64_t sizes[4] = {8 * MIB, 8 * MIB, 8 * MIB, MIB};
    void *runs[4];
    void *buffer;
    uint64_t size = 18 * MIB;

    (void)arg;
    assert_true(memory_take(mine(), MEMORY_WRITE, &size, 1, &runs[0]));
    size = 17 * MIB;
    assert_true(memory_take(mine(), MEMORY_WRITE, &size, 1, &runs[1]));
    buffer = abd_buffer_take(4096, ABD_BUFFER_NEEDED);
    assert_non_null(buffer);
    memory_give(mine(), runs[0], 18 * MIB);
    memory_give(mine(), runs[1], 17 * MIB);
    assert_true(fits(MEMORY_READ, 39 * MIB));
    abd_buffer_give(buffer, 4096, ABD_BUFFER_NEEDED);

    size = 20 * MIB;
    assert_true(memory_take(mine(), MEMORY_WRITE, &size, 1, &runs[0]));
    size = MIB;
    for (unsigned i = 0; i < 16; i++)
        assert_true(memory_take(mine(), MEMORY_WRITE, &size, 1, &runs[1]));
    memory_give(mine(), runs[1], MIB);
    buffer = abd_buffer_take(4096, ABD_BUFFER_NEEDED);
    assert_non_null(buffer);
    memory_give(mine(), runs[0], 20 * MIB);
    /* The other fifteen are still there, but they might be given back. */
    assert_true(fits(MEMORY_WRITE, 20 * MIB));
    assert_false(fits(MEMORY_WRITE, 21 * MIB));
    assert_true(fits(MEMORY_READ, 24 * MIB));
    assert_false(fits(MEMORY_READ, 25 * MIB));
    assert_true(memory_fits(mine(), MEMORY_READ, sizes, 4));
    sizes[2] = 17 * MIB;
    assert_false(memory_fits(mine(), MEMORY_READ, sizes, 4));
    assert_true(
        memory_take(mine(), MEMORY_WRITE, (uint64_t[]){20 * MIB}, 1, &runs[0]));
}

static void runs_know_what_is_between(void **state)
{
    (void)state;
    run_lent(40 * MIB, needed_in_the_middle);
}

/* With nothing else in use, what fits is had, and nothing else. */
static void what_fits_is_had(void *arg)
{
    void *buffer;

    (void)arg;
    for (unsigned i = 0; i < 32; i++)
        assert_non_null(abd_buffer_take(MIB, ABD_BUFFER_NEEDED));
    for (unsigned charged = 0; charged < 20; charged++) {
        for (uint64_t size = MIB; size <= 50 * MIB; size += MIB)
            for (unsigned use = 0; use < MEMORY_USES; use++) {
                bool had = memory_take(mine(), (enum memory_use)use, &size, 1,
                                       &buffer);

                assert_int_equal(fits((enum memory_use)use, size), had);
                if (had)
                    memory_give(mine(), buffer, size);
                memory_drop_spare(mine());
            }
        assert_true(arena_charge(mine()->arena, MIB));
    }
}

static void what_fits_is_had_whatever_is_charged(void **state)
{
    (void)state;
    run_lent(80 * MIB, what_fits_is_had);
}

static void a_quarter_is_not_spare(void **state)
{
    (void)state;
    begin_lent(1, 40 * MIB);
    run_on(abd_loop_at(0), take_needed, NULL);
    run_on(abd_loop_at(0), take_spare, NULL);
    end_lent();
}

static struct abd_pressure pressures[2];
static unsigned asked[2], each;

static void on_pressure(void *arg)
{
    unsigned i = *(const unsigned *)arg;

    asked[i]++;
    give(taken < each ? taken : each);
}

static const unsigned numbers[] = {0, 1};

static void start_pressure(void *arg)
{
    (void)arg;
    each = 1;
    abd_pressure_start(&pressures[0], on_pressure, (void *)&numbers[0]);
    take_all(ABD_BUFFER_SPARE);
    take_all(ABD_BUFFER_NEEDED);
}

static void stop_pressure(void *arg)
{
    (void)arg;
    abd_pressure_stop(&pressures[0]);
    abd_pressure_stop(&pressures[0]);
    give(taken);
}

static struct memory_waiter waiter;
static void *waited_for;
static sem_t content;

static bool on_try(struct memory_waiter *unused)
{
    uint64_t size = 8 * MIB;

    (void)unused;
    if (!memory_take(mine(), MEMORY_WRITE, &size, 1, &waited_for))
        return false;
    sem_post(&content);
    return true;
}

static void begin_waiting(void *arg)
{
    uint64_t size = 8 * MIB;

    (void)arg;
    assert_false(memory_take(mine(), MEMORY_WRITE, &size, 1, &waited_for));
    waiter = (struct memory_waiter){.try = on_try, .use = MEMORY_WRITE};
    memory_wait(mine(), &waiter);
    /* Nothing is spare while somebody waits. */
    assert_null(abd_buffer_take(4096, ABD_BUFFER_SPARE));
}

static void give_what_was_waited_for(void *arg)
{
    (void)arg;
    memory_give(mine(), waited_for, 8 * MIB);
}

/* One at a time is given back, so they are asked again and again. */
static void wait_for_what_another_has(unsigned loops, unsigned who)
{
    sem_init(&content, 0, 0);
    begin_lent(loops, 40 * MIB);
    asked[0] = 0;
    run_on(abd_loop_at(0), start_pressure, NULL);
    assert_int_equal(taken, 36);
    run_on(abd_loop_at(who), begin_waiting, NULL);
    wait_for(&content);
    run_on(abd_loop_at(0), stop_pressure, NULL);
    assert_true(asked[0] >= 8);
    run_on(abd_loop_at(who), give_what_was_waited_for, NULL);
    end_lent();
}

static void waiters_get_what_is_spare(void **state)
{
    (void)state;
    wait_for_what_another_has(1, 0);
}

static void and_so_do_those_of_other_loops(void **state)
{
    (void)state;
    wait_for_what_another_has(2, 1);
}

static void on_last_pressure(void *arg)
{
    on_pressure(arg);
    abd_pressure_stop(&pressures[0]);
    abd_pressure_stop(&pressures[1]);
}

static void start_two(void *arg)
{
    (void)arg;
    each = 36;
    asked[0] = asked[1] = 0;
    abd_pressure_start(&pressures[0], on_last_pressure, (void *)&numbers[0]);
    abd_pressure_start(&pressures[1], on_last_pressure, (void *)&numbers[1]);
    take_all(ABD_BUFFER_SPARE);
    take_all(ABD_BUFFER_NEEDED);
}

static void who_is_asked_may_stop_others(void **state)
{
    (void)state;
    sem_init(&content, 0, 0);
    begin_lent(1, 40 * MIB);
    run_on(abd_loop_at(0), start_two, NULL);
    run_on(abd_loop_at(0), begin_waiting, NULL);
    wait_for(&content);
    run_on(abd_loop_at(0), give_what_was_waited_for, NULL);
    assert_int_equal(asked[0], 1);
    assert_int_equal(asked[1], 0);
    end_lent();
}

static void take_without_budget(void *arg)
{
    void *buffer;

    (void)arg;
    assert_int_equal(abd_buffer_budget(), 0);
    buffer = abd_buffer_take(5000, ABD_BUFFER_SPARE);
    assert_non_null(buffer);
    assert_int_equal((uintptr_t)buffer % 4096, 0);
    memset(buffer, 1, 5000);
    abd_buffer_give(buffer, 5000, ABD_BUFFER_SPARE);
    abd_pressure_start(&pressures[0], on_pressure, NULL);
    abd_pressure_stop(&pressures[0]);
}

static void tools_have_no_budget(void **state)
{
    (void)state;
    assert_int_equal(start_loops(1), 0);
    run_on(abd_loop_at(0), take_without_budget, NULL);
    stop_loops();
}

static void take_off_loop(void)
{
    abd_buffer_take(4096, ABD_BUFFER_NEEDED);
}

static void on_a_loop_only(void **state)
{
    char text[512];
    int status = run_in_child(take_off_loop, text, sizeof text);

    (void)state;
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(text, "abd_buffer_take"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quarter_is_not_spare),
        cmocka_unit_test(requests_go_on_around_what_is_needed),
        cmocka_unit_test(a_chunk_is_left_to_writes),
        cmocka_unit_test(runs_know_what_is_between),
        cmocka_unit_test(what_fits_is_had_whatever_is_charged),
        cmocka_unit_test(waiters_get_what_is_spare),
        cmocka_unit_test(and_so_do_those_of_other_loops),
        cmocka_unit_test(who_is_asked_may_stop_others),
        cmocka_unit_test(tools_have_no_budget),
        cmocka_unit_test(on_a_loop_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
