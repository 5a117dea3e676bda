/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The map of extents against a model that knows each block. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "plugins/object/format.h"
#include "plugins/object/map.h"

#define BLOCKS      20000
#define UNIT_OFFSET (UNIT_SIZE / 8)

static struct {
    enum extent_kind kind;
    uint64_t seq;
    uint32_t offset;
} model[BLOCKS];
static struct map *map;
static uint32_t seed;

static uint32_t next_random(uint32_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)seed * below >> 32);
}

static void set(uint64_t block, uint64_t count, enum extent_kind kind,
                uint64_t seq, uint32_t offset)
{
    struct extent extent = {block, count, kind, seq, offset};

    assert_true(map_reserve(map, 1));
    map_set(map, &extent);
    for (uint64_t i = 0; i < count; i++) {
        model[block + i].kind = kind;
        model[block + i].seq = kind >= EXTENT_DATA ? seq : 0;
        model[block + i].offset =
            kind >= EXTENT_DATA ? offset + (uint32_t)i * UNIT_OFFSET : 0;
    }
}

static void check_extent(const struct extent *extent)
{
    assert_true(extent->count > 0);
    for (uint64_t i = 0; i < extent->count; i++) {
        uint64_t block = extent->block + i;

        assert_int_equal(extent->kind, model[block].kind);
        if (extent->kind < EXTENT_DATA)
            continue;
        assert_int_equal(extent->seq, model[block].seq);
        assert_int_equal(extent->offset + i * UNIT_OFFSET, model[block].offset);
    }
}

static bool goes_on(const struct extent *first, const struct extent *second)
{
    return first->kind == second->kind && first->seq == second->seq &&
           (first->kind < EXTENT_DATA ||
            first->offset + first->count * UNIT_OFFSET == second->offset);
}

/* All of it, and that there are no more extents than need be. */
static void check_all(void)
{
    struct extent last = {.kind = EXTENT_HOLE};
    uint64_t n = 0;

    for (uint64_t block = 0; block < BLOCKS;) {
        struct extent extent = map_at(map, block, BLOCKS);

        check_extent(&extent);
        if (block > 0)
            assert_false(goes_on(&last, &extent));
        n += extent.kind != EXTENT_HOLE;
        last = extent;
        block += extent.count;
    }
    assert_int_equal(map_extents(map), n);
}

static int setup(void **state)
{
    (void)state;
    memset(model, 0, sizeof model);
    map = map_create();
    return map ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    map_destroy(map);
    return 0;
}

static void is_empty_at_first(void **state)
{
    struct extent extent = map_at(map, 7, 11);

    (void)state;
    assert_int_equal(extent.kind, EXTENT_HOLE);
    assert_int_equal(extent.block, 7);
    assert_int_equal(extent.count, 4);
    set(3, 5, EXTENT_HOLE, 0, 0);
    assert_int_equal(map_extents(map), 0);
}

static void sequential_data_is_one_extent(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 1000; i++)
        set(i, 1, EXTENT_DATA, 9, i * UNIT_OFFSET);
    assert_int_equal(map_extents(map), 1);
    /* The other way round, too. */
    for (unsigned i = 3000; i > 2000; i--)
        set(i, 1, EXTENT_DATA, 9, i * UNIT_OFFSET);
    assert_int_equal(map_extents(map), 2);
    set(1000, 1001, EXTENT_DATA, 9, 1000 * UNIT_OFFSET);
    assert_int_equal(map_extents(map), 1);
    check_all();
}

static void random_changes(void **state)
{
    static const unsigned longest[] = {1, 3, 200, 6000};

    (void)state;
    for (seed = 1; seed < 5; seed++) {
        for (unsigned turn = 0; turn < 30000; turn++) {
            uint64_t block = next_random(BLOCKS);
            uint64_t count =
                1 +
                next_random(longest[next_random(100) < 99 ? next_random(2)
                                                          : next_random(4)]);
            unsigned kind = next_random(10);

            if (count > BLOCKS - block)
                count = BLOCKS - block;
            set(block, count,
                kind < 1   ? EXTENT_HOLE
                : kind < 2 ? EXTENT_ZERO
                           : EXTENT_DATA,
                1 + next_random(50), next_random(100) * UNIT_OFFSET);
            if (turn % 1000 == 0)
                check_all();
        }
        check_all();
    }
    set(0, BLOCKS, EXTENT_HOLE, 0, 0);
    assert_int_equal(map_extents(map), 0);
    check_all();
}

static void finds_from_any_place_to_any_end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3000; i++)
        set(5 * i + 2, 2, i % 3 ? EXTENT_DATA : EXTENT_ZERO, i, i);
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t block = next_random(BLOCKS - 1);
        uint64_t end = block + 1 + next_random(9);
        struct extent extent;

        end = end < BLOCKS ? end : BLOCKS;
        extent = map_at(map, block, end);
        assert_int_equal(extent.block, block);
        assert_true(extent.count <= end - block);
        check_extent(&extent);
    }
}

static void what_was_open_is_sealed(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3000; i++)
        set(i, 1, i % 2 ? EXTENT_OPEN : EXTENT_DATA, i % 2 ? 7 : 6,
            i * UNIT_OFFSET);
    set(100, 300, EXTENT_ZERO, 0, 0);
    set(500, 300, EXTENT_OPEN, 7, 5000 * UNIT_OFFSET);
    /* Twice, as ranges of entries may overlap. */
    map_seal(map, 50, 1500, 16);
    map_seal(map, 600, 1450, 16);
    for (unsigned i = 50; i < 2050; i++)
        if (model[i].kind == EXTENT_OPEN) {
            model[i].kind = EXTENT_DATA;
            model[i].offset += 16;
        }
    check_all();
}

static void very_long_zeroes(void **state)
{
    struct extent extent = {5, UINT64_C(20) << 32, EXTENT_ZERO, 0, 0};

    (void)state;
    assert_true(map_reserve(map, 30));
    map_set(map, &extent);
    extent = map_at(map, UINT64_C(1) << 35, UINT64_MAX);
    assert_int_equal(extent.kind, EXTENT_ZERO);
    extent = map_at(map, 5 + (UINT64_C(20) << 32), UINT64_MAX);
    assert_int_equal(extent.kind, EXTENT_HOLE);
    extent = (struct extent){0, UINT64_MAX >> 1, EXTENT_HOLE, 0, 0};
    map_set(map, &extent);
    assert_int_equal(map_extents(map), 0);
}

static void costs_what_it_says(void **state)
{
    (void)state;
    for (unsigned i = 0; i < BLOCKS / 2; i++)
        set(i * 2, 1, EXTENT_DATA, i, 0);
    assert_int_equal(map_extents(map), BLOCKS / 2);
    assert_true(map_bytes(map) < BLOCKS / 2 * 64 + 300000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(is_empty_at_first),       TEST(sequential_data_is_one_extent),
        TEST(random_changes),          TEST(finds_from_any_place_to_any_end),
        TEST(what_was_open_is_sealed), TEST(very_long_zeroes),
        TEST(costs_what_it_says),
    };

    return cmocka_run_group_tests_name("object map", tests, NULL, NULL);
}
