/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Payload memory: one arena for the process, one share of it for each loop.
 *
 * The arena is a range of address space of exactly the budget's size, cut into
 * chunks of 1 MiB.  A loop takes chunks and cuts each into buffers of one size
 * class (powers of two from 4 KiB to 1 MiB); larger buffers are runs of
 * chunks.  All buffers are page-aligned.  A buffer is taken and given back on
 * one loop's thread, so only taking and giving chunks needs the arena's lock.
 *
 * Nine tenths of the chunks serve any use, the last tenth only reads, so that
 * writes that stand still can't starve reads.  (With few chunks: all but one.)
 *
 * Who found too little waits in a queue and does not hold anything meanwhile:
 * memory_take() is all or nothing.  The queue is served in order, and while
 * anybody waits, nobody else gets new chunks: nobody overtakes.  Loops queue
 * among themselves in the same way.  Reads and writes queue apart: a read may
 * pass a write to the last tenth, but only to there. */
#ifndef ABD_LOOP_MEMORY_H
#define ABD_LOOP_MEMORY_H

#include "base/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct abd_loop;
struct arena;  /* the process's */
struct memory; /* one loop's share */

enum memory_use { MEMORY_WRITE, MEMORY_READ, MEMORY_USES };
#define MEMORY_TAKE_MAX 64 /* buffers in one step */

/* bytes is rounded down to whole MiB, at least 4.  extra: so many bytes more,
 * which are the caller's and of no budget.  registered: a memfd, mapped 2 MiB
 * aligned, whose pages are never given back to the kernel.  The loops must have
 * been created.  0 or an errno value. */
int arena_create(uint64_t bytes, uint64_t extra, bool registered,
                 struct arena **ret);
void arena_destroy(struct arena *arena);
/* The extra bytes: zeroes, page-aligned. */
void *arena_extra(const struct arena *arena);
struct memory *arena_memory(struct arena *arena, const struct abd_loop *loop);
/* All that is mapped. */
void arena_range(const struct arena *arena, void **ret_base,
                 uint64_t *ret_length, int *ret_fd);

/* Takes n buffers of the given sizes, all or none: on a false return nothing
 * was taken.  False also while others wait (see memory_wait()). */
bool memory_take(struct memory *memory, enum memory_use use,
                 const uint64_t *sizes, unsigned n, void **ret_buffers);
/* size: as it was taken. */
void memory_give(struct memory *memory, void *buffer, uint64_t size);
/* What a buffer of this size costs: the size of its class. */
uint64_t memory_cost(uint64_t size);
/* Could it ever be taken, with nothing else in use?  arena_charge() may make
 * that untrue, so a waiter's try() asks again before it says no. */
bool memory_fits(const struct memory *memory, enum memory_use use,
                 const uint64_t *sizes, unsigned n);

/* A place in the loop's queue.  try() is called on the loop's thread when there
 * may be enough; it calls memory_take() (which for the first waiter does not
 * count the others) and returns true if it is content, which ends its place. */
struct memory_waiter {
    struct list link;
    bool (*try)(struct memory_waiter *waiter);
    enum memory_use use;
    uint64_t ticket; /* ours: when it began to wait */
};
void memory_wait(struct memory *memory, struct memory_waiter *waiter);
/* Gives the place up; does nothing if it is not waiting. */
void memory_wait_stop(struct memory *memory, struct memory_waiter *waiter);
/* Does anybody wait, on any loop? */
bool memory_is_short(const struct memory *memory);
/* Bytes of the whole arena that nobody uses; a moment's value. */
uint64_t memory_free_bytes(const struct memory *memory);

/* The arena that abd_buffer_take() takes from; NULL: none.  Before the loops
 * are started. */
void memory_lend(struct arena *arena);

/* Charges what is kept elsewhere than in the arena (requests) to the budget, in
 * steps of a chunk: from then on the arena has that much less.  At most a
 * quarter of the arena can go this way, and it does not come back.  If nothing
 * is free, what is given back next pays for it.  Any thread. */
bool arena_charge(struct arena *arena, uint64_t bytes);

/* Gives chunks that nobody used since the last call back to the kernel (not a
 * registered arena's).  Any thread; meant for a timer. */
void arena_trim(struct arena *arena);

struct arena_counters {
    uint64_t total, in_use, charged; /* bytes */
    uint64_t waiters;
};
void arena_read_counters(const struct arena *arena, struct arena_counters *ret);

#endif
