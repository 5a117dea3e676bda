/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Memory that plugins need for as long as they live: arena_need().
 *
 * It must not lie among what requests have, because a chunk is one again only
 * when all of it came back: a few buffers of 4 KiB that stay for ever, cut here
 * and there, would leave no chunk for anybody.  So it has chunks of its own,
 * which are cut into pages under the arena's lock, and used by all loops; it is
 * taken when disks are opened, so that nobody minds the lock.  A buffer of a
 * power of two of pages lies at a multiple of its size. */
#include <assert.h>

#include "loop/arena.h"

#define PAGE_SIZE (UINT64_C(1) << CLASS_SHIFT)
#define WORD_BITS 64

/* The bits of so many pages from this one on, in the word of the first;
 * whole words if there are more. */
static uint64_t mask_of(unsigned page, unsigned pages)
{
    return pages >= WORD_BITS
               ? UINT64_MAX
               : ((UINT64_C(1) << pages) - 1) << page % WORD_BITS;
}

static bool are_free(const struct chunk *chunk, unsigned page, unsigned pages)
{
    uint64_t mask = mask_of(page, pages);

    for (unsigned at = page; at < page + pages; at += WORD_BITS)
        if (chunk->out[at / WORD_BITS] & mask)
            return false;
    return true;
}

static void mark(struct chunk *chunk, unsigned page, unsigned pages, bool out)
{
    uint64_t mask = mask_of(page, pages);

    for (unsigned at = page; at < page + pages; at += WORD_BITS) {
        uint64_t *word = &chunk->out[at / WORD_BITS];

        assert((*word & mask) == (out ? 0 : mask));
        *word ^= mask;
    }
}

static bool is_empty(const struct chunk *chunk)
{
    return are_free(chunk, 0, CHUNK_BUFFERS);
}

static unsigned pages_of(uint64_t size)
{
    return (unsigned)(memory_cost(size) / PAGE_SIZE);
}

static void add_slack(struct arena *arena, uint64_t bytes)
{
    atomic_fetch_add_explicit(&arena->needed_slack, bytes,
                              memory_order_relaxed);
}

/* Finds room in one of the chunks that are there. */
static bool find_locked(const struct arena *arena, unsigned pages,
                        unsigned *ret_index, unsigned *ret_page)
{
    for (unsigned index = 0; index < arena->needed_end; index++) {
        if (!arena->is_needed[index])
            continue;
        for (unsigned page = 0; page < CHUNK_BUFFERS; page += pages)
            if (are_free(&arena->chunk[index], page, pages)) {
                *ret_index = index;
                *ret_page = page;
                return true;
            }
    }
    return false;
}

static bool add_chunk_locked(struct arena *arena, unsigned *ret_index)
{
    if (!arena_take_needed_locked(arena, ret_index))
        return false;
    if (arena->needed_end <= *ret_index)
        arena->needed_end = *ret_index + 1;
    for (unsigned i = 0; i < CHUNK_BUFFERS / WORD_BITS; i++)
        arena->chunk[*ret_index].out[i] = 0;
    add_slack(arena, CHUNK_SIZE);
    return true;
}

void *arena_need(struct arena *arena, uint64_t size)
{
    unsigned pages = pages_of(size);
    unsigned index = 0;
    unsigned page = 0;
    bool found;

    pthread_mutex_lock(&arena->lock);
    found = find_locked(arena, pages, &index, &page) ||
            add_chunk_locked(arena, &index);
    if (found) {
        mark(&arena->chunk[index], page, pages, true);
        add_slack(arena, -(pages * PAGE_SIZE));
    }
    pthread_mutex_unlock(&arena->lock);
    return found ? arena->base + index * CHUNK_SIZE + page * PAGE_SIZE : NULL;
}

void arena_need_no_more(struct arena *arena, const void *buffer, uint64_t size)
{
    uint64_t at = (uint64_t)((const char *)buffer - arena->base);
    unsigned index = (unsigned)(at >> CHUNK_SHIFT);
    unsigned pages = pages_of(size);

    pthread_mutex_lock(&arena->lock);
    assert(at < arena->length && arena->is_needed[index]);
    mark(&arena->chunk[index], (unsigned)((at & (CHUNK_SIZE - 1)) / PAGE_SIZE),
         pages, false);
    add_slack(arena, pages * PAGE_SIZE);
    if (is_empty(&arena->chunk[index])) {
        add_slack(arena, -CHUNK_SIZE);
        arena_put_needed_locked(arena, index);
        while (arena->needed_end > 0 &&
               !arena->is_needed[arena->needed_end - 1])
            arena->needed_end--;
    }
    pthread_mutex_unlock(&arena->lock);
}
