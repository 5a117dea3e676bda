/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Blocks are cut from slabs, each one mapping of address space with a bit for
 * every block that is free.  A free block has no pages: it was either never
 * written or given back.  A slab of which nothing is used is unmapped, except
 * the last one that has room, so that a client that writes and trims the same
 * block does not map and unmap each time.  Any thread; the lock is held only
 * for finding a bit. */
#include "pool.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SLAB_BLOCKS 64
#define SLAB_SIZE   (SLAB_BLOCKS * BLOCK_SIZE)
#define PAGE        UINT64_C(4096)

struct slab {
    struct list link; /* pool's lock: in the list while free is not 0 */
    uint64_t free;    /* pool's lock: a bit for each block */
    uint8_t *base;    /* set once */
    struct block blocks[SLAB_BLOCKS];
};

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HIDE_RACES 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define HIDE_RACES 1
#endif

#ifdef HIDE_RACES
/* What block_write() promises is a race in the eyes of ThreadSanitizer, and the
 * only one there may be; so just these bytes are hidden from it. */
__attribute__((no_sanitize("thread"))) static void copy_bytes(void *to,
                                                              const void *from,
                                                              size_t length)
{
    volatile uint8_t *out = to;
    const volatile uint8_t *in = from;

    for (size_t i = 0; i < length; i++)
        out[i] = in[i];
}

__attribute__((no_sanitize("thread"))) static void zero_bytes(void *to,
                                                              size_t length)
{
    volatile uint8_t *out = to;

    for (size_t i = 0; i < length; i++)
        out[i] = 0;
}
#else
static void copy_bytes(void *to, const void *from, size_t length)
{
    memcpy(to, from, length);
}

static void zero_bytes(void *to, size_t length)
{
    memset(to, 0, length);
}
#endif

/* The range must be whole pages.  Locked memory (mlockall) can't be given back:
 * then it is at least zeroed. */
static void discard_pages(uint8_t *start, uint64_t length)
{
    if (length && madvise(start, length, MADV_DONTNEED))
        zero_bytes(start, length);
}

static void slab_destroy(struct slab *slab)
{
    munmap(slab->base, SLAB_SIZE);
    free(slab);
}

static struct slab *slab_create(void)
{
    struct slab *slab = aligned_alloc(_Alignof(struct slab), sizeof *slab);
    if (!slab)
        return NULL;
    void *base = mmap(NULL, SLAB_SIZE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        free(slab);
        return NULL;
    }

    *slab = (struct slab){.free = UINT64_MAX, .base = base};
    for (uint32_t i = 0; i < SLAB_BLOCKS; i++) {
        slab->blocks[i].index = i;
        slab->blocks[i].slab = slab;
        slab->blocks[i].data = slab->base + i * BLOCK_SIZE;
    }
    return slab;
}

void pool_init(struct pool *pool)
{
    *pool = (struct pool){0};
    pthread_mutex_init(&pool->lock, NULL);
    list_init(&pool->slabs);
}

void pool_finish(struct pool *pool)
{
    /* Of slabs that nothing is used of, all but the last were destroyed. */
    struct slab *slab = list_first(&pool->slabs, struct slab, link);

    if (slab) {
        assert(slab->free == UINT64_MAX && pool->slab_count == 1);
        slab_destroy(slab);
    }
    pthread_mutex_destroy(&pool->lock);
}

static struct block *take_free_locked(struct pool *pool)
{
    struct slab *slab = list_first(&pool->slabs, struct slab, link);
    if (!slab) {
        slab = slab_create();
        if (!slab)
            return NULL;
        list_append(&pool->slabs, &slab->link);
        pool->slab_count++;
    }

    int index = __builtin_ctzll(slab->free);
    slab->free &= ~(UINT64_C(1) << index);
    if (!slab->free)
        list_remove(&slab->link);
    return &slab->blocks[index];
}

struct block *block_create(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    struct block *block = take_free_locked(pool);
    pthread_mutex_unlock(&pool->lock);

    if (block)
        atomic_store_explicit(&block->references, 1, memory_order_relaxed);
    return block;
}

static void block_destroy(struct pool *pool, struct block *block)
{
    struct slab *slab = block->slab;
    bool unused = false;

    discard_pages(block->data, BLOCK_SIZE);

    pthread_mutex_lock(&pool->lock);
    slab->free |= UINT64_C(1) << block->index;
    if (!list_is_linked(&slab->link))
        list_append(&pool->slabs, &slab->link);
    if (slab->free == UINT64_MAX && pool->slabs.next->next != &pool->slabs) {
        list_remove(&slab->link);
        pool->slab_count--;
        unused = true;
    }
    pthread_mutex_unlock(&pool->lock);

    if (unused)
        slab_destroy(slab);
}

void block_ref(struct block *block)
{
    atomic_fetch_add_explicit(&block->references, 1, memory_order_relaxed);
}

void block_unref(struct pool *pool, struct block *block)
{
    /* Each release pairs with the acquire of the last one: nobody still uses
     * the bytes when they are given back. */
    if (atomic_fetch_sub_explicit(&block->references, 1,
                                  memory_order_acq_rel) == 1)
        block_destroy(pool, block);
}

void block_zero(struct block *block, uint64_t offset, uint64_t length)
{
    assert(offset <= BLOCK_SIZE && length <= BLOCK_SIZE - offset);

    uint64_t first = (offset + PAGE - 1) & ~(PAGE - 1);
    uint64_t last = (offset + length) & ~(PAGE - 1);
    if (first >= last) {
        zero_bytes(block->data + offset, length);
        return;
    }
    zero_bytes(block->data + offset, first - offset);
    discard_pages(block->data + first, last - first);
    zero_bytes(block->data + last, offset + length - last);
}

void block_write(struct block *block, uint64_t offset, const void *data,
                 uint64_t length)
{
    assert(offset <= BLOCK_SIZE && length <= BLOCK_SIZE - offset);
    copy_bytes(block->data + offset, data, length);
}

void block_read(const struct block *block, uint64_t offset, void *data,
                uint64_t length)
{
    assert(offset <= BLOCK_SIZE && length <= BLOCK_SIZE - offset);
    copy_bytes(data, block->data + offset, length);
}
