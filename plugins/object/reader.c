/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* See reader.h.
 *
 *     look_up() -> holes, the writer's memory, the cache: at once
 *               -> what is coming into the cache: waiter, then look_up() again
 *               -> fetches: waiting -> fetching -> verified
 *
 * A read ends when the last of its waiters and fetches has. */
#include "reader.h"

#include "fetch.h"
#include "volume.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* For what is coming into the cache. */
struct waiter {
    struct list link; /* in the line's */
    struct reader_read *read;
    uint64_t block, count;
};

static void go_on(struct reader *reader);
static void look_up(struct reader *reader, struct reader_read *read,
                    uint64_t block, uint64_t end);

int reader_init(struct reader *reader, struct volume *volume, uint64_t memory,
                uint64_t ahead)
{
    memset(reader, 0, sizeof *reader);
    reader->volume = volume;
    reader->readahead.max = ahead / BLOCK_SIZE;
    list_init(&reader->waiting);
    list_init(&reader->waiting_ahead);
    list_init(&reader->fetching);
    return cache_init(&reader->cache, memory);
}

void reader_finish(struct reader *reader)
{
    cache_finish(&reader->cache);
}

/* --- the end of a read --- */

__attribute__((format(printf, 4, 5))) static void read_failed(
    struct reader_read *read, int error, uint64_t block, const char *format,
    ...)
{
    va_list args;

    if (read->error)
        return;
    read->error = error;
    read->error_block = block;
    va_start(args, format);
    vsnprintf(read->why, sizeof read->why, format, args);
    va_end(args);
}

/* One of what it waits for has ended. */
static void read_part_ended(struct reader *reader, struct reader_read *read)
{
    if (--read->fetches > 0)
        return;
    reader->under_way -= read->count;
    read->done(read);
}

/* --- what is to be fetched --- */

/* Units in a row, cut to what one GET brings.  A fetch that comes to be joins
 * the queue. */
static bool want(struct reader *reader, struct reader_read *read,
                 struct fetch **last, struct extent extent)
{
    struct list *queue = read ? &reader->waiting : &reader->waiting_ahead;
    uint64_t offset = (uint64_t)extent.offset * 8;

    while (extent.count > 0) {
        uint64_t n = READER_GET_MAX / UNIT_SIZE;

        n = n < extent.count ? n : extent.count;
        if (!*last || !fetch_takes(*last, extent.seq, offset, n * UNIT_SIZE)) {
            *last = fetch_new(reader, read, extent.seq, offset);
            if (!*last)
                return false;
            list_append(queue, &(*last)->link);
            if (read)
                read->fetches++;
        }
        if (!fetch_add(*last, extent.block, n, offset))
            return false;
        extent.block += n;
        extent.count -= n;
        offset += n * UNIT_SIZE;
    }
    return true;
}

/* The first `count` units of the extent, and what is left of it. */
static struct extent split(struct extent *extent, uint64_t count)
{
    struct extent head = *extent;

    head.count = count;
    extent->block += count;
    extent->count -= count;
    extent->offset += (uint32_t)(count * UNIT_SIZE / 8);
    return head;
}

static bool copy_from_memory(struct reader *reader,
                             const struct reader_read *read,
                             const struct extent *extent)
{
    const struct writer *writer = &reader->volume->writer;

    for (uint64_t i = 0; i < extent->count; i++)
        if (!writer_copy(writer, extent->seq,
                         (uint64_t)extent->offset * 8 + i * UNIT_SIZE,
                         reader_place(read, extent->block + i), BLOCK_SIZE)) {
            assert(i == 0 && extent->kind == EXTENT_DATA);
            return false;
        }
    return true;
}

/* --- the cache --- */

static bool copy_from_cache(struct reader *reader,
                            const struct reader_read *read,
                            struct cache_line *line,
                            const struct extent *extent)
{
    uint64_t unit = cache_unit((uint64_t)extent->offset * 8);
    const uint8_t *bytes = cache_get(line, unit);

    if (!bytes)
        return false;
    if (!unit_verify(bytes, reader->volume->superblock.uuid, extent->seq,
                     extent->block)) {
        reader->damaged++;
        cache_drop(line, unit);
        return false;
    }
    memcpy(reader_place(read, extent->block), bytes, BLOCK_SIZE);
    return true;
}

/* As many units from the extent's begin on as are coming in this line. */
static uint64_t coming(const struct cache_line *line,
                       const struct extent *extent)
{
    uint64_t unit = cache_unit((uint64_t)extent->offset * 8);
    uint64_t n = 0;

    while (n < extent->count && (unit + n) / CACHE_UNITS == line->number &&
           cache_is_coming(line, unit + n))
        n++;
    return n;
}

static bool wait_for(struct reader_read *read, struct cache_line *line,
                     const struct extent *extent)
{
    struct waiter *waiter = malloc(sizeof *waiter);

    if (!waiter)
        return false;
    *waiter = (struct waiter){
        .read = read, .block = extent->block, .count = extent->count};
    list_append(&line->waiters, &waiter->link);
    read->fetches++;
    return true;
}

/* All that was coming in the line has come, or won't. */
static void tell_waiters(struct reader *reader, struct cache_line *line)
{
    struct list told;
    struct list *link;

    list_init(&told);
    list_append_all(&told, &line->waiters);
    while ((link = list_take_first(&told))) {
        struct waiter waiter = *container_of(link, struct waiter, link);
        struct reader_read *read = waiter.read;

        free(container_of(link, struct waiter, link));
        if (volume_check(reader->volume))
            read_failed(read, volume_check(reader->volume), waiter.block, "%s",
                        reader->volume->why);
        else
            look_up(reader, read, waiter.block, waiter.block + waiter.count);
        read_part_ended(reader, read);
    }
}

/* The units of an extent that is in the store: from the cache, or to be waited
 * for, or to be fetched. */
static bool look_up_stored(struct reader *reader, struct reader_read *read,
                           struct fetch **last, struct extent extent)
{
    struct cache *cache = &reader->cache;

    if (cache->slabs_n == 0) {
        cache->misses += extent.count;
        return want(reader, read, last, extent);
    }
    while (extent.count > 0) {
        uint64_t unit = cache_unit((uint64_t)extent.offset * 8);
        struct cache_line *line = cache_find(cache, extent.seq, unit);
        uint64_t n = line ? coming(line, &extent) : 0;
        struct extent head;

        if (n > 0) {
            head = split(&extent, n);
            if (!wait_for(read, line, &head))
                return false;
            continue;
        }
        head = split(&extent, 1);
        if (line && copy_from_cache(reader, read, line, &head)) {
            cache->hits++;
        } else {
            cache->misses++;
            if (!want(reader, read, last, head))
                return false;
        }
    }
    return true;
}

/* Fills in what is known at once, and queues fetches for the rest. */
static void look_up(struct reader *reader, struct reader_read *read,
                    uint64_t block, uint64_t end)
{
    struct fetch *last = NULL;

    while (block < end) {
        struct extent extent = map_at(reader->volume->map, block, end);

        if (extent.kind == EXTENT_HOLE || extent.kind == EXTENT_ZERO) {
            for (uint64_t i = 0; i < extent.count; i++)
                memset(reader_place(read, block + i), 0, BLOCK_SIZE);
        } else if (!copy_from_memory(reader, read, &extent) &&
                   !look_up_stored(reader, read, &last, extent)) {
            read_failed(read, ENOMEM, block, "no memory");
            return;
        }
        block += extent.count;
    }
}

/* --- ahead --- */

/* The next units of the extent that can be fetched ahead in a row, in one GET;
 * 0: the first is here, or coming, or there is no room. */
static uint64_t expect(struct reader *reader, const struct extent *extent,
                       bool *ret_full)
{
    struct cache *cache = &reader->cache;
    uint64_t unit = cache_unit((uint64_t)extent->offset * 8);
    uint64_t n = 0;

    for (; n < extent->count && n < READER_GET_MAX / UNIT_SIZE; n++) {
        const struct cache_line *line =
            cache_find(cache, extent->seq, unit + n);

        if (line &&
            (cache_is_coming(line, unit + n) || cache_has(line, unit + n)))
            return n;
        if (!cache_expect(cache, extent->seq, unit + n)) {
            *ret_full = true;
            return n;
        }
    }
    return n;
}

/* They are in no fetch, and nobody has seen that they were expected. */
static void forget(struct reader *reader, const struct extent *extent)
{
    uint64_t unit = cache_unit((uint64_t)extent->offset * 8);

    for (uint64_t i = 0; i < extent->count; i++)
        cache_came(&reader->cache, extent->seq, unit + i, false);
}

static bool look_ahead(struct reader *reader, struct fetch **last,
                       struct extent extent)
{
    bool is_full = false;

    while (extent.count > 0 && !is_full) {
        uint64_t n = expect(reader, &extent, &is_full);
        struct extent head = split(&extent, n ? n : 1);

        if (n > 0 && !want(reader, NULL, last, head)) {
            forget(reader, &head);
            return false;
        }
    }
    return !is_full;
}

void reader_look_ahead(struct reader *reader, uint64_t block, uint64_t end)
{
    struct fetch *last = NULL;

    while (block < end) {
        struct extent extent = map_at(reader->volume->map, block, end);

        if (extent.kind == EXTENT_DATA &&
            extent.seq <= reader->volume->writer.committed &&
            !look_ahead(reader, &last, extent))
            break;
        block += extent.count;
    }
    go_on(reader);
}

/* Its units have come, or they have not: who waits for them looks again. */
static void ahead_ended(struct fetch *fetch, bool is_here)
{
    struct reader *reader = fetch->reader;

    for (unsigned i = 0; i < fetch->pieces_n; i++) {
        const struct fetch_piece *piece = &fetch->pieces[i];
        uint64_t unit = cache_unit(fetch->offset + piece->at);

        for (uint32_t k = 0; k < piece->count; k++) {
            struct cache_line *line =
                cache_came(&reader->cache, fetch->seq, unit + k, is_here);

            if (!line->coming)
                tell_waiters(reader, line);
        }
    }
}

/* --- fetching --- */

static void fetch_ended(struct fetch *fetch, bool is_here)
{
    struct reader *reader = fetch->reader;
    struct reader_read *read = fetch->read;

    list_remove(&fetch->link);
    reader->fetching_n--;
    if (read) {
        read_part_ended(reader, read);
    } else {
        reader->fetching_ahead--;
        ahead_ended(fetch, is_here);
    }
    fetch_free(fetch);
    go_on(reader);
    if (reader->fetching_n == 0)
        volume_idle(reader->volume);
}

static void on_get(struct store_call *call);

/* True: it is sent once more. */
static bool try_again(struct fetch *fetch)
{
    fetch->reader->damaged++;
    if (++fetch->tries >= READER_TRIES ||
        volume_check(fetch->reader->volume) != 0)
        return false;
    fetch_send(fetch, on_get);
    return true;
}

static void on_get(struct store_call *call)
{
    struct fetch *fetch = call->arg;
    uint64_t first = fetch->pieces[0].block, damaged;
    bool is_whole = call->result == STORE_OK && call->got == fetch->length;

    if (call->result == STORE_OK)
        fetch->reader->bytes_read += call->got;
    if (!fetch->read) {
        fetch_ended(fetch, is_whole);
        return;
    }
    if (call->result != STORE_OK) {
        /* No object of the log is ever deleted yet, so that one is missing is
         * no reason to look it up again. */
        read_failed(fetch->read, EIO, first, "log object %llu: %s",
                    (unsigned long long)fetch->seq, call->why);
    } else {
        damaged = is_whole ? fetch_verify(fetch) : first;
        if (damaged != UINT64_MAX) {
            if (try_again(fetch))
                return;
            read_failed(fetch->read, EIO, damaged, "log object %llu is damaged",
                        (unsigned long long)fetch->seq);
        }
    }
    fetch_ended(fetch, false);
}

/* The next one whose turn it is; NULL: it is nobody's. */
static struct fetch *next_fetch(struct reader *reader)
{
    unsigned gets = reader->volume->options.gets;

    if (reader->fetching_n >= gets)
        return NULL;
    if (!list_is_empty(&reader->waiting))
        return list_first(&reader->waiting, struct fetch, link);
    /* Those who wait already shall not find all GETs taken. */
    if (reader->fetching_ahead >= (gets + 1) / 2 ||
        volume_check(reader->volume) != 0)
        return NULL;
    return list_first(&reader->waiting_ahead, struct fetch, link);
}

/* Starts what there is room for. */
static void go_on(struct reader *reader)
{
    struct fetch *fetch;

    while ((fetch = next_fetch(reader))) {
        list_remove(&fetch->link);
        list_append(&reader->fetching, &fetch->link);
        reader->fetching_n++;
        if (!fetch->read)
            reader->fetching_ahead++;
        /* Without a piece there was no memory for it. */
        if ((fetch->read && fetch->read->error) || fetch->pieces_n == 0 ||
            !fetch_prepare(fetch)) {
            if (fetch->read)
                read_failed(fetch->read, ENOMEM, fetch->read->block,
                            "no memory");
            fetch_ended(fetch, false);
            return; /* it went on itself */
        }
        fetch_send(fetch, on_get);
    }
}

bool reader_start(struct reader *reader, struct reader_read *read)
{
    int err = volume_check(reader->volume);

    read->error = 0;
    read->fetches = 1; /* held until all are queued */
    read->why[0] = '\0';
    if (err)
        read_failed(read, err, read->block, "%s", reader->volume->why);
    else
        look_up(reader, read, read->block, read->block + read->count);
    reader->under_way += read->count;
    if (!err && read->reads_on)
        readahead_note(reader, read->block, read->count);
    go_on(reader);
    if (--read->fetches > 0)
        return false;
    reader->under_way -= read->count;
    return true;
}

void reader_stop_ahead(struct reader *reader)
{
    struct list *link;

    while ((link = list_take_first(&reader->waiting_ahead))) {
        struct fetch *fetch = container_of(link, struct fetch, link);

        ahead_ended(fetch, false);
        fetch_free(fetch);
    }
    list_for_each_safe (at, &reader->fetching) {
        struct fetch *fetch = container_of(at, struct fetch, link);

        if (!fetch->read)
            store_cancel(reader->volume->store, &fetch->call);
    }
}

void reader_abandon(struct reader *reader, int error)
{
    struct list *link;

    while ((link = list_take_first(&reader->waiting))) {
        struct fetch *fetch = container_of(link, struct fetch, link);
        struct reader_read *read = fetch->read;

        read_failed(read, error, read->block, "%s", reader->volume->why);
        fetch_free(fetch);
        read_part_ended(reader, read);
    }
    list_for_each_safe (at, &reader->fetching) {
        struct fetch *fetch = container_of(at, struct fetch, link);

        if (fetch->read)
            store_cancel(reader->volume->store, &fetch->call);
    }
    reader_stop_ahead(reader);
}
