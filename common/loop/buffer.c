/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Payload memory for plugins: abd_buffer_take() and those who give it back
 * under pressure.
 *
 * A loop that has such people is told of waiters as one that keeps a spare
 * chunk is (memory.c): whoever begins to wait tells all loops that have
 * something, and each asks its people when the message comes. */
#include "loop/arena.h"
#include "loop/self.h"

#include <assert.h>
#include <stdlib.h>

/* Lies in the caller's struct abd_pressure; ours from start to stop. */
struct __attribute__((may_alias)) pressure {
    struct list link;
    void (*fn)(void *arg);
    void *arg;
};

_Static_assert(sizeof(struct pressure) <= sizeof(struct abd_pressure),
               "a pressure fits into what plugins reserve for it");

/* Set before the loops are started, or after they were stopped. */
static struct arena *lent;

void memory_lend(struct arena *arena)
{
    lent = arena;
}

static struct memory *own_memory(uintptr_t who, const char *what)
{
    struct abd_loop *loop = loop_need_self(who, what);

    return lent ? arena_memory(lent, loop) : NULL;
}

static bool is_plenty(const struct memory *memory, uint64_t size)
{
    return !memory_is_short(memory) &&
           memory_free_bytes(memory) >= lent->length / 4 + size;
}

static void *take_needed(struct memory *memory, uint64_t size)
{
    void *buffer = arena_need(lent, size);

    if (!buffer && memory->spare) {
        memory_drop_spare(memory);
        buffer = arena_need(lent, size);
    }
    if (buffer)
        memory_add_used(memory, memory_cost(size));
    return buffer;
}

LOOP_EXPORTED void *abd_buffer_take(uint64_t size, enum abd_buffer_use use)
{
    struct memory *memory =
        own_memory((uintptr_t)abd_buffer_take, "abd_buffer_take");
    void *buffer = NULL;

    if (size == 0 || size > ABD_BUFFER_MAX)
        return NULL;
    if (!memory)
        return aligned_alloc(4096, (size + 4095) & ~UINT64_C(4095));
    if (use == ABD_BUFFER_NEEDED)
        return take_needed(memory, size);
    if (is_plenty(memory, size) &&
        memory_take(memory, MEMORY_WRITE, &size, 1, &buffer))
        return buffer;
    return NULL;
}

LOOP_EXPORTED void abd_buffer_give(void *buffer, uint64_t size,
                                   enum abd_buffer_use use)
{
    struct memory *memory =
        own_memory((uintptr_t)abd_buffer_give, "abd_buffer_give");

    if (!buffer)
        return;
    if (!memory) {
        free(buffer);
        return;
    }
    if (use == ABD_BUFFER_NEEDED) {
        memory_add_used(memory, -memory_cost(size));
        arena_need_no_more(lent, buffer, size);
    } else {
        memory_give(memory, buffer, size);
    }
}

LOOP_EXPORTED uint64_t abd_buffer_budget(void)
{
    return lent ? lent->length : 0;
}

static struct pressure *to_pressure(struct abd_pressure *pressure)
{
    return (struct pressure *)pressure->reserved;
}

LOOP_EXPORTED void abd_pressure_start(struct abd_pressure *pressure,
                                      void (*fn)(void *arg), void *arg)
{
    struct memory *memory = own_memory((uintptr_t)fn, "abd_pressure_start");
    struct pressure *own = to_pressure(pressure);

    if (!memory)
        return;
    if (list_is_linked(&own->link))
        loop_misuse((uintptr_t)fn, "abd_pressure_start", "already started");
    own->fn = fn;
    own->arg = arg;
    list_append(&memory->pressures, &own->link);
    memory_note_spare(memory);
}

static bool holds(const struct memory *memory, const struct pressure *pressure)
{
    list_for_each (link, &memory->pressures)
        if (link == &pressure->link)
            return true;
    return false;
}

LOOP_EXPORTED void abd_pressure_stop(struct abd_pressure *pressure)
{
    struct pressure *own = to_pressure(pressure);
    struct memory *memory;

    if (!list_is_linked(&own->link))
        return;
    memory = own_memory((uintptr_t)own->fn, "abd_pressure_stop");
    if (!memory || !holds(memory, own))
        loop_misuse((uintptr_t)own->fn, "abd_pressure_stop",
                    "not on the thread of its loop");
    list_remove(&own->link);
    memory_note_spare(memory);
}

/* Each of them is moved behind the others before it is asked, so it may stop
 * itself or others. */
void buffer_press(struct memory *memory)
{
    uint64_t before = atomic_load_explicit(&memory->used, memory_order_relaxed);
    unsigned n = 0;
    struct list *link;

    list_for_each (at, &memory->pressures)
        n++;
    while (n-- > 0 && (link = list_take_first(&memory->pressures))) {
        const struct pressure *pressure =
            container_of(link, struct pressure, link);

        list_append(&memory->pressures, link);
        busy_begin(memory->loop, (uintptr_t)pressure->fn);
        pressure->fn(pressure->arg);
        busy_check(memory->loop);
    }
    /* What was given may not have been enough: we look once more. */
    if (atomic_load_explicit(&memory->used, memory_order_relaxed) < before)
        memory_schedule(memory);
}
