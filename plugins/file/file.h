/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the parts of the file plugin share: an opened file, and a request on its
 * way.
 *
 *     file.c      configuration, and which part a request goes to
 *     open.c      opening and closing, what the file can do
 *     cached.c    what can be answered at once, from the page cache
 *     ring.c      reads and direct writes that wait, by io_uring
 *     writer.c    buffered writes that may wait, in the work pool
 *     blocking.c  everything that no ring does, in the work pool
 *     range.c     zero, trim, extents, cache, flush: what blocking.c runs */
#ifndef FILE_FILE_H
#define FILE_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "abd-loop.h"
#include "abd-plugin.h"

struct ring;

/* -D file.NAME=0 behaves as if the kernel had refused it. */
struct file_debug {
    int io_uring, nowait, cachestat, dsync, lend_min;
};
extern struct file_debug file_debug;

/* Who reads at least so much is sent pages of the page cache. */
#define FILE_LEND_MIN 65536

/* Reads whose data nobody keeps (it will be sent from the page cache) go here,
 * at most so much in one step: small enough to stay in the processor's cache.
 */
#define FILE_SINK_SIZE (256u << 10)

/* The configuration; the instance's. */
struct file_config {
    char *path;
    bool direct;
};

/* An opened file, from open() to abd_closed().  Shared by all loops. */
struct file {
    struct abd_disk *disk;
    const struct file_config *config;

    /* Set once, before abd_opened(). */
    int fd;          /* O_DIRECT where config->direct */
    int buffered_fd; /* what direct I/O is too coarse for; else equal to fd */
    bool writable, is_block_device;
    bool in_memory;         /* tmpfs and the like: nothing blocks */
    uint32_t logical_block; /* of a block device */
    uint32_t direct_offset; /* direct I/O: alignment of offset and length, */
    uint32_t direct_memory; /* and of memory; both 1 without it */
    uint8_t *sink;          /* nobody reads what is in it */
    struct ring *rings;     /* one for each loop */
    unsigned ring_count;

    /* Shared: what the file system turned out not to have.  Only hints, so
     * relaxed: who has not seen one yet finds out for itself. */
    _Atomic uint64_t missed_ns; /* when something was last not cached */
    atomic_bool no_nowait_read, no_nowait_write, no_cachestat, no_dsync;
    atomic_bool no_punch, no_zero_range, no_allocate, no_seek;

    /* Shared: calls under way that change a range without its data.  They keep
     * a lock of the file for long (until the journal is written), and what
     * would wait for it must not be tried on a loop, RWF_NOWAIT or not: reading
     * what is not cached, and writing in memory.  A hint too: who looked just
     * before waits. */
    atomic_uint changes;

    /* Shared: the first error of writing back, see file_note_sync_error(). */
    atomic_int sync_error;

    /* Opening and closing; passed from one step to the next. */
    struct abd_work work;
    atomic_uint rings_pending;
    int open_error;
};

/* A request that was not answered at once; lives in its scratch. */
struct op {
    struct abd_request *request;
    struct file *file;
    struct op *next; /* in a ring's queue or in a batch */
    union {
        struct abd_work work;
        struct abd_task task; /* of a batch's first op */
    };
    uint64_t done; /* bytes */
    int err;       /* of blocking.c */
    bool into_sink;
    struct abd_piece piece; /* what is lent */
};

static inline struct file *file_of(const struct abd_request *request)
{
    return request->disk->state;
}

static inline bool file_lacks(atomic_bool *what)
{
    return atomic_load_explicit(what, memory_order_relaxed);
}

static inline void file_note_lack(atomic_bool *what)
{
    atomic_store_explicit(what, true, memory_order_relaxed);
}

static inline bool file_is_changing(const struct file *file)
{
    return atomic_load_explicit(&file->changes, memory_order_relaxed) > 0;
}

/* Is it an answer of the kernel that means "this is not implemented here"? */
bool file_is_unsupported(int err);

/* Linux reports that data could not be written back once, and then forgets it;
 * but every client whose data it may have been must learn it.  So from then on
 * all flushes fail, until the disk is opened again. */
void file_note_sync_error(struct file *file, int err);

/* May a write be made durable by RWF_DSYNC? */
bool file_has_dsync(struct file *file);

/* The descriptor for the rest of a READ or WRITE: direct I/O only where offset,
 * length and memory allow it. */
int file_fd_for(const struct file *file, uint64_t offset, uint64_t length,
                const void *data);

/* Where the rest of the op's data goes to or comes from, and how much of it can
 * be done in one step. */
void *op_place(const struct op *op, uint64_t *ret_length);

/* The request's op, set up; its scratch must not be in use for another. */
struct op *op_init(struct abd_request *request);

/* Ends a READ or WRITE: with an error, at the byte that op->done says, or lends
 * what is in the page cache now, or just so. */
void op_complete(struct op *op, int err);

/* open.c: the callbacks. */
void file_open(struct abd_disk *disk);
void file_close(struct abd_disk *disk);
/* What the path is, for ready(): 0, or an errno value that was logged. */
int file_check(const struct abd_instance *instance, const char *path);

#endif
