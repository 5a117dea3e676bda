/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Requests: the way down through the layers, and back.
 *
 *     request_new -> request_submit -> [enter a disk -> (queue) -> submit()]
 *        -> abd_complete(), any thread -> [back through the frames, on the
 *        loop] -> ended(request) -> request_retire -> request_release
 *
 * A layer that forwards adds a frame.  What the plugin sees of a request is
 * read-only for it, and gone as soon as the loop has seen the completion. */
#ifndef ABD_CHECK_REQUEST_H
#define ABD_CHECK_REQUEST_H

#include "tools/check/disk.h"

#define REQUEST_EXTENTS 1024

struct frame {
    struct disk *disk;
    struct lane *lane;
    void *scratch; /* NULL: the plugin has none, or was not asked */
    uint64_t offset;
    int (*after)(struct abd_request *request, int error);
    unsigned children_n; /* those that the filter made, not the kit */
};

/* What a READ ended with instead of data. */
struct loan {
    const struct abd_piece *pieces; /* NULL: none */
    struct abd_piece *copy;         /* as they were at first */
    unsigned n;
    void (*release)(void *arg);
    void *arg;
    const char *who;
    void *scratch; /* of who lent, and its size */
    size_t scratch_size;
    struct request *from; /* the child that brought it */
};

/* One loop's; but from submit() to the completion, what ends it is written by
 * whoever does that. */
struct request {
    struct abd_request *pub; /* guarded */
    struct guard_record *record;
    struct worker *worker;
    struct frame frames[STACK_LAYERS];
    unsigned depth;

    int error;
    uint64_t error_at; /* ABD_NO_OFFSET: unknown */
    struct loan loan;
    struct abd_extent *extents;
    unsigned extents_n;
    uint64_t extents_length;

    void *data; /* guarded and ours; or NULL */
    uint64_t data_size;

    void (*ended)(struct request *request); /* once, on the loop */
    void *arg;
    struct list link;      /* the owner's */
    struct list wait_link; /* in lane->waiting */
    struct loop_message message;

    /* Children and parts: one that is made for another. */
    struct request *parent;
    struct list children, child_link;
    void (*child_ended)(struct abd_request *, int, void *);
    struct disk *child_below;
    bool in_ended, is_kept;
    /* Of who was cut. */
    unsigned parts_n;
    uint64_t part_at; /* of a part: in its parent */
};

struct request *request_new(uint32_t op, uint32_t flags, uint64_t offset,
                            uint64_t length);
/* Gives it data for the disk, at random places in a page. */
void request_take_data(struct request *request, const struct disk *disk,
                       uint64_t *random);
/* Gives it to the disk.  ended is called later, not from inside. */
void request_submit(struct request *request, struct disk *disk,
                    const struct abd_client *client);
void request_cancel(struct request *request);
/* After the end: nothing of it can be touched, but for what is lent. */
void request_retire(struct request *request);
/* Gives a loan back, if there is one, and frees the request. */
void request_release(struct request *request);
/* What a client would get of the loan; false: a rule is broken. */
bool request_gather(const struct request *request, void *to);

/* Between the files of requests. */

struct request *request_of(const struct abd_request *pub, const char *function);
/* The only one may end it: ends the process otherwise. */
struct request *request_claim(const struct abd_request *pub,
                              const char *function, enum guard_state next);
/* Any thread: the loop goes on with it. */
void request_done(struct request *request);
/* On the loop: the request is in front of the disk, one frame deeper. */
void request_enter(struct request *request, struct disk *disk);
/* On the loop: ends the innermost frame without its layer. */
void request_end_here(struct request *request, int error);
const char *request_who(const struct request *request);

/* border.c: true if the disk can take the request only in parts, or not at all;
 * it has been taken care of. */
bool border_stops(struct request *request, struct disk *disk);

#endif
