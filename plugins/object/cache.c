/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* See cache.h.  Lines are replaced by a clock: the hand passes over those that
 * were used since it came by, and takes the first that was not. */
#include "cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLAB_SIZE (UINT64_C(1) << 20)
#define LINE_SIZE ((uint64_t)CACHE_UNITS * UNIT_SIZE)

_Static_assert(CACHE_LINES *LINE_SIZE <= SLAB_SIZE, "lines fit into a slab");
_Static_assert(SLAB_SIZE <= ABD_BUFFER_MAX, "a slab is one buffer");

struct cache_slab {
    struct list link;
    uint8_t *memory;
    struct cache_line lines[CACHE_LINES];
};

static void press(void *arg);

int cache_init(struct cache *cache, uint64_t max)
{
    unsigned lines = (unsigned)(max / SLAB_SIZE) * CACHE_LINES;

    memset(cache, 0, sizeof *cache);
    cache->max = max;
    list_init(&cache->slabs);
    list_init(&cache->free_lines);
    cache->hash_size = 64;
    while (cache->hash_size < lines && cache->hash_size < 1U << 20)
        cache->hash_size *= 2;
    cache->hash = malloc(cache->hash_size * sizeof *cache->hash);
    if (!cache->hash)
        return ENOMEM;
    for (unsigned i = 0; i < cache->hash_size; i++)
        list_init(&cache->hash[i]);
    abd_pressure_start(&cache->pressure, press, cache);
    return 0;
}

static void slab_free(struct cache *cache, struct cache_slab *slab)
{
    for (unsigned i = 0; i < CACHE_LINES; i++)
        list_remove(&slab->lines[i].hash_link);
    if (cache->hand == slab)
        cache->hand = NULL;
    list_remove(&slab->link);
    cache->slabs_n--;
    abd_buffer_give(slab->memory, SLAB_SIZE, ABD_BUFFER_SPARE);
    free(slab);
}

void cache_finish(struct cache *cache)
{
    if (!cache->hash)
        return;
    abd_pressure_stop(&cache->pressure);
    while (!list_is_empty(&cache->slabs))
        slab_free(cache, list_first(&cache->slabs, struct cache_slab, link));
    free(cache->hash);
    cache->hash = NULL;
}

uint64_t cache_bytes(const struct cache *cache)
{
    return cache->slabs_n * SLAB_SIZE;
}

/* --- finding --- */

static struct list *bucket(const struct cache *cache, uint64_t seq,
                           uint64_t number)
{
    uint64_t mix = (seq * UINT64_C(0x9e3779b97f4a7c15)) ^
                   (number * UINT64_C(0xc2b2ae3d27d4eb4f));

    return &cache->hash[(mix >> 32) & (cache->hash_size - 1)];
}

static unsigned bit_of(uint64_t unit)
{
    return 1U << unit % CACHE_UNITS;
}

static uint8_t *place_of(const struct cache_line *line, uint64_t unit)
{
    return line->units + unit % CACHE_UNITS * UNIT_SIZE;
}

struct cache_line *cache_find(const struct cache *cache, uint64_t seq,
                              uint64_t unit)
{
    uint64_t number = unit / CACHE_UNITS;

    list_for_each (link, bucket(cache, seq, number)) {
        struct cache_line *line =
            container_of(link, struct cache_line, hash_link);

        if (line->seq == seq && line->number == number)
            return line;
    }
    return NULL;
}

bool cache_is_coming(const struct cache_line *line, uint64_t unit)
{
    return line->coming & bit_of(unit);
}

const uint8_t *cache_get(struct cache_line *line, uint64_t unit)
{
    if (!(line->present & bit_of(unit)))
        return NULL;
    line->used = true;
    return place_of(line, unit);
}

/* --- making room --- */

static void line_clear(struct cache *cache, struct cache_line *line)
{
    list_remove(&line->hash_link);
    line->present = 0;
    line->used = false;
    list_append(&cache->free_lines, &line->hash_link);
}

static bool add_slab(struct cache *cache)
{
    struct cache_slab *slab;

    if ((cache->slabs_n + 1) * SLAB_SIZE > cache->max)
        return false;
    slab = calloc(1, sizeof *slab);
    if (!slab)
        return false;
    slab->memory = abd_buffer_take(SLAB_SIZE, ABD_BUFFER_SPARE);
    if (!slab->memory) {
        free(slab);
        return false;
    }
    for (unsigned i = 0; i < CACHE_LINES; i++) {
        struct cache_line *line = &slab->lines[i];

        line->slab = slab;
        line->units = slab->memory + i * LINE_SIZE;
        list_init(&line->waiters);
        list_append(&cache->free_lines, &line->hash_link);
    }
    list_append(&cache->slabs, &slab->link);
    cache->slabs_n++;
    return true;
}

static void move_hand(struct cache *cache)
{
    struct list *next;

    if (cache->hand && ++cache->hand_line < CACHE_LINES)
        return;
    cache->hand_line = 0;
    next = cache->hand ? cache->hand->link.next : cache->slabs.next;
    if (next == &cache->slabs)
        next = next->next;
    cache->hand = container_of(next, struct cache_slab, link);
}

/* NULL: all of them are being fetched. */
static struct cache_line *replace(struct cache *cache)
{
    /* Twice around: the first time all may have been used. */
    for (unsigned n = 2 * cache->slabs_n * CACHE_LINES; n > 0; n--) {
        struct cache_line *line;

        move_hand(cache);
        line = &cache->hand->lines[cache->hand_line];
        if (!line->coming && !line->used) {
            line_clear(cache, line);
            return line;
        }
        line->used = false;
    }
    return NULL;
}

static struct cache_line *new_line(struct cache *cache, uint64_t seq,
                                   uint64_t unit)
{
    struct cache_line *line;

    if (list_is_empty(&cache->free_lines) && !add_slab(cache) &&
        !replace(cache))
        return NULL;
    line = list_first(&cache->free_lines, struct cache_line, hash_link);
    list_remove(&line->hash_link);
    line->seq = seq;
    line->number = unit / CACHE_UNITS;
    list_append(bucket(cache, seq, line->number), &line->hash_link);
    return line;
}

static bool is_idle(const struct cache_slab *slab)
{
    for (unsigned i = 0; i < CACHE_LINES; i++)
        if (slab->lines[i].coming)
            return false;
    return true;
}

/* Requests wait for memory: one slab at a time is given back, the one that the
 * hand comes to next. */
static void press(void *arg)
{
    struct cache *cache = arg;

    for (unsigned n = cache->slabs_n; n > 0; n--) {
        cache->hand_line = CACHE_LINES;
        move_hand(cache);
        if (is_idle(cache->hand)) {
            slab_free(cache, cache->hand);
            return;
        }
    }
}

/* --- units --- */

void cache_drop(struct cache_line *line, uint64_t unit)
{
    line->present &= (uint16_t)~bit_of(unit);
}

uint8_t *cache_expect(struct cache *cache, uint64_t seq, uint64_t unit)
{
    struct cache_line *line = cache_find(cache, seq, unit);

    if (!line)
        line = new_line(cache, seq, unit);
    if (!line)
        return NULL;
    line->coming |= (uint16_t)bit_of(unit);
    return place_of(line, unit);
}

struct cache_line *cache_came(struct cache *cache, uint64_t seq, uint64_t unit,
                              bool is_here)
{
    struct cache_line *line = cache_find(cache, seq, unit);

    line->coming &= (uint16_t)~bit_of(unit);
    if (is_here)
        line->present |= (uint16_t)bit_of(unit);
    return line;
}

void cache_put(struct cache *cache, uint64_t seq, uint64_t unit,
               const uint8_t *data, const uint8_t check[8])
{
    struct cache_line *line = cache_find(cache, seq, unit);
    uint8_t *to;

    if (line && (line->coming | line->present) & bit_of(unit))
        return;
    if (!line)
        line = new_line(cache, seq, unit);
    if (!line)
        return;
    to = place_of(line, unit);
    memcpy(to, data, BLOCK_SIZE);
    memcpy(to + BLOCK_SIZE, check, UNIT_SIZE - BLOCK_SIZE);
    line->present |= (uint16_t)bit_of(unit);
}
