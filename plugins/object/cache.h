/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Units as they are stored, kept in memory that nobody else needs.
 *
 * Keyed by log object and the unit's number in it, so what is here never
 * becomes old (I1).  Lines of CACHE_UNITS neighbouring units, CACHE_LINES lines
 * in a slab, which is one buffer of the server's budget: spare, so slabs are
 * given back when requests wait for memory.  Whoever uses a unit verifies it.
 * One loop. */
#ifndef ABD_OBJECT_CACHE_H
#define ABD_OBJECT_CACHE_H

#include "format.h"

#include "abd-loop.h"

#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

#define CACHE_UNITS 15
#define CACHE_LINES 17 /* 17 * 15 units of 4104 bytes: 1 MiB, nearly */

struct cache_slab;

struct cache_line {
    struct list hash_link;    /* of those with units */
    uint64_t seq, number;     /* units CACHE_UNITS * number and those behind */
    uint16_t present, coming; /* bit i: unit i is here, is being fetched */
    bool used;                /* since the clock's hand passed */
    struct list waiters;      /* of the reader: for what is coming */
    struct cache_slab *slab;
    uint8_t *units;
};

struct cache {
    uint64_t max; /* bytes, of slabs */
    struct list slabs;
    unsigned slabs_n;
    struct list free_lines; /* by hash_link */
    struct list *hash;
    unsigned hash_size; /* a power of two */
    /* The clock's hand: the next line to be looked at. */
    struct cache_slab *hand;
    unsigned hand_line;
    struct abd_pressure pressure;
    /* For the status. */
    uint64_t hits, misses; /* units that were asked for */
};

/* 0 or ENOMEM.  On the loop. */
int cache_init(struct cache *cache, uint64_t max);
void cache_finish(struct cache *cache);

/* The number of the unit at this offset of its object. */
static inline uint64_t cache_unit(uint64_t offset)
{
    return offset / UNIT_SIZE;
}

/* The line that has, or gets, this unit; NULL: none. */
struct cache_line *cache_find(const struct cache *cache, uint64_t seq,
                              uint64_t unit);
bool cache_is_coming(const struct cache_line *line, uint64_t unit);
static inline bool cache_has(const struct cache_line *line, uint64_t unit)
{
    return line->present >> unit % CACHE_UNITS & 1;
}
/* The unit's bytes; NULL: they are not here.  Valid until the next call that
 * may want memory. */
const uint8_t *cache_get(struct cache_line *line, uint64_t unit);
/* It turned out to be damaged. */
void cache_drop(struct cache_line *line, uint64_t unit);

/* Room for a unit that is to be fetched; its line stays until cache_came().
 * NULL: there is none. */
uint8_t *cache_expect(struct cache *cache, uint64_t seq, uint64_t unit);
/* It has come, or it will not.  Returns the line; who waits for it is to be
 * told by the caller, if nothing more is coming. */
struct cache_line *cache_came(struct cache *cache, uint64_t seq, uint64_t unit,
                              bool is_here);
/* Keeps a copy, if there is memory to spare. */
void cache_put(struct cache *cache, uint64_t seq, uint64_t unit,
               const uint8_t *data, const uint8_t check[8]);

uint64_t cache_bytes(const struct cache *cache);

#endif
