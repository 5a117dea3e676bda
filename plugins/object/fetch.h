/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* One GET of the reader: a part of a log object, and where each unit of it
 * goes: to a request, or into the cache. */
#ifndef ABD_OBJECT_FETCH_H
#define ABD_OBJECT_FETCH_H

#include "reader.h"

/* Blocks of the read whose units lie in a row. */
struct fetch_piece {
    uint64_t block;
    uint32_t count;
    uint32_t at; /* bytes from the begin of the fetch */
};

struct fetch {
    struct list link; /* in one of the reader's */
    struct reader *reader;
    struct reader_read *read;     /* NULL: it goes into the cache */
    uint64_t seq, offset, length; /* bytes in the object */
    struct fetch_piece *pieces;
    unsigned pieces_n, pieces_size;
    uint64_t units;
    unsigned tries;
    /* While it is fetched. */
    struct iovec *places;
    uint8_t *checks; /* of a request's units: they go nowhere else */
    uint8_t *gap;    /* what nobody wants */
    char name[NAME_SIZE];
    struct store_call call;
};

struct fetch *fetch_new(struct reader *reader, struct reader_read *read,
                        uint64_t seq, uint64_t offset);
void fetch_free(struct fetch *fetch);
/* Would these bytes of an object make it longer, but not too long? */
bool fetch_takes(const struct fetch *fetch, uint64_t seq, uint64_t offset,
                 uint64_t length);
/* False: no memory. */
bool fetch_add(struct fetch *fetch, uint64_t block, uint64_t count,
               uint64_t offset);

/* Lays out where the bytes go; false: no memory. */
bool fetch_prepare(struct fetch *fetch);
void fetch_send(struct fetch *fetch, void (*done)(struct store_call *call));
/* Verifies what came for a request, and keeps it in the cache if it is worth
 * that.  Returns the damaged block, or UINT64_MAX. */
uint64_t fetch_verify(const struct fetch *fetch);

/* Where a block of a read goes. */
uint8_t *reader_place(const struct reader_read *read, uint64_t block);

#endif
