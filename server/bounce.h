/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Bounce buffers: data of a filter's own that the disk below can't use where it
 * lies (abd_disk.data_alignment, ABD_PLUGIN_REGISTERS) goes through memory that
 * it can use.
 *
 * A request that needs one holds a place in the disk already, so it must not
 * wait for memory that others hold who wait for such a place.  Therefore each
 * worker keeps one buffer aside for each layer; who has the one of a layer
 * waits for the layers below only.  As long as the arena has some to spare,
 * more are taken from there.  Loop thread only. */
#ifndef ABD_SERVER_BOUNCE_H
#define ABD_SERVER_BOUNCE_H

#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

struct disk;
struct worker;

/* What one worker has for one layer. */
struct bounce {
    void *reserved; /* BOUNCE_SIZE; NULL: no filter above has own data */
    bool taken;
    struct list waiting; /* struct request, in turn */
};

/* At least the largest block_min. */
#define BOUNCE_SIZE (64 * 1024)

/* Bytes of reserved buffers for all workers of this chain. */
uint64_t bounces_size(unsigned workers_count);
/* Cuts this worker's from *memory on, and moves that on.  0 or ENOMEM. */
int bounces_create(struct worker *worker, char **memory);

/* Can't the disk use data where it lies? */
bool bounce_is_needed(const struct disk *disk, const void *data);

/* A buffer of up to wanted bytes, at least of one block; NULL: wait. */
void *bounce_take(struct worker *worker, const struct disk *disk,
                  uint64_t wanted, uint32_t *ret_size);
void bounce_give(struct worker *worker, const struct disk *disk, void *buffer,
                 uint32_t size);

#endif
