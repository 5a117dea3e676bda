/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* See reader.h. */
#include "reader.h"

#include "volume.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A part of an object that is fetched, and which of the read's blocks are
 * where in it. */
struct piece {
    uint64_t block;
    uint32_t count;
    uint32_t at; /* bytes from the begin of the fetch */
};

struct fetch {
    struct list link;
    struct reader *reader;
    struct reader_read *read;
    uint64_t seq, offset, length; /* bytes in the object */
    struct piece *pieces;
    unsigned pieces_n, pieces_size;
    uint8_t *buffer; /* while it is fetched */
    unsigned tries;
    char name[NAME_SIZE];
    struct store_call call;
};

static void go_on(struct reader *reader);

void reader_init(struct reader *reader, struct volume *volume, uint64_t memory)
{
    reader->volume = volume;
    reader->memory = memory;
    list_init(&reader->waiting);
    list_init(&reader->fetching);
}

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

static void fetch_free(struct fetch *fetch)
{
    free(fetch->buffer);
    free(fetch->pieces);
    free(fetch);
}

/* --- what is to be fetched --- */

static bool add_piece(struct fetch *fetch, uint64_t block, uint64_t count,
                      uint64_t offset)
{
    if (fetch->pieces_n == fetch->pieces_size) {
        unsigned size = fetch->pieces_size ? fetch->pieces_size * 2 : 4;
        struct piece *pieces = realloc(fetch->pieces, size * sizeof *pieces);

        if (!pieces)
            return false;
        fetch->pieces = pieces;
        fetch->pieces_size = size;
    }
    fetch->pieces[fetch->pieces_n++] =
        (struct piece){.block = block,
                       .count = (uint32_t)count,
                       .at = (uint32_t)(offset - fetch->offset)};
    fetch->length = offset - fetch->offset + count * UNIT_SIZE;
    return true;
}

/* Does it go on with what this one fetches? */
static bool belongs_to(const struct fetch *fetch, uint64_t seq, uint64_t offset,
                       uint64_t length)
{
    uint64_t end = fetch->offset + fetch->length;

    return fetch->seq == seq && offset >= end &&
           offset - end <= READER_GAP_MAX &&
           offset + length - fetch->offset <= READER_GET_MAX;
}

static struct fetch *new_fetch(struct reader *reader, struct reader_read *read,
                               uint64_t seq, uint64_t offset)
{
    struct fetch *fetch = calloc(1, sizeof *fetch);

    if (!fetch)
        return NULL;
    fetch->reader = reader;
    fetch->read = read;
    fetch->seq = seq;
    fetch->offset = offset;
    list_append(&reader->waiting, &fetch->link);
    read->fetches++;
    return fetch;
}

/* Blocks of one object in a row, cut to what one GET brings. */
static bool want(struct reader *reader, struct reader_read *read,
                 struct fetch **last, struct extent extent)
{
    uint64_t offset = (uint64_t)extent.offset * 8;

    while (extent.count > 0) {
        uint64_t n = READER_GET_MAX / UNIT_SIZE;

        n = n < extent.count ? n : extent.count;
        if (!*last || !belongs_to(*last, extent.seq, offset, n * UNIT_SIZE))
            *last = new_fetch(reader, read, extent.seq, offset);
        if (!*last || !add_piece(*last, extent.block, n, offset))
            return false;
        extent.block += n;
        extent.count -= n;
        offset += n * UNIT_SIZE;
    }
    return true;
}

static void copy_from_memory(struct reader *reader, const struct extent *extent,
                             uint8_t *to, bool *ret_here)
{
    const struct writer *writer = &reader->volume->writer;

    *ret_here = true;
    for (uint64_t i = 0; i < extent->count && *ret_here; i++)
        *ret_here = writer_copy(writer, extent->seq,
                                (uint64_t)extent->offset * 8 + i * UNIT_SIZE,
                                to + i * BLOCK_SIZE, BLOCK_SIZE);
    assert(*ret_here || extent->kind == EXTENT_DATA);
}

/* Fills in what is known at once, and queues fetches for the rest. */
static void look_up(struct reader *reader, struct reader_read *read,
                    uint64_t block, uint64_t end)
{
    struct fetch *last = NULL;

    while (block < end) {
        struct extent extent = map_at(reader->volume->map, block, end);
        uint8_t *to = read->into + (block - read->block) * BLOCK_SIZE;
        bool here;

        if (extent.kind == EXTENT_HOLE || extent.kind == EXTENT_ZERO) {
            memset(to, 0, extent.count * BLOCK_SIZE);
        } else {
            copy_from_memory(reader, &extent, to, &here);
            if (!here && !want(reader, read, &last, extent)) {
                read_failed(read, ENOMEM, block, "no memory");
                return;
            }
        }
        block += extent.count;
    }
}

/* --- fetching --- */

/* The damaged block, or UINT64_MAX. */
static uint64_t unpack(struct fetch *fetch)
{
    const struct reader_read *read = fetch->read;
    const uint8_t *uuid = fetch->reader->volume->superblock.uuid;

    for (unsigned i = 0; i < fetch->pieces_n; i++) {
        const struct piece *piece = &fetch->pieces[i];

        for (uint32_t k = 0; k < piece->count; k++) {
            const uint8_t *unit =
                fetch->buffer + piece->at + (uint64_t)k * UNIT_SIZE;
            uint64_t block = piece->block + k;

            if (!unit_verify(unit, uuid, fetch->seq, block))
                return block;
            memcpy(read->into + (block - read->block) * BLOCK_SIZE, unit,
                   BLOCK_SIZE);
        }
    }
    return UINT64_MAX;
}

static void fetch_ended(struct fetch *fetch)
{
    struct reader *reader = fetch->reader;
    struct reader_read *read = fetch->read;

    list_remove(&fetch->link);
    reader->fetching_n--;
    reader->memory_used -= fetch->length;
    fetch_free(fetch);
    if (--read->fetches == 0)
        read->done(read);
    go_on(reader);
    if (reader->fetching_n == 0 && reader->volume->state != VOLUME_SERVING)
        volume_idle(reader->volume);
}

static void send_get(struct fetch *fetch);

static void on_get(struct store_call *call)
{
    struct fetch *fetch = call->arg;
    uint64_t first = fetch->pieces[0].block;
    uint64_t damaged;

    if (call->result != STORE_OK) {
        /* No object of the log is ever deleted yet, so that one is missing is
         * no reason to look it up again. */
        read_failed(fetch->read, EIO, first, "log object %llu: %s",
                    (unsigned long long)fetch->seq, call->why);
    } else {
        fetch->reader->bytes_read += call->got;
        damaged = call->got < fetch->length ? first : unpack(fetch);
        if (damaged != UINT64_MAX) {
            fetch->reader->damaged++;
            if (++fetch->tries < READER_TRIES &&
                volume_check(fetch->reader->volume) == 0) {
                send_get(fetch);
                return;
            }
            read_failed(fetch->read, EIO, damaged, "log object %llu is damaged",
                        (unsigned long long)fetch->seq);
        }
    }
    fetch_ended(fetch);
}

static void send_get(struct fetch *fetch)
{
    struct store_call *call = &fetch->call;

    memset(call, 0, sizeof *call);
    call->verb = STORE_GET;
    call->name = fetch->name;
    call->offset = fetch->offset;
    call->length = fetch->length;
    call->into = fetch->buffer;
    call->into_max = fetch->length;
    call->done = on_get;
    call->arg = fetch;
    store_start(fetch->reader->volume->store, call);
}

/* Starts what there is room for. */
static void go_on(struct reader *reader)
{
    const struct volume *volume = reader->volume;

    while (!list_is_empty(&reader->waiting)) {
        struct fetch *fetch =
            container_of(reader->waiting.next, struct fetch, link);

        if (reader->fetching_n >= volume->options.gets ||
            (reader->fetching_n > 0 &&
             reader->memory_used + fetch->length > reader->memory))
            return;
        list_remove(&fetch->link);
        list_append(&reader->fetching, &fetch->link);
        reader->fetching_n++;
        reader->memory_used += fetch->length;
        fetch->buffer = malloc(fetch->length);
        if (!fetch->buffer || fetch->read->error) {
            read_failed(fetch->read, ENOMEM, fetch->pieces[0].block,
                        "no memory");
            fetch_ended(fetch);
            return; /* it went on itself */
        }
        name_log(fetch->name, volume->superblock.uuid,
                 volume_epoch_of(volume, fetch->seq), fetch->seq);
        send_get(fetch);
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
    if (read->fetches == 1)
        return true;
    go_on(reader);
    return --read->fetches == 0;
}

void reader_abandon(struct reader *reader, int error)
{
    struct list *link;

    while ((link = list_take_first(&reader->waiting))) {
        struct fetch *fetch = container_of(link, struct fetch, link);
        struct reader_read *read = fetch->read;

        read_failed(read, error, fetch->pieces_n ? fetch->pieces[0].block : 0,
                    "%s", reader->volume->why);
        fetch_free(fetch);
        if (--read->fetches == 0)
            read->done(read);
    }
    list_for_each_safe (at, &reader->fetching) {
        struct fetch *fetch = container_of(at, struct fetch, link);

        store_cancel(reader->volume->store, &fetch->call);
    }
}
