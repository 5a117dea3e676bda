/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* One loop's share of the arena: chunks cut into buffers, and who waits.
 *
 * What is known of buffers lies beside them, so memory that nobody has written
 * to stays untouched; the buffer given back last is taken first, being warm.
 * An empty chunk goes back to the arena, but for one that each loop keeps as
 * long as nobody waits.  That one can't be forgotten: its loop first says that
 * it has one, then looks whether anybody waits; who begins to wait first says
 * so, then looks who has one (all sequentially consistent).
 *
 * Waiters are called from a message, never from inside memory_give(). */
#include "loop/memory.h"

#include <assert.h>
#include <string.h>

#include "loop/arena.h"
#include "loop/self.h"

/* For how long other loops may go on using the buffers that they have while
 * somebody waits for whole chunks.  Past it they queue, so that their chunks
 * become empty. */
#define PATIENCE_NS (UINT64_C(100) * 1000 * 1000)

static void pause_here(void)
{
    if (__builtin_expect(arena_test_pause != NULL, 0))
        arena_test_pause();
}

/* The smallest that holds it; CLASSES: a run of chunks. */
static unsigned class_of(uint64_t size)
{
    unsigned bits;

    assert(size > 0);
    if (size <= UINT64_C(1) << CLASS_SHIFT)
        return 0;
    if (size > CHUNK_SIZE)
        return CLASSES;
    bits = 64 - (unsigned)__builtin_clzll(size - 1);
    return bits - CLASS_SHIFT;
}

static unsigned chunks_of(uint64_t size)
{
    return (unsigned)((size + CHUNK_SIZE - 1) >> CHUNK_SHIFT);
}

uint64_t memory_cost(uint64_t size)
{
    unsigned class = class_of(size);

    if (class == CLASSES)
        return (size + CHUNK_SIZE - 1) & ~(CHUNK_SIZE - 1);
    return UINT64_C(1) << (CLASS_SHIFT + class);
}

void memory_note_spare(struct memory *memory)
{
    bool has = memory->spare || !list_is_empty(&memory->pressures);

    atomic_store_explicit(&memory->has_spare, has,
                          has ? memory_order_seq_cst : memory_order_relaxed);
}

static void set_spare(struct memory *memory, struct chunk *chunk)
{
    memory->spare = chunk;
    memory_note_spare(memory);
}

static unsigned index_of(const struct arena *arena, const struct chunk *chunk)
{
    return (unsigned)(chunk - arena->chunk);
}

void memory_drop_spare(struct memory *memory)
{
    struct chunk *chunk = memory->spare;

    if (!chunk)
        return;
    set_spare(memory, NULL);
    list_remove(&chunk->link);
    arena_put(memory->arena, index_of(memory->arena, chunk), 1);
}

static void *pop(struct memory *memory, struct chunk *chunk)
{
    struct arena *arena = memory->arena;
    unsigned slot = chunk->slots[--chunk->free];

    chunk->out[slot / 64] |= UINT64_C(1) << slot % 64;
    if (chunk == memory->spare)
        set_spare(memory, NULL);
    if (chunk->free == 0)
        list_remove(&chunk->link);
    return arena->base + index_of(arena, chunk) * CHUNK_SIZE +
           ((uint64_t)slot << (CLASS_SHIFT + chunk->class));
}

static void push(struct memory *memory, void *buffer, unsigned class)
{
    struct arena *arena = memory->arena;
    uint64_t at = (uint64_t)((char *)buffer - arena->base);
    unsigned index = (unsigned)(at >> CHUNK_SHIFT);
    unsigned slot =
        (unsigned)((at & (CHUNK_SIZE - 1)) >> (CLASS_SHIFT + class));
    struct chunk *chunk = &arena->chunk[index];

    assert(at < arena->length && chunk->class == class);
    assert(chunk->out[slot / 64] >> slot % 64 & 1);
    chunk->out[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    chunk->slots[chunk->free++] = (uint8_t)slot;
    if (chunk->free == 1)
        list_prepend(&memory->partial[arena_zone(arena, index)][class],
                     &chunk->link);
    if (chunk->free < chunk->total)
        return;
    if (memory->spare) {
        list_remove(&chunk->link);
        arena_put(arena, index, 1);
        return;
    }
    set_spare(memory, chunk);
    pause_here();
    if (arena_is_short(arena))
        memory_drop_spare(memory);
}

/* Cuts a chunk that the arena has just handed over. */
static struct chunk *cut(struct memory *memory, unsigned index, unsigned class)
{
    struct arena *arena = memory->arena;
    struct chunk *chunk = &arena->chunk[index];

    chunk->class = (uint8_t) class;
    chunk->total = (uint16_t)(1 << (CHUNK_SHIFT - CLASS_SHIFT - class));
    chunk->free = chunk->total;
    /* The first buffer is on top. */
    for (unsigned i = 0; i < chunk->total; i++)
        chunk->slots[i] = (uint8_t)(chunk->total - 1 - i);
    memset(chunk->out, 0, sizeof chunk->out);
    list_prepend(&memory->partial[arena_zone(arena, index)][class],
                 &chunk->link);
    return chunk;
}

/* The ticket of who has waited longest on this loop. */
static uint64_t first_here(const struct memory *memory, enum memory_use use)
{
    const struct memory_waiter *first =
        list_first(&memory->waiters[use], struct memory_waiter, link);

    return first ? first->ticket : NO_TICKET;
}

/* May who has this ticket use this loop's own buffers of the zone?  Not past
 * this loop's waiters, and not while others have lost their patience. */
static bool may_use(const struct memory *memory, enum zone zone,
                    uint64_t ticket)
{
    enum memory_use use = zone == ZONE_READS ? MEMORY_READ : MEMORY_WRITE;

    for (; use < MEMORY_USES; use++) {
        uint64_t first = atomic_load_explicit(&memory->arena->first[use],
                                              memory_order_relaxed);

        if (first_here(memory, use) < ticket)
            return false;
        if (first < ticket && first + PATIENCE_NS < memory->loop->now_ns)
            return false;
    }
    return true;
}

/* A chunk with a free buffer, or NULL. */
static struct chunk *find_partial(const struct memory *memory,
                                  const bool *allowed, unsigned class)
{
    for (int zone = ZONES - 1; zone >= 0; zone--) {
        const struct list *head = &memory->partial[zone][class];

        if (allowed[zone] && !list_is_empty(head))
            return list_first(head, struct chunk, link);
    }
    return NULL;
}

/* One memory_take() under way. */
struct taking {
    enum memory_use use;
    uint64_t ticket;
    const uint64_t *sizes;
    void **buffers; /* NULL: not yet */
    unsigned n;
    struct arena_need need;
    unsigned which[MEMORY_TAKE_MAX]; /* of need, for those that are NULL */
};

/* Takes what the loop's own chunks hold, and counts what is missing. */
static void take_own(struct memory *memory, struct taking *taking)
{
    bool allowed[ZONES];
    unsigned left[CLASSES] = {0}; /* buffers, in new chunks */
    unsigned newest[CLASSES] = {0};

    allowed[ZONE_ANY] = may_use(memory, ZONE_ANY, taking->ticket);
    allowed[ZONE_READS] = taking->use == MEMORY_READ &&
                          may_use(memory, ZONE_READS, taking->ticket);
    for (unsigned i = 0; i < taking->n; i++) {
        unsigned class = class_of(taking->sizes[i]);
        struct chunk *chunk = NULL;

        taking->buffers[i] = NULL;
        if (class < CLASSES && left[class] == 0)
            chunk = find_partial(memory, allowed, class);
        if (chunk) {
            taking->buffers[i] = pop(memory, chunk);
            continue;
        }
        if (class < CLASSES && left[class] > 0) {
            left[class]--;
            taking->which[i] = newest[class];
            continue;
        }
        taking->which[i] = taking->need.n;
        taking->need.length[taking->need.n] =
            class < CLASSES ? 1 : chunks_of(taking->sizes[i]);
        if (class < CLASSES) {
            left[class] = (CHUNK_BUFFERS >> class) - 1;
            newest[class] = taking->need.n;
        }
        taking->need.n++;
    }
}

static bool take_missing(struct memory *memory, struct taking *taking)
{
    struct arena *arena = memory->arena;
    struct chunk *cuts[MEMORY_TAKE_MAX] = {NULL};

    if (taking->need.n == 0)
        return true;
    if (!arena_take(arena, taking->use, taking->ticket, &taking->need)) {
        /* What we keep to ourselves may be just what is missing. */
        if (!memory->spare)
            return false;
        memory_drop_spare(memory);
        if (!arena_take(arena, taking->use, taking->ticket, &taking->need))
            return false;
    }
    for (unsigned i = 0; i < taking->n; i++) {
        unsigned class = class_of(taking->sizes[i]);
        unsigned which = taking->which[i];

        if (taking->buffers[i])
            continue;
        if (class == CLASSES) {
            taking->buffers[i] =
                arena->base + taking->need.index[which] * CHUNK_SIZE;
            continue;
        }
        if (!cuts[which])
            cuts[which] = cut(memory, taking->need.index[which], class);
        taking->buffers[i] = pop(memory, cuts[which]);
    }
    return true;
}

void memory_add_used(struct memory *memory, uint64_t bytes)
{
    uint64_t used = atomic_load_explicit(&memory->used, memory_order_relaxed);

    atomic_store_explicit(&memory->used, used + bytes, memory_order_relaxed);
}

bool memory_take(struct memory *memory, enum memory_use use,
                 const uint64_t *sizes, unsigned n, void **ret_buffers)
{
    struct taking taking;
    uint64_t cost = 0;

    assert(loop_is_current(memory->loop) && n <= MEMORY_TAKE_MAX);
    if (first_here(memory, use) < memory->serving)
        return false;
    taking.use = use;
    taking.ticket = memory->serving;
    taking.sizes = sizes;
    taking.buffers = ret_buffers;
    taking.n = n;
    taking.need.n = 0;
    take_own(memory, &taking);
    if (!take_missing(memory, &taking)) {
        for (unsigned i = 0; i < n; i++)
            if (ret_buffers[i])
                push(memory, ret_buffers[i], class_of(sizes[i]));
        return false;
    }
    for (unsigned i = 0; i < n; i++)
        cost += memory_cost(sizes[i]);
    memory_add_used(memory, cost);
    return true;
}

void memory_give(struct memory *memory, void *buffer, uint64_t size)
{
    unsigned class = class_of(size);

    assert(loop_is_current(memory->loop));
    memory_add_used(memory, -memory_cost(size));
    if (class < CLASSES)
        push(memory, buffer, class);
    else
        arena_put(
            memory->arena,
            (unsigned)(((char *)buffer - memory->arena->base) >> CHUNK_SHIFT),
            chunks_of(size));
    if (!list_is_empty(&memory->waiters[MEMORY_WRITE]) ||
        !list_is_empty(&memory->waiters[MEMORY_READ]))
        memory_schedule(memory);
}

bool memory_fits(const struct memory *memory, enum memory_use use,
                 const uint64_t *sizes, unsigned n)
{
    unsigned left[CLASSES] = {0}; /* buffers, in new chunks */
    struct arena_need need = {.n = 0};

    for (unsigned i = 0; i < n; i++) {
        unsigned class = class_of(sizes[i]);

        if (class < CLASSES && left[class] > 0) {
            left[class]--;
            continue;
        }
        if (class < CLASSES)
            left[class] = (CHUNK_BUFFERS >> class) - 1;
        need.length[need.n++] = chunks_of(sizes[i]);
    }
    return arena_could_take(memory->arena, use, &need);
}

void memory_schedule(struct memory *memory)
{
    /* Pairs with the exchange in on_message(): either the message is still to
     * be looked at, and will see what we did before, or we send it. */
    if (!atomic_exchange_explicit(&memory->scheduled, true,
                                  memory_order_acq_rel))
        loop_send(memory->loop, &memory->message);
}

static void count_waiting(struct memory *memory, uint64_t by)
{
    uint64_t waiting =
        atomic_load_explicit(&memory->waiting, memory_order_relaxed);

    atomic_store_explicit(&memory->waiting, waiting + by, memory_order_relaxed);
}

/* Calls the first waiter of this use, who is out of the list meanwhile, because
 * one who is content may be gone, or wait again.  True if he was. */
static bool try_first(struct memory *memory, enum memory_use use)
{
    struct memory_waiter *waiter =
        list_first(&memory->waiters[use], struct memory_waiter, link);
    uint64_t ticket;
    bool content;

    if (!waiter)
        return false;
    ticket = waiter->ticket;
    list_remove(&waiter->link);
    memory->serving = ticket;
    content = waiter->try(waiter);
    memory->serving = NO_TICKET;
    if (content) {
        count_waiting(memory, (uint64_t)-1);
        return true;
    }
    assert(!list_is_linked(&waiter->link));
    list_prepend(&memory->waiters[use], &waiter->link);
    return false;
}

/* Oldest first, as long as anybody gets what he waits for. */
static void serve(struct memory *memory)
{
    enum memory_use older;
    bool content;

    do {
        arena_sync_seats(memory);
        older =
            first_here(memory, MEMORY_READ) < first_here(memory, MEMORY_WRITE)
                ? MEMORY_READ
                : MEMORY_WRITE;
        content = try_first(memory, older) ||
                  try_first(memory,
                            older == MEMORY_READ ? MEMORY_WRITE : MEMORY_READ);
    } while (content);
    /* try() may have changed who is first. */
    if (arena_sync_seats(memory))
        memory_schedule(memory);
}

static void on_message(struct loop_message *message)
{
    struct memory *memory = container_of(message, struct memory, message);

    atomic_exchange_explicit(&memory->scheduled, false, memory_order_acq_rel);
    pause_here();
    if (arena_is_short(memory->arena)) {
        buffer_press(memory);
        memory_drop_spare(memory);
    }
    serve(memory);
}

void memory_wait(struct memory *memory, struct memory_waiter *waiter)
{
    assert(loop_is_current(memory->loop) && !list_is_linked(&waiter->link));
    waiter->ticket = arena_ticket(memory->arena);
    list_append(&memory->waiters[waiter->use], &waiter->link);
    count_waiting(memory, 1);
    pause_here();
    if (!arena_sync_seats(memory))
        return;
    /* What was given back since the caller looked woke nobody. */
    memory_schedule(memory);
    pause_here();
    arena_recall_spares(memory->arena, memory);
}

void memory_wait_stop(struct memory *memory, struct memory_waiter *waiter)
{
    assert(loop_is_current(memory->loop));
    if (!list_is_linked(&waiter->link))
        return;
    list_remove(&waiter->link);
    count_waiting(memory, (uint64_t)-1);
    arena_sync_seats(memory);
    /* The next may need less. */
    memory_schedule(memory);
}

bool memory_is_short(const struct memory *memory)
{
    return arena_is_short(memory->arena);
}

uint64_t memory_free_bytes(const struct memory *memory)
{
    struct arena_counters counters;
    uint64_t gone;

    arena_read_counters(memory->arena, &counters);
    gone = counters.in_use + counters.charged;
    return gone < counters.total ? counters.total - gone : 0;
}

void memory_init(struct memory *memory, struct arena *arena,
                 struct abd_loop *loop)
{
    memory->arena = arena;
    memory->loop = loop;
    memory->serving = NO_TICKET;
    memory->message.fn = on_message;
    list_init(&memory->pressures);
    for (unsigned use = 0; use < MEMORY_USES; use++) {
        list_init(&memory->waiters[use]);
        memory->seats[use] = NO_TICKET;
    }
    for (unsigned zone = 0; zone < ZONES; zone++)
        for (unsigned class = 0; class < CLASSES; class ++)
            list_init(&memory->partial[zone][class]);
}
