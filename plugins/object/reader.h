/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The reading end: from blocks to the objects that hold them.
 *
 * Neighbouring extents of one object become one GET; all GETs of a read run at
 * once, up to `gets` for the volume.  What comes lies at once where it is
 * wanted, so reading needs no buffers.  Every block is verified (P4): what is
 * short or damaged is fetched again, then it is EIO, never zeroes.
 *
 * The cache keeps what small reads have brought, and what readahead.c brings
 * for those who read on. */
#ifndef ABD_OBJECT_READER_H
#define ABD_OBJECT_READER_H

#include "cache.h"
#include "format.h"
#include "readahead.h"
#include "store.h"

#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

struct volume;

/* Between extents that one GET brings, and in one GET. */
#define READER_GAP_MAX (64 * 1024)
#define READER_GET_MAX (1024 * 1024)
/* A GET that brought damage is sent so often. */
#define READER_TRIES 3
/* Reads of so many blocks are worth being kept: longer ones cost one round trip
 * again, too, and would push out all others. */
#define READER_KEPT 32

struct reader {
    struct volume *volume;
    struct list waiting; /* struct fetch */
    struct list waiting_ahead;
    struct list fetching;
    unsigned fetching_n, fetching_ahead;
    uint64_t under_way; /* blocks that requests wait for */
    struct cache cache;
    struct readahead readahead;
    /* For the status. */
    uint64_t bytes_read, damaged;
};

/* Whole blocks.  The caller's, until done(). */
struct reader_read {
    uint64_t block, count;
    uint8_t *into; /* for those that go nowhere else */
    /* Where the first and the last of them go instead; NULL: nowhere else.  If
     * it is just one, first counts. */
    uint8_t *first, *last;
    bool reads_on; /* others will follow: worth looking ahead for */
    void (*done)(struct reader_read *read);
    /* The answer: 0 or an errno value, and where. */
    int error;
    uint64_t error_block;
    char why[STORE_WHY_MAX];
    unsigned fetches; /* under way */
};

/* 0 or ENOMEM.  memory: of the cache; ahead: of it, for readahead. */
int reader_init(struct reader *reader, struct volume *volume, uint64_t memory,
                uint64_t ahead);
void reader_finish(struct reader *reader);
/* True: it has ended already, and done() is not called. */
bool reader_start(struct reader *reader, struct reader_read *read);
/* Fetches what is not there of these blocks into the cache, as far as it has
 * room. */
void reader_look_ahead(struct reader *reader, uint64_t block, uint64_t end);
/* Nobody reads on: what was to be fetched ahead is not wanted any more. */
void reader_stop_ahead(struct reader *reader);
/* The volume is lost: every read ends with this, as soon as the store lets go
 * of it. */
void reader_abandon(struct reader *reader, int error);

#endif
