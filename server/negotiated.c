/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* From a disk to what is said of it: only what the server will really do.
 *
 * Functions of the disk, the settings and the budget; nothing is kept.  On the
 * connection's thread. */
#include "server/negotiated.h"

#include <stdbool.h>

#include "server/connection.h"
#include "server/disk.h"
#include "server/layer.h"
#include "server/limits.h"
#include "server/request.h"
#include "server/settings.h"
#include "server/worker.h"

#define PREFERRED 4096
/* The specification's least, and what one command can carry. */
#define PREFERRED_MIN 512
#define PREFERRED_MAX (LIMIT_PAYLOAD / 2)

/* Flags about writing, which a client that may not write is not told. */
static uint16_t writing_flags(const struct disk *disk)
{
    uint16_t flags = 0;

    if (disk->pub.fua == ABD_FUA_NATIVE ||
        (disk->pub.fua == ABD_FUA_EMULATE && disk_has(disk, ABD_OP_FLUSH)))
        flags |= NBD_FLAG_SEND_FUA;
    if (disk_has(disk, ABD_OP_TRIM))
        flags |= NBD_FLAG_SEND_TRIM;
    /* Zeroes can always be written; FAST_ZERO is the disk's to promise. */
    if (disk->pub.flags & ABD_DISK_HIDES_ZERO)
        return flags;
    flags |= NBD_FLAG_SEND_WRITE_ZEROES;
    if (disk->pub.flags & ABD_DISK_FAST_ZERO)
        flags |= NBD_FLAG_SEND_FAST_ZERO;
    return flags;
}

static uint16_t transmission_flags(const struct negotiated *negotiated,
                                   const struct disk *disk)
{
    uint16_t flags = NBD_FLAG_HAS_FLAGS;

    if (settings.read_only || disk->pub.read_only ||
        !disk_has(disk, ABD_OP_WRITE))
        flags |= NBD_FLAG_READ_ONLY;
    else
        flags |= writing_flags(disk);
    if (disk_has(disk, ABD_OP_FLUSH))
        flags |= NBD_FLAG_SEND_FLUSH;
    if (disk_has(disk, ABD_OP_CACHE))
        flags |= NBD_FLAG_SEND_CACHE;
    if (disk->pub.flags & ABD_DISK_ROTATIONAL)
        flags |= NBD_FLAG_ROTATIONAL;
    if (disk->shared || (disk->pub.flags & ABD_DISK_MULTI_CONN))
        flags |= NBD_FLAG_CAN_MULTI_CONN;
    if (negotiated->style != NBD_SIMPLE)
        flags |= NBD_FLAG_SEND_DF;
    if (negotiated->style == NBD_EXTENDED && negotiated->allocation)
        flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
    return flags;
}

/* A power of two. */
static uint32_t preferred_size(const struct disk *disk, uint32_t minimum)
{
    uint32_t wish = disk->pub.block_preferred;
    uint32_t size = PREFERRED_MIN;

    if (wish == 0)
        wish = PREFERRED;
    while (size < PREFERRED_MAX && (size < wish || size < minimum))
        size *= 2;
    return size;
}

/* Could a payload of this length ever have its memory? */
static bool payload_fits(const struct disk *disk, const struct memory *memory,
                         uint64_t length)
{
    uint64_t sizes[LIMIT_PAYLOAD_PIECES];
    uint64_t most = disk->piece < MIB ? MIB : disk->piece;
    uint64_t write = length < disk->transfer ? length : disk->transfer;
    unsigned n = 0;

    for (uint64_t left = length; left > 0; left -= sizes[n++])
        sizes[n] = left < most ? left : most;
    /* The pieces of a write have their memory one after the other; those of a
     * simple reply all at once. */
    if (disk_has(disk, ABD_OP_WRITE) &&
        !memory_fits(memory, MEMORY_WRITE, &write, 1))
        return false;
    return ((disk->pub.flags & ABD_DISK_LENDS) &&
            disk->transfer <= disk->lend_max) ||
           memory_fits(memory, MEMORY_READ, sizes, n);
}

/* As much as can be served, at least the preferred size. */
static uint32_t maximum_size(const struct disk *disk,
                             const struct memory *memory, uint32_t minimum,
                             uint32_t preferred)
{
    uint64_t parts = request_pool_max(worker_current()) / request_unit();
    uint64_t most = LIMIT_PAYLOAD;

    if (parts > LIMIT_PAYLOAD_PIECES)
        parts = LIMIT_PAYLOAD_PIECES;
    if (disk->piece < most / parts)
        most = disk->piece * parts;
    if (disk->pub.block_max > 0 && disk->pub.block_max < most)
        most = disk->pub.block_max;
    while (most > preferred && !payload_fits(disk, memory, most))
        most -= most > 2 * MIB ? MIB : most / 2;
    most -= most % minimum;
    return most > preferred ? (uint32_t)most : preferred;
}

void negotiated_describe(struct negotiated *negotiated, const struct disk *disk,
                         const struct memory *memory)
{
    negotiated->size = disk->pub.size;
    negotiated->transmission_flags = transmission_flags(negotiated, disk);
    negotiated->block_min = disk->block_min;
    negotiated->block_preferred = preferred_size(disk, disk->block_min);
    negotiated->block_max = maximum_size(disk, memory, disk->block_min,
                                         negotiated->block_preferred);
}
