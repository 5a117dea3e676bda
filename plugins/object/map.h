/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Where each block of the volume is: an ordered map of extents.
 *
 * Sorted leaves of 4 KiB, and one sorted array of the leaves' first blocks: two
 * binary searches find a block, and changing one moves a few cache lines.  What
 * is in no extent is a hole.  Neighbours that go on with each other are one
 * extent, so sequential data costs next to nothing.  One thread. */
#ifndef ABD_OBJECT_MAP_H
#define ABD_OBJECT_MAP_H

#include <stdbool.h>
#include <stdint.h>

enum extent_kind {
    EXTENT_HOLE,
    EXTENT_ZERO,
    EXTENT_DATA, /* in a log object */
    EXTENT_OPEN, /* in the open one; its offset counts from the payload */
};

struct extent {
    uint64_t block, count;
    enum extent_kind kind;
    uint64_t seq;    /* DATA, OPEN: the log object ... */
    uint32_t offset; /* ... and where the first unit is in it, by 8 bytes */
};

struct map;

struct map *map_create(void); /* NULL: no memory */
void map_destroy(struct map *map);

/* Makes sure that the next n map_set() do not lack memory; false: no. */
bool map_reserve(struct map *map, unsigned n);

/* From now on the blocks are this; a HOLE leaves nothing. */
void map_set(struct map *map, const struct extent *extent);

/* What begins at block: its part of an extent, or the hole up to the next one
 * (or to `end`); nothing past `end`. */
struct extent map_at(const struct map *map, uint64_t block, uint64_t end);

/* The open object is sealed: what of it lies in the range is DATA, and its
 * offset counts from the object's begin, which is so much before the payload.
 */
void map_seal(struct map *map, uint64_t block, uint64_t count, uint32_t delta);

uint64_t map_extents(const struct map *map);
uint64_t map_bytes(const struct map *map); /* of memory */

#endif
