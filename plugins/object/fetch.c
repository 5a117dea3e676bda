/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* See fetch.h. */
#include "fetch.h"

#include "volume.h"

#include <stdlib.h>
#include <string.h>

#define CHECK_SIZE (UNIT_SIZE - BLOCK_SIZE)

struct fetch *fetch_new(struct reader *reader, struct reader_read *read,
                        uint64_t seq, uint64_t offset)
{
    struct fetch *fetch = calloc(1, sizeof *fetch);

    if (!fetch)
        return NULL;
    fetch->reader = reader;
    fetch->read = read;
    fetch->seq = seq;
    fetch->offset = offset;
    return fetch;
}

void fetch_free(struct fetch *fetch)
{
    free(fetch->places);
    free(fetch->checks);
    free(fetch->gap);
    free(fetch->pieces);
    free(fetch);
}

bool fetch_takes(const struct fetch *fetch, uint64_t seq, uint64_t offset,
                 uint64_t length)
{
    uint64_t end = fetch->offset + fetch->length;

    return fetch->seq == seq && offset >= end &&
           offset - end <= READER_GAP_MAX &&
           offset + length - fetch->offset <= READER_GET_MAX;
}

/* Does it lie right behind the last piece, in the object and in the read? */
static bool goes_on(const struct fetch *fetch, uint64_t block, uint64_t offset)
{
    const struct fetch_piece *last;

    if (fetch->pieces_n == 0)
        return false;
    last = &fetch->pieces[fetch->pieces_n - 1];
    return block == last->block + last->count &&
           offset == fetch->offset + fetch->length;
}

bool fetch_add(struct fetch *fetch, uint64_t block, uint64_t count,
               uint64_t offset)
{
    if (goes_on(fetch, block, offset)) {
        fetch->pieces[fetch->pieces_n - 1].count += (uint32_t)count;
    } else {
        if (fetch->pieces_n == fetch->pieces_size) {
            unsigned size = fetch->pieces_size ? fetch->pieces_size * 2 : 4;
            struct fetch_piece *pieces =
                realloc(fetch->pieces, size * sizeof *pieces);

            if (!pieces)
                return false;
            fetch->pieces = pieces;
            fetch->pieces_size = size;
        }
        fetch->pieces[fetch->pieces_n++] =
            (struct fetch_piece){.block = block,
                                 .count = (uint32_t)count,
                                 .at = (uint32_t)(offset - fetch->offset)};
    }
    fetch->units += count;
    fetch->length = offset - fetch->offset + count * UNIT_SIZE;
    return true;
}

/* --- places --- */

uint8_t *reader_place(const struct reader_read *read, uint64_t block)
{
    uint64_t i = block - read->block;

    if (i == 0 && read->first)
        return read->first;
    if (i == read->count - 1 && read->last)
        return read->last;
    return read->into + (i - (read->first ? 1 : 0)) * BLOCK_SIZE;
}

struct layout {
    struct fetch *fetch;
    unsigned n;
};

static void add_place(struct layout *layout, void *at, size_t length)
{
    struct iovec *places = layout->fetch->places;

    if (layout->n > 0) {
        struct iovec *last = &places[layout->n - 1];

        if ((uint8_t *)last->iov_base + last->iov_len == at) {
            last->iov_len += length;
            return;
        }
    }
    places[layout->n++] = (struct iovec){at, length};
}

static void add_units(struct layout *layout, const struct fetch_piece *piece,
                      uint8_t **checks)
{
    const struct fetch *fetch = layout->fetch;
    uint64_t unit = cache_unit(fetch->offset + piece->at);

    for (uint32_t i = 0; i < piece->count; i++) {
        if (fetch->read) {
            add_place(layout, reader_place(fetch->read, piece->block + i),
                      BLOCK_SIZE);
            add_place(layout, *checks, CHECK_SIZE);
            *checks += CHECK_SIZE;
        } else {
            /* It is expected already: this says where. */
            add_place(layout,
                      cache_expect(&fetch->reader->cache, fetch->seq, unit + i),
                      UNIT_SIZE);
        }
    }
}

static uint64_t longest_gap(const struct fetch *fetch)
{
    uint64_t at = 0, longest = 0;

    for (unsigned i = 0; i < fetch->pieces_n; i++) {
        uint64_t gap = fetch->pieces[i].at - at;

        longest = gap > longest ? gap : longest;
        at = fetch->pieces[i].at + (uint64_t)fetch->pieces[i].count * UNIT_SIZE;
    }
    return longest;
}

bool fetch_prepare(struct fetch *fetch)
{
    struct layout layout = {.fetch = fetch};
    uint64_t most = 2 * fetch->units + fetch->pieces_n, at = 0;
    uint64_t gap = longest_gap(fetch);
    uint8_t *checks;

    fetch->places = malloc(most * sizeof *fetch->places);
    fetch->checks = malloc(fetch->read ? fetch->units * CHECK_SIZE : 1);
    fetch->gap = gap ? malloc(gap) : NULL;
    if (!fetch->places || !fetch->checks || (gap && !fetch->gap))
        return false;
    checks = fetch->checks;
    for (unsigned i = 0; i < fetch->pieces_n; i++) {
        const struct fetch_piece *piece = &fetch->pieces[i];

        if (piece->at > at)
            add_place(&layout, fetch->gap, piece->at - at);
        add_units(&layout, piece, &checks);
        at = piece->at + (uint64_t)piece->count * UNIT_SIZE;
    }
    fetch->call.places_n = layout.n;
    return true;
}

void fetch_send(struct fetch *fetch, void (*done)(struct store_call *call))
{
    const struct volume *volume = fetch->reader->volume;
    struct store_call *call = &fetch->call;
    unsigned places_n = call->places_n;

    name_log(fetch->name, volume->superblock.uuid,
             volume_epoch_of(volume, fetch->seq), fetch->seq);
    memset(call, 0, sizeof *call);
    call->verb = STORE_GET;
    call->name = fetch->name;
    call->offset = fetch->offset;
    call->length = fetch->length;
    call->places = fetch->places;
    call->places_n = places_n;
    call->done = done;
    call->arg = fetch;
    store_start(volume->store, call);
}

/* --- what came --- */

uint64_t fetch_verify(const struct fetch *fetch)
{
    struct reader *reader = fetch->reader;
    const uint8_t *uuid = reader->volume->superblock.uuid;
    const uint8_t *check = fetch->checks;
    bool keep = fetch->read->count <= READER_KEPT && fetch->read->reads_on;

    for (unsigned i = 0; i < fetch->pieces_n; i++) {
        const struct fetch_piece *piece = &fetch->pieces[i];
        uint64_t unit = cache_unit(fetch->offset + piece->at);

        for (uint32_t k = 0; k < piece->count; k++) {
            uint64_t block = piece->block + k;
            const uint8_t *data = reader_place(fetch->read, block);

            if (!unit_is_good(data, check, uuid, fetch->seq, block))
                return block;
            if (keep)
                cache_put(&reader->cache, fetch->seq, unit + k, data, check);
            check += CHECK_SIZE;
        }
    }
    return UINT64_MAX;
}
