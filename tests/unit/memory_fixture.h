/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the tests of memory share: an arena with its loops, and sizes. */
#ifndef ABD_TESTS_MEMORY_FIXTURE_H
#define ABD_TESTS_MEMORY_FIXTURE_H

#include "tests/unit/loop_fixture.h"

#include "loop/arena.h"
#include "loop/memory.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)

static unsigned long rounds = 150000;
static struct arena *arena;

static inline void begin(unsigned loops, uint64_t bytes, bool registered)
{
    assert_int_equal(loops_create(loops), 0);
    assert_int_equal(arena_create(bytes, 0, registered, &arena), 0);
    assert_int_equal(loops_start(), 0);
}

static inline void end(void)
{
    loops_stop();
    arena_destroy(arena);
    arena = NULL;
    loops_destroy();
}

static inline uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static inline struct memory *mine(void)
{
    return arena_memory(arena, abd_loop_current());
}

static inline void *take(enum memory_use use, uint64_t size)
{
    void *buffer;

    return memory_take(mine(), use, &size, 1, &buffer) ? buffer : NULL;
}

/* Of every class, and runs, up to 4 MiB. */
static inline uint64_t random_size(uint32_t *seed)
{
    unsigned bits = next_random(seed) % 23;

    return 1 + next_random(seed) % (UINT64_C(1) << bits);
}

/* Asked for in the environment, or usual; fewer under a sanitizer. */
static inline void set_rounds(void)
{
    const char *asked = getenv("MEMORY_ROUNDS");

    if (asked)
        rounds = strtoul(asked, NULL, 10);
    else if (UNDER_SANITIZER)
        rounds /= 7;
}

#endif
