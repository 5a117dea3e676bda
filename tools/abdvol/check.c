/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* abdvol check: reads all data, and verifies each block (P4). */
#include "tools/abdvol/abdvol.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define READ_BLOCKS 256 /* in one read */
#define READS       8   /* at once */

/* One read of `check`. */
struct piece {
    struct reader_read read;
    uint8_t *bytes;
    bool busy;
};

static struct piece pieces[READS];
static uint64_t next; /* block */
static unsigned reading;

static void say_damaged(const struct reader_read *read)
{
    progress_clear();
    fprintf(stderr, "block %" PRIu64 ": %s\n", read->block, read->why);
    self.damaged++;
}

static void read_on(void);

/* The first block that can't be read stands for the rest of its read: it is
 * read block by block. */
static void read_ended(struct piece *piece)
{
    struct reader_read *read = &piece->read;

    if (read->error && read->count > 1) {
        uint64_t end = read->block + read->count;

        /* Behind the damaged block it goes on. */
        self.checked += read->error_block - read->block;
        read->count = end - read->error_block;
        read->block = read->error_block;
        if (read->count > 1) {
            say_damaged(read);
            self.checked++;
            read->block++;
            read->count--;
            if (!reader_start(&self.volume.reader, read))
                return;
            read_ended(piece);
            return;
        }
    }
    if (read->error)
        say_damaged(read);
    self.checked += read->count;
    piece->busy = false;
    reading--;
    progress_show(self.checked * BLOCK_SIZE);
}

static void on_read(struct reader_read *read)
{
    read_ended(container_of(read, struct piece, read));
    read_on();
}

/* The next blocks that hold data. */
static bool next_data(uint64_t *ret_block, uint64_t *ret_count)
{
    uint64_t end = volume_blocks(&self.volume);

    while (next < end) {
        struct extent extent = map_at(self.volume.map, next, end);

        if (extent.kind == EXTENT_DATA) {
            *ret_block = next;
            *ret_count =
                extent.count < READ_BLOCKS ? extent.count : READ_BLOCKS;
            next += *ret_count;
            return true;
        }
        next += extent.count;
    }
    return false;
}

static void read_on(void)
{
    for (unsigned i = 0; i < READS; i++) {
        struct piece *piece = &pieces[i];

        while (!piece->busy &&
               next_data(&piece->read.block, &piece->read.count)) {
            piece->busy = true;
            reading++;
            piece->read.into = piece->bytes;
            piece->read.done = on_read;
            if (reader_start(&self.volume.reader, &piece->read))
                read_ended(piece);
        }
    }
    if (reading == 0) {
        progress_clear();
        for (unsigned i = 0; i < READS; i++)
            free(pieces[i].bytes);
        close_volume();
    }
}

void check_run(void)
{
    progress_begin(self.data, "MiB", MIB);
    for (unsigned i = 0; i < READS; i++) {
        pieces[i].bytes = malloc((size_t)READ_BLOCKS * BLOCK_SIZE);
        if (!pieces[i].bytes) {
            self.error = ENOMEM;
            break;
        }
    }
    if (self.error)
        next = volume_blocks(&self.volume); /* nothing is begun */
    read_on();
}
