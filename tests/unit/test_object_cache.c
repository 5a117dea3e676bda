/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The cache of the object disk: what is kept, what goes first, what must
 * stay, and what is given back under pressure. */
#include "tests/unit/memory_fixture.h"

#include "plugins/object/cache.h"

static struct cache cache;

static void fill_unit(uint8_t *data, uint8_t check[8], uint64_t seq,
                      uint64_t unit)
{
    memset(data, (int)(seq * 7 + unit), BLOCK_SIZE);
    memset(check, (int)(seq + unit * 3), 8);
}

static void put(uint64_t seq, uint64_t unit)
{
    uint8_t data[BLOCK_SIZE], check[8];

    fill_unit(data, check, seq, unit);
    cache_put(&cache, seq, unit, data, check);
}

static bool has(uint64_t seq, uint64_t unit)
{
    uint8_t data[BLOCK_SIZE], check[8];
    struct cache_line *line = cache_find(&cache, seq, unit);
    const uint8_t *bytes = line ? cache_get(line, unit) : NULL;

    if (!bytes)
        return false;
    fill_unit(data, check, seq, unit);
    assert_memory_equal(bytes, data, sizeof data);
    assert_memory_equal(bytes + BLOCK_SIZE, check, sizeof check);
    return true;
}

static void on_loop(void (*fn)(void *arg))
{
    assert_int_equal(start_loops(1), 0);
    run_on(abd_loop_at(0), fn, NULL);
    stop_loops();
}

static void keep(void *arg)
{
    (void)arg;
    assert_int_equal(cache_init(&cache, 4 * MIB), 0);
    assert_false(has(1, 0));
    for (uint64_t unit = 0; unit < 40; unit += 3)
        put(1, unit);
    put(2, 3);
    put(2, 3);
    for (uint64_t unit = 0; unit < 40; unit++)
        assert_int_equal(has(1, unit), unit % 3 == 0);
    assert_true(has(2, 3));
    assert_false(has(2, 0));
    cache_drop(cache_find(&cache, 2, 3), 3);
    assert_false(has(2, 3));
    put(2, 3);
    assert_true(has(2, 3));
    cache_finish(&cache);
}

static void units_are_kept(void **state)
{
    (void)state;
    on_loop(keep);
}

/* It never becomes larger; what is used stays longest. */
static void replace(void *arg)
{
    unsigned here = 0;

    (void)arg;
    assert_int_equal(cache_init(&cache, 2 * MIB), 0);
    for (uint64_t line = 0; line < 100; line++) {
        put(9, line * CACHE_UNITS);
        assert_true(has(9, 0)); /* used in each round */
        assert_true(cache_bytes(&cache) <= 2 * MIB);
    }
    assert_int_equal(cache_bytes(&cache), 2 * MIB);
    for (uint64_t line = 0; line < 100; line++)
        here += cache_find(&cache, 9, line * CACHE_UNITS) != NULL;
    assert_int_equal(here, 2 * CACHE_LINES);
    assert_true(has(9, 99 * CACHE_UNITS));
    assert_false(has(9, 50 * CACHE_UNITS));
    cache_finish(&cache);
}

static void the_unused_go_first(void **state)
{
    (void)state;
    on_loop(replace);
}

/* What is coming stays where it is, whatever else is wanted. */
static void expect(void *arg)
{
    uint8_t *places[CACHE_LINES], data[BLOCK_SIZE], check[8];

    (void)arg;
    assert_int_equal(cache_init(&cache, MIB), 0);
    for (uint64_t line = 0; line < CACHE_LINES; line++) {
        places[line] = cache_expect(&cache, 5, line * CACHE_UNITS);
        assert_non_null(places[line]);
        assert_ptr_equal(cache_expect(&cache, 5, line * CACHE_UNITS),
                         places[line]);
    }
    assert_null(cache_expect(&cache, 6, 0));
    put(6, 0);
    assert_false(has(6, 0));
    put(5, 0); /* it is coming already */
    assert_false(has(5, 0));
    assert_true(cache_is_coming(cache_find(&cache, 5, 0), 0));
    fill_unit(data, check, 5, 0);
    memcpy(places[0], data, sizeof data);
    memcpy(places[0] + BLOCK_SIZE, check, sizeof check);
    assert_int_equal(cache_came(&cache, 5, 0, true)->coming, 0);
    assert_true(has(5, 0));
    /* This one did not come; then there is room, for one. */
    cache_came(&cache, 5, CACHE_UNITS, false);
    assert_false(has(5, CACHE_UNITS));
    assert_non_null(cache_expect(&cache, 6, 0));
    assert_true(has(5, 0));
    cache_came(&cache, 6, 0, false);
    for (uint64_t line = 2; line < CACHE_LINES; line++)
        cache_came(&cache, 5, line * CACHE_UNITS, false);
    cache_finish(&cache);
}

static void what_is_coming_stays(void **state)
{
    (void)state;
    on_loop(expect);
}

static void fill_all(void *arg)
{
    (void)arg;
    assert_int_equal(cache_init(&cache, 40 * MIB), 0);
    for (uint64_t line = 0; line < (uint64_t)40 * CACHE_LINES; line++)
        put(1, line * CACHE_UNITS);
    /* A quarter is never spare. */
    assert_int_equal(cache_bytes(&cache), 30 * MIB);
    assert_non_null(cache_expect(&cache, 2, 0));
}

static struct memory_waiter waiter;
static void *waited_for;
static sem_t content;

static bool on_try(struct memory_waiter *unused)
{
    uint64_t size = 16 * MIB;

    (void)unused;
    if (!memory_take(mine(), MEMORY_WRITE, &size, 1, &waited_for))
        return false;
    sem_post(&content);
    return true;
}

static void begin_waiting(void *arg)
{
    (void)arg;
    waiter = (struct memory_waiter){.try = on_try, .use = MEMORY_WRITE};
    memory_wait(mine(), &waiter);
}

static void check_and_end(void *arg)
{
    (void)arg;
    assert_true(cache_bytes(&cache) <= 20 * MIB);
    assert_true(cache_bytes(&cache) >= MIB); /* something is coming to it */
    cache_came(&cache, 2, 0, false);
    memory_give(mine(), waited_for, 16 * MIB);
    cache_finish(&cache);
}

static void requests_get_its_memory(void **state)
{
    (void)state;
    sem_init(&content, 0, 0);
    begin(1, 40 * MIB, false);
    memory_lend(arena);
    run_on(abd_loop_at(0), fill_all, NULL);
    run_on(abd_loop_at(0), begin_waiting, NULL);
    wait_for(&content);
    run_on(abd_loop_at(0), check_and_end, NULL);
    memory_lend(NULL);
    end();
}

static void have_none(void *arg)
{
    (void)arg;
    assert_int_equal(cache_init(&cache, 0), 0);
    put(1, 1);
    assert_false(has(1, 1));
    assert_null(cache_expect(&cache, 1, 1));
    cache_finish(&cache);
    cache_finish(&cache);
}

static void without_memory_nothing_is_kept(void **state)
{
    (void)state;
    on_loop(have_none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_are_kept),
        cmocka_unit_test(the_unused_go_first),
        cmocka_unit_test(what_is_coming_stays),
        cmocka_unit_test(requests_get_its_memory),
        cmocka_unit_test(without_memory_nothing_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
