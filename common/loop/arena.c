/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The arena: see arena.h for chunks, zones and seats.
 *
 * What is free is found by looking at every chunk: there are about a hundred,
 * and a chunk changes hands once for many buffers.  Single chunks are taken
 * from the outer ends (reads from above, others from below), runs from above,
 * so that free chunks stay neighbours.  All under one lock, from any thread. */
#include "loop/arena.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ALIGNMENT (UINT64_C(2) << 20)

void (*arena_test_pause)(void);

enum zone arena_zone(const struct arena *arena, unsigned index)
{
    return index < arena->mixed ? ZONE_ANY : ZONE_READS;
}

static uint64_t charged_to(const struct arena *arena)
{
    return atomic_load_explicit(&arena->charged, memory_order_relaxed);
}

/* What must stay for reads of this many chunks. */
static unsigned reserve_of(unsigned chunks)
{
    return chunks / 10 ? chunks / 10 : 1;
}

static unsigned in_chunks(uint64_t bytes)
{
    return (unsigned)((bytes + CHUNK_SIZE - 1) >> CHUNK_SHIFT);
}

/* Of so many chunks. */
static unsigned limit_of(unsigned chunks, enum memory_use use)
{
    return use == MEMORY_READ ? chunks : chunks - reserve_of(chunks);
}

static unsigned limit_locked(const struct arena *arena, enum memory_use use)
{
    return limit_of(arena->chunks - in_chunks(charged_to(arena)), use);
}

static uint64_t first_of(const struct arena *arena, enum memory_use use)
{
    return atomic_load_explicit(&arena->first[use], memory_order_seq_cst);
}

bool arena_is_short(const struct arena *arena)
{
    return first_of(arena, MEMORY_WRITE) != NO_TICKET ||
           first_of(arena, MEMORY_READ) != NO_TICKET;
}

uint64_t arena_ticket(struct arena *arena)
{
    uint64_t now_ns = abd_loop_now_ns();
    uint64_t last =
        atomic_load_explicit(&arena->last_ticket, memory_order_relaxed);
    uint64_t ticket;

    do
        ticket = last < now_ns ? now_ns : last + 1;
    while (!atomic_compare_exchange_weak_explicit(&arena->last_ticket, &last,
                                                  ticket, memory_order_relaxed,
                                                  memory_order_relaxed));
    return ticket;
}

/* Both heads: the one that waits longest for anything, and the first read. */
static void wake_heads_locked(struct arena *arena, const struct memory *except)
{
    uint64_t reads = first_of(arena, MEMORY_READ);
    uint64_t writes = first_of(arena, MEMORY_WRITE);

    if (reads == NO_TICKET && writes == NO_TICKET)
        return;
    for (unsigned i = 0; i < arena->loops; i++) {
        const uint64_t *seats = arena->seats[i];
        bool is_first = (reads != NO_TICKET && seats[MEMORY_READ] == reads) ||
                        (writes < reads && seats[MEMORY_WRITE] == writes);

        if (is_first && &arena->memories[i] != except)
            memory_schedule(&arena->memories[i]);
    }
}

/* The lowest or highest place for a run within [from, to); to: none. */
static unsigned find_run(const bool *taken, unsigned from, unsigned to,
                         unsigned length, bool from_above)
{
    unsigned found = 0;

    for (unsigned i = 0; i < to - from; i++) {
        unsigned index = from_above ? to - 1 - i : from + i;

        found = taken[index] ? 0 : found + 1;
        if (found == length)
            return from_above ? index : index + 1 - length;
    }
    return to;
}

/* from, to: the chunks that the caller may have; to: none. */
static unsigned find_place(const struct arena *arena, const bool *taken,
                           unsigned from, unsigned to, unsigned length)
{
    unsigned index = to;

    /* Reads begin with what only they may have. */
    if (to > arena->mixed && length == 1)
        index = find_run(taken, arena->mixed, to, 1, true);
    if (index == to && from < to)
        index = find_run(taken, from, to, length, length > 1);
    return index;
}

static void mark_locked(struct arena *arena, unsigned index, unsigned length,
                        bool taken)
{
    for (unsigned i = index; i < index + length; i++) {
        arena->is_taken[i] = taken;
        arena->is_recent[i] = true;
        if (taken)
            arena->taken[arena_zone(arena, i)]++;
        else
            arena->taken[arena_zone(arena, i)]--;
    }
}

/* How many of these chunks lie in the zone for any use? */
static unsigned count_mixed(const struct arena *arena, unsigned index,
                            unsigned length)
{
    unsigned left = index < arena->mixed ? arena->mixed - index : 0;

    return length < left ? length : left;
}

static bool take_run_locked(struct arena *arena, unsigned from, unsigned to,
                            unsigned length, unsigned *ret_index)
{
    unsigned index = find_place(arena, arena->is_taken, from, to, length);
    unsigned in_mixed;

    if (index == to)
        return false;
    in_mixed = count_mixed(arena, index, length);
    if (in_mixed > 0 &&
        arena->taken[ZONE_ANY] + in_mixed > limit_locked(arena, MEMORY_WRITE))
        return false;
    if (arena->taken[ZONE_ANY] + arena->taken[ZONE_READS] + length >
        limit_locked(arena, MEMORY_READ))
        return false;
    mark_locked(arena, index, length, true);
    *ret_index = index;
    return true;
}

static void touch_locked(struct arena *arena, unsigned index, unsigned length)
{
    for (unsigned i = index; i < index + length; i++)
        arena->is_touched[i] = true;
}

/* Runs find their places before single chunks do. */
static bool is_in_pass(unsigned pass, unsigned length)
{
    return (length > 1) == (pass == 0);
}

bool arena_take(struct arena *arena, enum memory_use use, uint64_t ticket,
                struct arena_need *need)
{
    uint64_t reads;
    uint64_t writes;
    unsigned from;
    unsigned to;
    bool taken = true;

    pthread_mutex_lock(&arena->lock);
    reads = first_of(arena, MEMORY_READ);
    writes = first_of(arena, MEMORY_WRITE);
    from = ticket <= reads && ticket <= writes ? 0 : arena->mixed;
    to = use == MEMORY_READ && ticket <= reads ? arena->chunks : arena->mixed;
    for (unsigned i = 0; i < need->n; i++)
        need->index[i] = to;
    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned i = 0; taken && i < need->n; i++)
            if (is_in_pass(pass, need->length[i]))
                taken = take_run_locked(arena, from, to, need->length[i],
                                        &need->index[i]);
    for (unsigned i = 0; i < need->n; i++)
        if (taken)
            touch_locked(arena, need->index[i], need->length[i]);
        else if (need->index[i] != to)
            mark_locked(arena, need->index[i], need->length[i], false);
    pthread_mutex_unlock(&arena->lock);
    return taken;
}

/* As arena_take() would, were nothing taken but what plugins need. */
static bool find_places_locked(struct arena *arena, unsigned to,
                               const struct arena_need *need)
{
    bool *taken = arena->scratch;
    unsigned mixed = arena->needed;

    memcpy(taken, arena->is_needed, arena->chunks * sizeof *taken);
    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned i = 0; i < need->n; i++) {
            unsigned index;

            if (!is_in_pass(pass, need->length[i]))
                continue;
            index = find_place(arena, taken, 0, to, need->length[i]);
            if (index == to)
                return false;
            memset(&taken[index], true, need->length[i] * sizeof *taken);
            mixed += count_mixed(arena, index, need->length[i]);
        }
    return mixed <= limit_locked(arena, MEMORY_WRITE) || mixed == arena->needed;
}

bool arena_could_take(struct arena *arena, enum memory_use use,
                      const struct arena_need *need)
{
    unsigned to = use == MEMORY_READ ? arena->chunks : arena->mixed;
    uint64_t wanted = 0;
    bool fits;

    for (unsigned i = 0; i < need->n; i++)
        wanted += need->length[i];
    pthread_mutex_lock(&arena->lock);
    /* The same limits as take_run_locked() has. */
    fits = arena->needed + wanted <= limit_locked(arena, MEMORY_READ) &&
           find_places_locked(arena, to, need);
    pthread_mutex_unlock(&arena->lock);
    return fits;
}

/* What is charged and what is needed together leave a chunk to writes, and one
 * more to reads. */
static unsigned needed_max(const struct arena *arena)
{
    unsigned left = arena->chunks - in_chunks(arena->length / 4) -
                    reserve_of(arena->chunks) - 1;

    return left < arena->chunks / 2 ? left : arena->chunks / 2;
}

bool arena_take_needed_locked(struct arena *arena, unsigned *ret_index)
{
    if (arena->needed >= needed_max(arena) ||
        !take_run_locked(arena, 0, arena->mixed, 1, ret_index))
        return false;
    touch_locked(arena, *ret_index, 1);
    arena->is_needed[*ret_index] = true;
    arena->needed++;
    /* Who waits may have become one that can never be content. */
    wake_heads_locked(arena, NULL);
    return true;
}

void arena_put_needed_locked(struct arena *arena, unsigned index)
{
    arena->is_needed[index] = false;
    arena->needed--;
    mark_locked(arena, index, 1, false);
    wake_heads_locked(arena, NULL);
}

void arena_put(struct arena *arena, unsigned index, unsigned length)
{
    pthread_mutex_lock(&arena->lock);
    mark_locked(arena, index, length, false);
    wake_heads_locked(arena, NULL);
    pthread_mutex_unlock(&arena->lock);
}

bool arena_sync_seats(struct memory *memory)
{
    struct arena *arena = memory->arena;
    bool changed = false;

    for (unsigned use = 0; use < MEMORY_USES; use++) {
        const struct memory_waiter *first =
            list_first(&memory->waiters[use], struct memory_waiter, link);
        uint64_t seat = first ? first->ticket : NO_TICKET;

        if (seat == memory->seats[use])
            continue;
        changed = true;
        memory->seats[use] = seat;
    }
    if (!changed)
        return false;
    pthread_mutex_lock(&arena->lock);
    for (unsigned use = 0; use < MEMORY_USES; use++) {
        uint64_t smallest = NO_TICKET;

        arena->seats[abd_loop_index(memory->loop)][use] = memory->seats[use];
        for (unsigned i = 0; i < arena->loops; i++)
            if (arena->seats[i][use] < smallest)
                smallest = arena->seats[i][use];
        atomic_store_explicit(&arena->first[use], smallest,
                              memory_order_seq_cst);
    }
    wake_heads_locked(arena, memory);
    pthread_mutex_unlock(&arena->lock);
    return true;
}

void arena_recall_spares(struct arena *arena, const struct memory *for_whom)
{
    for (unsigned i = 0; i < arena->loops; i++) {
        struct memory *memory = &arena->memories[i];

        if (memory != for_whom &&
            atomic_load_explicit(&memory->has_spare, memory_order_seq_cst))
            memory_schedule(memory);
    }
}

bool arena_charge(struct arena *arena, uint64_t bytes)
{
    uint64_t charged;
    bool fits;

    pthread_mutex_lock(&arena->lock);
    charged = charged_to(arena);
    fits = bytes <= arena->length / 4 - charged;
    if (fits) {
        atomic_store_explicit(&arena->charged, charged + bytes,
                              memory_order_relaxed);
        /* A waiter may have become one that can never be content. */
        wake_heads_locked(arena, NULL);
    }
    pthread_mutex_unlock(&arena->lock);
    return fits;
}

/* Takes the next free chunk that nobody has used for long; chunks: none. */
static unsigned take_cold(struct arena *arena, unsigned index)
{
    pthread_mutex_lock(&arena->lock);
    for (; index < arena->chunks; index++) {
        bool recently = arena->is_recent[index] || arena->is_taken[index];

        arena->is_recent[index] = false;
        if (recently || !arena->is_touched[index] || arena_is_short(arena))
            continue;
        mark_locked(arena, index, 1, true);
        arena->is_touched[index] = false;
        break;
    }
    pthread_mutex_unlock(&arena->lock);
    return index;
}

void arena_trim(struct arena *arena)
{
    unsigned index = 0;

    if (arena->fd >= 0)
        return;
    while ((index = take_cold(arena, index)) < arena->chunks) {
        /* Not under the lock: the kernel takes its time.  It cannot fail for a
         * range of ours. */
        madvise(arena->base + index * CHUNK_SIZE, CHUNK_SIZE, MADV_DONTNEED);
        arena_put(arena, index, 1);
        index++;
    }
}

void arena_read_counters(const struct arena *arena, struct arena_counters *ret)
{
    uint64_t in_use = 0;
    uint64_t waiters = 0;

    for (unsigned i = 0; i < arena->loops; i++) {
        in_use += atomic_load_explicit(&arena->memories[i].used,
                                       memory_order_relaxed);
        waiters += atomic_load_explicit(&arena->memories[i].waiting,
                                        memory_order_relaxed);
    }
    ret->total = arena->length;
    ret->in_use = in_use + atomic_load_explicit(&arena->needed_slack,
                                                memory_order_relaxed);
    ret->waiters = waiters;
    ret->charged = charged_to(arena);
}

struct memory *arena_memory(struct arena *arena, const struct abd_loop *loop)
{
    return &arena->memories[abd_loop_index(loop)];
}

void arena_range(const struct arena *arena, void **ret_base,
                 uint64_t *ret_length, int *ret_fd)
{
    *ret_base = arena->base;
    *ret_length = arena->mapped;
    *ret_fd = arena->fd;
}

void *arena_extra(const struct arena *arena)
{
    return arena->base + arena->length;
}

/* Reserves the range, 2 MiB aligned, and maps the file or nothing there. */
static int map(struct arena *arena)
{
    uint64_t whole = arena->mapped + ALIGNMENT;
    char *place = mmap(NULL, whole, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint64_t before;
    void *base;

    if (place == MAP_FAILED)
        return errno;
    before = -(uintptr_t)place & (ALIGNMENT - 1);
    if (before > 0)
        munmap(place, before);
    munmap(place + before + arena->mapped, ALIGNMENT - before);
    arena->base = place + before;
    if (arena->fd >= 0)
        base = mmap(arena->base, arena->mapped, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_FIXED, arena->fd, 0);
    else
        base = mmap(arena->base, arena->mapped, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
                    0);
    if (base == MAP_FAILED)
        return errno;
    /* Huge pages would make 2 MiB of every 4 KiB that is touched.  A kernel
     * without them refuses, and that is as well. */
    if (arena->fd < 0)
        madvise(base, arena->mapped, MADV_NOHUGEPAGE);
    return 0;
}

static int make_file(uint64_t length, int *ret_fd)
{
    int fd = memfd_create("abdkit", MFD_CLOEXEC);

    if (fd < 0)
        return errno;
    if (ftruncate(fd, (off_t)length) < 0) {
        int err = errno;

        close(fd);
        return err;
    }
    *ret_fd = fd;
    return 0;
}

static int init(struct arena *arena, bool registered)
{
    bool *flags;
    int err;

    pthread_mutex_init(&arena->lock, NULL);
    arena->chunk = calloc(arena->chunks, sizeof *arena->chunk);
    arena->memories = calloc(arena->loops, sizeof *arena->memories);
    flags = calloc(arena->chunks, 5 * sizeof *flags);
    arena->is_taken = flags;
    if (!arena->chunk || !arena->memories || !flags)
        return ENOMEM;
    arena->is_touched = flags + arena->chunks;
    arena->is_recent = flags + 2 * (size_t)arena->chunks;
    arena->is_needed = flags + 3 * (size_t)arena->chunks;
    arena->scratch = flags + 4 * (size_t)arena->chunks;
    for (unsigned use = 0; use < MEMORY_USES; use++) {
        atomic_init(&arena->first[use], NO_TICKET);
        for (unsigned i = 0; i < LOOPS_MAX; i++)
            arena->seats[i][use] = NO_TICKET;
    }
    for (unsigned i = 0; i < arena->loops; i++)
        memory_init(&arena->memories[i], arena, abd_loop_at(i));
    err = registered ? make_file(arena->mapped, &arena->fd) : 0;
    return err ? err : map(arena);
}

int arena_create(uint64_t bytes, uint64_t extra, bool registered,
                 struct arena **ret)
{
    uint64_t chunks = bytes >> CHUNK_SHIFT;
    struct arena *arena;
    int err;

    if (chunks < 4 || chunks > (UINT64_C(1) << 24) || abd_loop_count() == 0)
        return EINVAL;
    arena = calloc(1, sizeof *arena);
    if (!arena)
        return ENOMEM;
    arena->length = chunks << CHUNK_SHIFT;
    arena->mapped = arena->length + ((extra + 4095) & ~UINT64_C(4095));
    arena->fd = -1;
    arena->chunks = (unsigned)chunks;
    arena->mixed = arena->chunks - reserve_of(arena->chunks);
    arena->loops = abd_loop_count();
    err = init(arena, registered);
    if (err) {
        arena_destroy(arena);
        return err;
    }
    *ret = arena;
    return 0;
}

void arena_destroy(struct arena *arena)
{
    if (!arena)
        return;
    if (arena->base)
        munmap(arena->base, arena->mapped);
    if (arena->fd >= 0)
        close(arena->fd);
    pthread_mutex_destroy(&arena->lock);
    free(arena->is_taken);
    free(arena->memories);
    free(arena->chunk);
    free(arena);
}
