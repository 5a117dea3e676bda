/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The reading end: from blocks to the objects that hold them.
 *
 * Neighbouring extents of one object become one GET; all GETs of a read run at
 * once, up to `gets` for the volume.  Every block is verified (P4): what is
 * short or damaged is fetched again, then it is EIO, never zeroes. */
#ifndef ABD_OBJECT_READER_H
#define ABD_OBJECT_READER_H

#include "format.h"
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

struct reader {
    struct volume *volume;
    struct list waiting; /* struct fetch */
    struct list fetching;
    unsigned fetching_n;
    uint64_t memory, memory_used; /* of buffers */
    /* For the status. */
    uint64_t bytes_read, damaged;
};

/* Whole blocks.  The caller's, until done(). */
struct reader_read {
    uint64_t block, count;
    uint8_t *into;
    void (*done)(struct reader_read *read);
    /* The answer: 0 or an errno value, and where. */
    int error;
    uint64_t error_block;
    char why[STORE_WHY_MAX];
    unsigned fetches; /* under way */
};

void reader_init(struct reader *reader, struct volume *volume, uint64_t memory);
/* True: it has ended already, and done() is not called. */
bool reader_start(struct reader *reader, struct reader_read *read);
/* The volume is lost: every read ends with this, as soon as the store lets go
 * of it. */
void reader_abandon(struct reader *reader, int error);

#endif
