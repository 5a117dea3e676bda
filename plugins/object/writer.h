/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The writing end of the log.
 *
 *     object: OPEN -> PUTTING -> STORED -> (committed)
 *
 * One open object takes what is written: its entry, and units in chunks of
 * memory.  It is sealed when it is full, for a flush, or some seconds after its
 * first entry; then it is put, together with others.  Committed is what has no
 * gap before it (I3).  Log order is the order of the calls of writer_write()
 * and writer_mark() (I4). */
#ifndef ABD_OBJECT_WRITER_H
#define ABD_OBJECT_WRITER_H

#include "format.h"
#include "store.h"

#include "abd-loop.h"
#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

struct volume;

#define WRITER_CHUNK (128 * 1024)
/* Objects beyond the first that is not stored (I3). */
#define WRITER_AHEAD 64
/* Header and table fit into one GET of 64 KiB. */
#define WRITER_ENTRIES 1600

struct log_object {
    struct list link; /* writer->objects, by seq */
    struct volume *volume;
    uint64_t seq;
    uint64_t began_ns;
    enum { OBJECT_OPEN, OBJECT_PUTTING, OBJECT_STORED } state;
    /* Offsets count from the payload until it is sealed. */
    struct log_entry *entries;
    unsigned entries_n, entries_size;
    uint8_t **chunks;
    unsigned chunks_n;
    uint64_t payload; /* bytes */
    struct log_header header;
    uint8_t *head; /* header and table; sealed only */
    struct iovec *body;
    char name[NAME_SIZE];
    struct store_call call;
    bool in_flight;
    struct abd_timer again; /* the store has given up, we don't (P5) */
};

/* Somebody waits until everything up to seq is committed. */
struct writer_wait {
    struct list link;
    uint64_t seq;
    void (*done)(struct writer_wait *wait, int error);
};

struct writer {
    struct volume *volume;
    struct list objects;     /* not committed, in order; the open one last */
    struct log_object *open; /* NULL: none */
    uint64_t next_seq;       /* of the next object */
    uint64_t committed;      /* everything up to here */
    uint32_t last_crc;       /* of the object sealed last */
    unsigned putting;        /* sealed, not stored */
    unsigned calls;          /* of the store, under way */
    struct list waits;       /* by seq */
    bool flush_asked; /* the open object is to be sealed as soon as may be */
    bool seal_empty;  /* even if it has no entry */
    struct abd_timer seal_timer;
    bool seal_timer_runs;
    /* Chunks. */
    uint8_t **free_chunks;
    unsigned free_n, total;
    uint8_t *spare_head; /* for when there is no memory; NULL: in use */
    /* Room has come for who found none; on the loop, never from inside a call.
     */
    void (*on_room)(void *arg);
    void *on_room_arg;
    struct abd_task room_task;
    bool room_task_posted, room_missed;
    /* For the status. */
    uint64_t bytes_written, objects_stored, bytes_stored;
};

/* A part of what is written: whole blocks. */
struct writer_part {
    const uint8_t *data;
    uint32_t blocks;
};

int writer_init(struct writer *writer, struct volume *volume,
                uint64_t memory_size);
/* The log goes on with this object. */
void writer_start(struct writer *writer, uint64_t seq, uint32_t last_crc);
void writer_finish(struct writer *writer);

/* Blocks of the longest write that is there as a whole, or not at all, after a
 * crash (P2), and for which there can be room. */
uint64_t writer_longest(const struct writer *writer);

/* Appends a write of these blocks and sets the map; 0, EAGAIN: no room now,
 * on_room() will be called; ENOMEM. */
int writer_write(struct writer *writer, uint64_t block,
                 const struct writer_part *parts, unsigned n);
/* What follows, of so many blocks together and so many calls, will be in one
 * object: all of it, or nothing, is there after a crash (P2). */
int writer_prepare(struct writer *writer, uint64_t blocks, unsigned entries);
/* ZERO or TRIM of whole blocks; likewise. */
int writer_mark(struct writer *writer, enum log_op op, uint64_t block,
                uint64_t count);

/* Calls wait->done() when all that was appended is committed; never from
 * inside.  If there is nothing to wait for it returns true, and does not. */
bool writer_flush(struct writer *writer, struct writer_wait *wait);
/* Seals an object even if it has no entry; with_close: with that.  0 or EAGAIN
 * or ENOMEM: nothing was done. */
int writer_flush_always(struct writer *writer, bool with_close,
                        struct writer_wait *wait);

/* The volume is lost: everybody who waits is told. */
void writer_abandon(struct writer *writer, int error);

/* Copies bytes of an object that is still here, from this offset (in the
 * object once sealed, as the map says); false: it is in the store. */
bool writer_copy(const struct writer *writer, uint64_t seq, uint64_t offset,
                 void *to, uint64_t length);

#endif
