/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* See map.h. */
#include "map.h"

#include "format.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define UNIT_OFFSET (UNIT_SIZE / 8) /* from one unit to the next */
#define COUNT_MAX   UINT32_MAX

/* 24 bytes, with the kind in the lowest bits of the sequence number. */
struct entry {
    uint64_t block;
    uint64_t seq_kind;
    uint32_t count;
    uint32_t offset;
};

#define LEAF_ENTRIES 170
struct leaf {
    struct leaf *next_free;
    uint32_t n;
    struct entry entries[LEAF_ENTRIES];
};
static_assert(sizeof(struct leaf) <= 4096, "a page");

struct map {
    struct leaf **leaves; /* in order, none of them empty */
    uint64_t *firsts;     /* the first block of each */
    unsigned n, size;
    struct leaf *free;
    unsigned free_n;
    uint64_t extents;
};

/* A place in the map: before entries[i] of the leaf, which may be its end. */
struct place {
    unsigned leaf, i;
};

/* One map_set() cuts two extents and adds one, and each may need a leaf. */
#define LEAVES_PER_SET 3

struct map *map_create(void)
{
    return calloc(1, sizeof(struct map));
}

void map_destroy(struct map *map)
{
    if (!map)
        return;
    for (unsigned i = 0; i < map->n; i++)
        free(map->leaves[i]);
    while (map->free) {
        struct leaf *leaf = map->free;

        map->free = leaf->next_free;
        free(leaf);
    }
    free(map->leaves);
    free(map->firsts);
    free(map);
}

static bool grow_index(struct map *map, unsigned wanted)
{
    unsigned size = map->size ? map->size : 64;
    struct leaf **leaves;
    uint64_t *firsts;

    while (size < wanted)
        size *= 2;
    if (size == map->size)
        return true;
    leaves = realloc(map->leaves, size * sizeof(struct leaf *));
    if (leaves)
        map->leaves = leaves;
    firsts = realloc(map->firsts, size * sizeof(uint64_t));
    if (firsts)
        map->firsts = firsts;
    if (!leaves || !firsts)
        return false;
    map->size = size;
    return true;
}

bool map_reserve(struct map *map, unsigned n)
{
    unsigned leaves = n * LEAVES_PER_SET + 1;

    if (!grow_index(map, map->n + leaves))
        return false;
    while (map->free_n < leaves) {
        struct leaf *leaf = malloc(sizeof *leaf);

        if (!leaf)
            return false;
        leaf->next_free = map->free;
        map->free = leaf;
        map->free_n++;
    }
    return true;
}

/* --- leaves --- */

static struct leaf *take_leaf(struct map *map)
{
    struct leaf *leaf = map->free;

    assert(leaf && map->n < map->size);
    map->free = leaf->next_free;
    map->free_n--;
    leaf->n = 0;
    return leaf;
}

/* Enough are kept for the next changes. */
static void give_leaf(struct map *map, struct leaf *leaf)
{
    if (map->free_n >= 64) {
        free(leaf);
        return;
    }
    leaf->next_free = map->free;
    map->free = leaf;
    map->free_n++;
}

static void insert_leaf(struct map *map, unsigned at, struct leaf *leaf)
{
    size_t behind = map->n - at;

    memmove(map->leaves + at + 1, map->leaves + at,
            behind * sizeof(struct leaf *));
    memmove(map->firsts + at + 1, map->firsts + at, behind * sizeof(uint64_t));
    map->leaves[at] = leaf;
    map->n++;
}

static void remove_leaves(struct map *map, unsigned from, unsigned to)
{
    size_t behind = map->n - to;

    for (unsigned i = from; i < to; i++)
        give_leaf(map, map->leaves[i]);
    memmove(map->leaves + from, map->leaves + to,
            behind * sizeof(struct leaf *));
    memmove(map->firsts + from, map->firsts + to, behind * sizeof(uint64_t));
    map->n -= to - from;
}

/* --- entries --- */

static enum extent_kind kind_of(const struct entry *entry)
{
    return (enum extent_kind)(entry->seq_kind & 3);
}

static bool has_place(const struct entry *entry)
{
    return kind_of(entry) == EXTENT_DATA || kind_of(entry) == EXTENT_OPEN;
}

static uint64_t end_of(const struct entry *entry)
{
    return entry->block + entry->count;
}

/* The part from so many blocks on. */
static struct entry tail_of(const struct entry *entry, uint64_t blocks)
{
    struct entry tail = *entry;

    tail.block += blocks;
    tail.count -= (uint32_t)blocks;
    if (has_place(entry))
        tail.offset += (uint32_t)(blocks * UNIT_OFFSET);
    return tail;
}

static bool goes_on(const struct entry *first, const struct entry *second)
{
    if (first->seq_kind != second->seq_kind || end_of(first) != second->block ||
        (uint64_t)first->count + second->count > COUNT_MAX)
        return false;
    return !has_place(first) ||
           first->offset + (uint64_t)first->count * UNIT_OFFSET ==
               second->offset;
}

/* The first entry that ends behind block; the end of the last leaf: none.
 * There must be a leaf. */
static struct place find(const struct map *map, uint64_t block)
{
    unsigned low = 0, high = map->n;
    struct place place;
    const struct leaf *leaf;

    while (high - low > 1) {
        unsigned middle = low + (high - low) / 2;

        if (map->firsts[middle] <= block)
            low = middle;
        else
            high = middle;
    }
    place.leaf = low;
    leaf = map->leaves[low];
    low = 0;
    high = leaf->n;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;

        if (end_of(&leaf->entries[middle]) > block)
            high = middle;
        else
            low = middle + 1;
    }
    place.i = low;
    if (low == leaf->n && place.leaf + 1 < map->n) {
        place.leaf++;
        place.i = 0;
    }
    return place;
}

static void split_leaf(struct map *map, struct place *place)
{
    struct leaf *left = map->leaves[place->leaf];
    struct leaf *right = take_leaf(map);
    /* Appending at the very end is common, and leaves full leaves behind. */
    bool appends = place->i == left->n && place->leaf + 1 == map->n;
    unsigned keep = appends ? left->n - 1 : left->n / 2;

    right->n = left->n - keep;
    memcpy(right->entries, left->entries + keep,
           right->n * sizeof(struct entry));
    left->n = keep;
    insert_leaf(map, place->leaf + 1, right);
    map->firsts[place->leaf + 1] = right->entries[0].block;
    if (place->i > keep) {
        place->leaf++;
        place->i -= keep;
    }
}

static void insert(struct map *map, struct place place,
                   const struct entry *entry)
{
    struct leaf *leaf = map->leaves[place.leaf];

    if (leaf->n == LEAF_ENTRIES) {
        split_leaf(map, &place);
        leaf = map->leaves[place.leaf];
    }
    memmove(leaf->entries + place.i + 1, leaf->entries + place.i,
            (leaf->n - place.i) * sizeof(struct entry));
    leaf->entries[place.i] = *entry;
    leaf->n++;
    if (place.i == 0)
        map->firsts[place.leaf] = entry->block;
    map->extents++;
}

/* No entry shall lie on both sides of the block. */
static void cut(struct map *map, uint64_t block)
{
    struct place place = find(map, block);
    struct leaf *leaf = map->leaves[place.leaf];
    struct entry *entry = &leaf->entries[place.i];
    struct entry tail;

    if (place.i == leaf->n || entry->block >= block)
        return;
    tail = tail_of(entry, block - entry->block);
    entry->count = (uint32_t)(block - entry->block);
    place.i++;
    insert(map, place, &tail);
}

/* Removes what lies between two places of one leaf. */
static void remove_inside(struct map *map, unsigned at, unsigned from,
                          unsigned to)
{
    struct leaf *leaf = map->leaves[at];

    if (from >= to)
        return;
    memmove(leaf->entries + from, leaf->entries + to,
            (leaf->n - to) * sizeof(struct entry));
    leaf->n -= to - from;
    map->extents -= to - from;
    if (leaf->n == 0)
        remove_leaves(map, at, at + 1);
    else if (from == 0)
        map->firsts[at] = leaf->entries[0].block;
}

/* All entries from block to end, none of which is cut by either. */
static void clear(struct map *map, uint64_t block, uint64_t end)
{
    struct place from = find(map, block), to = find(map, end);

    if (from.leaf == to.leaf) {
        remove_inside(map, from.leaf, from.i, to.i);
        return;
    }
    for (unsigned i = from.leaf + 1; i < to.leaf; i++)
        map->extents -= map->leaves[i]->n;
    remove_inside(map, to.leaf, 0, to.i);
    remove_leaves(map, from.leaf + 1, to.leaf);
    remove_inside(map, from.leaf, from.i, map->leaves[from.leaf]->n);
}

static struct entry *entry_before(struct map *map, struct place place)
{
    if (place.i > 0)
        return &map->leaves[place.leaf]->entries[place.i - 1];
    if (place.leaf == 0)
        return NULL;
    return &map->leaves[place.leaf - 1]
                ->entries[map->leaves[place.leaf - 1]->n - 1];
}

/* Adds it where nothing is, as a part of its neighbours if it goes on with
 * them. */
static void add(struct map *map, const struct entry *entry)
{
    struct place place = {0, 0};
    struct entry *before, *after = NULL;

    if (map->n == 0) {
        struct leaf *leaf = take_leaf(map);

        insert_leaf(map, 0, leaf);
        insert(map, place, entry);
        return;
    }
    place = find(map, entry->block);
    before = entry_before(map, place);
    if (place.i < map->leaves[place.leaf]->n)
        after = &map->leaves[place.leaf]->entries[place.i];
    if (before && goes_on(before, entry)) {
        before->count += entry->count;
        if (after && goes_on(before, after)) {
            before->count += after->count;
            remove_inside(map, place.leaf, place.i, place.i + 1);
        }
    } else if (after && goes_on(entry, after)) {
        uint32_t count = after->count;

        *after = *entry;
        after->count += count;
        if (place.i == 0)
            map->firsts[place.leaf] = after->block;
    } else {
        /* At the end of the leaf before, rather than at the begin of this one,
         * if that has room: firsts stay as they are. */
        insert(map, place, entry);
    }
}

void map_set(struct map *map, const struct extent *extent)
{
    uint64_t end = extent->block + extent->count;
    struct entry entry = {
        .block = extent->block,
        .seq_kind = extent->seq << 2 | extent->kind,
        .offset = extent->offset,
    };
    uint64_t left = extent->count;

    if (left == 0)
        return;
    if (map->n > 0) {
        cut(map, extent->block);
        cut(map, end);
        clear(map, extent->block, end);
    }
    if (extent->kind == EXTENT_HOLE)
        return;
    assert(extent->kind == EXTENT_ZERO || left <= COUNT_MAX);
    if (extent->kind == EXTENT_ZERO)
        entry.seq_kind = EXTENT_ZERO, entry.offset = 0;
    while (left > 0) {
        entry.count = left < COUNT_MAX ? (uint32_t)left : COUNT_MAX;
        add(map, &entry);
        entry.block += entry.count;
        left -= entry.count;
    }
}

struct extent map_at(const struct map *map, uint64_t block, uint64_t end)
{
    struct extent extent = {
        .block = block, .count = end - block, .kind = EXTENT_HOLE};
    struct place place;
    const struct leaf *leaf;
    struct entry entry;

    if (map->n == 0)
        return extent;
    place = find(map, block);
    leaf = map->leaves[place.leaf];
    if (place.i == leaf->n)
        return extent;
    entry = leaf->entries[place.i];
    if (entry.block > block) {
        if (entry.block < end)
            extent.count = entry.block - block;
        return extent;
    }
    entry = tail_of(&entry, block - entry.block);
    extent.kind = kind_of(&entry);
    extent.seq = entry.seq_kind >> 2;
    extent.offset = entry.offset;
    if (entry.count < extent.count)
        extent.count = entry.count;
    return extent;
}

void map_seal(struct map *map, uint64_t block, uint64_t count, uint32_t delta)
{
    uint64_t end = block + count;
    struct place place;

    if (map->n == 0)
        return;
    for (place = find(map, block); place.leaf < map->n;
         place.leaf++, place.i = 0) {
        struct leaf *leaf = map->leaves[place.leaf];

        for (; place.i < leaf->n; place.i++) {
            struct entry *entry = &leaf->entries[place.i];

            if (entry->block >= end)
                return;
            if (kind_of(entry) != EXTENT_OPEN)
                continue;
            entry->seq_kind = (entry->seq_kind & ~UINT64_C(3)) | EXTENT_DATA;
            entry->offset += delta;
        }
    }
}

uint64_t map_extents(const struct map *map)
{
    return map->extents;
}

uint64_t map_bytes(const struct map *map)
{
    return sizeof *map +
           (uint64_t)(map->n + map->free_n) * sizeof(struct leaf) +
           map->size * (sizeof(struct leaf *) + sizeof(uint64_t));
}
