/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Blocks: the memory that holds a disk's contents.
 *
 * A block is a range of address space whose pages the kernel fills in when they
 * are first written, so a block of which little was written costs little.  Each
 * is counted: the tree holds one reference, and so does every reply that sends
 * from it.  The last one gives the pages back to the kernel. */
#ifndef MEMORY_POOL_H
#define MEMORY_POOL_H

#include "base/list.h"

#include <pthread.h>
#include <stdint.h>

/* Large enough that 128 KiB are two or three pieces, small enough that trims
 * find whole blocks. */
#define BLOCK_BITS 16
#define BLOCK_SIZE (UINT64_C(1) << BLOCK_BITS)

struct slab;

/* Owned by its slab.  Of a cache line's size, so that two loops that use
 * neighbours don't disturb each other. */
struct block {
    _Alignas(64) _Atomic uint32_t references;
    uint32_t index; /* in its slab; set once */
    uint8_t *data;  /* set once */
    struct slab *slab;
    struct block *next; /* of whoever detached it from the tree */
};

struct pool {
    pthread_mutex_t lock; /* protects the list and the slabs' free blocks */
    struct list slabs;    /* that have a free block */
    uint64_t slab_count;
};

void pool_init(struct pool *pool);
/* All blocks must have been given back. */
void pool_finish(struct pool *pool);

/* Any thread.  A block that reads as zeroes, with one reference; NULL: there is
 * no more memory. */
struct block *block_create(struct pool *pool);
/* Only who knows that a reference exists and stays may take another. */
void block_ref(struct block *block);
void block_unref(struct pool *pool, struct block *block);

/* Inside of the block; whole pages are given back to the kernel.  A reply may
 * be reading, see block_write(). */
void block_zero(struct block *block, uint64_t offset, uint64_t length);
/* A reply that is being sent from the block may take old or new bytes: its
 * client has not been answered, so it asked for both at the same time. */
void block_write(struct block *block, uint64_t offset, const void *data,
                 uint64_t length);
void block_read(const struct block *block, uint64_t offset, void *data,
                uint64_t length);

#endif
