/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* An open volume: its identity, the log's epochs, the map, and the parts that
 * write and read.  One loop, no locks.
 *
 *     FINDING -> CLAIMING -> REPLAYING -> SERVING -> CLOSING -> CLOSED
 *                                            |
 *                 FENCED or FAILED  <--------+  (and from every other)
 *
 * volume_open.c does all up to SERVING. */
#ifndef ABD_OBJECT_VOLUME_H
#define ABD_OBJECT_VOLUME_H

#include "format.h"
#include "map.h"
#include "reader.h"
#include "store.h"
#include "writer.h"

#include <stdbool.h>
#include <stdint.h>

enum volume_state {
    VOLUME_FINDING,
    VOLUME_CLAIMING,
    VOLUME_REPLAYING,
    VOLUME_SERVING,
    VOLUME_CLOSING,
    VOLUME_CLOSED,
    VOLUME_FENCED,
    VOLUME_FAILED,
};

/* Whose log objects from first_seq on are. */
struct volume_epoch {
    uint32_t epoch;
    uint64_t first_seq;
};

struct volume_options {
    uint64_t size; /* of a volume to be created; 0: it must exist */
    uint64_t object_size;
    bool create;      /* if it is missing */
    bool create_only; /* and it must be */
    enum claim_purpose purpose;
    bool take_over; /* also if the one before did not close it */
    bool read_only; /* no claim: what is there is read */
    uint64_t seal_after_ns, retry_for_ns, watch_ns;
    /* Bytes: what is taken for the log, and what the cache may have of what
     * nobody needs; how far is read ahead. */
    uint64_t write_memory, cache_memory, readahead;
    unsigned gets; /* at once */
};

struct volume {
    struct abd_loop *loop;
    struct store *store; /* the caller's */
    struct volume_options options;
    enum volume_state state;
    int error;                   /* FAILED, FENCED: for requests */
    char why[2 * STORE_WHY_MAX]; /* for people */
    /* Something went wrong for good: the caller logs it. */
    void (*ended)(struct volume *volume, void *arg);
    void *arg;

    struct superblock superblock;
    uint8_t session[UUID_SIZE];
    uint32_t epoch; /* ours */
    struct volume_epoch *epochs;
    unsigned epochs_n;

    struct map *map;
    struct writer writer;
    struct reader reader;

    /* watch=: does a later claim exist? */
    struct abd_timer watch_timer;
    struct store_call watch_call;
    char watch_name[NAME_SIZE];
    uint8_t watch_bytes[4096];
    bool watching;
    /* Somebody may have claimed it: answers are held until we know (P3). */
    bool suspicious;
    void (*trusted)(struct volume *volume, void *arg);
    /* Something went wrong, and may go on: for people. */
    void (*trouble)(struct volume *volume, const char *text, void *arg);
    struct writer_wait watch_wait;
    struct abd_timer breath_timer;
    bool look_again;    /* what was asked before a pause says nothing */
    uint64_t breath_ns; /* of CLOCK_BOOTTIME: when the loop was last seen to
                           run */

    struct opening *opening; /* volume_open.c's, until it is over */

    /* Closing. */
    void (*closed)(struct volume *volume, int error, void *arg);
    void *closed_arg;
    int close_error;
    bool stopped; /* nothing new is begun */
    struct writer_wait close_wait;
    struct abd_task idle_task;
    bool idle_posted;
};

/* Opens it; opened(error) is called later: 0, or an errno value and
 * volume->why. */
void volume_open(struct volume *volume, struct abd_loop *loop,
                 struct store *store, const struct volume_options *options,
                 void (*opened)(struct volume *volume, int error, void *arg),
                 void *arg);

/* Commits what is there, writes the entry `close`, stops everything.  closed()
 * is called later, with 0 or what went wrong. */
void volume_close(struct volume *volume,
                  void (*closed)(struct volume *volume, int error, void *arg),
                  void *arg);
/* Frees what it has; only when it is open no more. */
void volume_finish(struct volume *volume);

/* For writer and reader: the last call of theirs has ended in a volume that is
 * open no more. */
void volume_idle(struct volume *volume);

/* Somebody else owns the log: all requests fail from now on (P3). */
void volume_fence(struct volume *volume, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void volume_fail(struct volume *volume, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The epoch in whose folder this log object is. */
uint32_t volume_epoch_of(const struct volume *volume, uint64_t seq);
/* From this seq on it is this epoch.  0 or ENOMEM. */
int volume_add_epoch(struct volume *volume, uint32_t epoch, uint64_t first_seq);

static inline uint64_t volume_blocks(const struct volume *volume)
{
    return volume->superblock.size / BLOCK_SIZE;
}

/* For every request and before every answer: has this machine slept, or the
 * loop stood still, for so long that the volume may be another's by now?  Then
 * it is suspicious, until that is known. */
void volume_breathe(struct volume *volume);

/* May requests be served?  0, or what they fail with. */
static inline int volume_check(const struct volume *volume)
{
    return volume->state == VOLUME_SERVING ? 0 : volume->error;
}

#endif
