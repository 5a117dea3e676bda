/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A request on its way through the layers, and its completion.
 *
 * A request belongs to one loop for life.  It goes down the layers, a frame for
 * each, is ended in the innermost by the plugin on any thread, and goes up
 * again on its loop:
 *
 *     FREE -> SERVER -> PLUGIN -> DONE -> SERVER -> ... -> FREE
 *
 * PLUGIN: somebody's submit() owns it.  Completing swaps PLUGIN to DONE and
 * queues; everything else happens on the loop, in the ANSWER stage, when the
 * frames are unwound and at last the owner's ended() is called. */
#ifndef ABD_SERVER_REQUEST_H
#define ABD_SERVER_REQUEST_H

#include "abd-filter.h"
#include "abd-plugin.h"

#include "base/list.h"
#include "loop/loop.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct disk;
struct lane;
struct worker;

enum request_state {
    REQUEST_FREE,
    REQUEST_SERVER,
    REQUEST_PLUGIN,
    REQUEST_DONE,
};

/* What the server does at the border above a layer (border.c). */
enum frame_phase {
    FRAME_PLAIN,  /* the request goes down as it is */
    FRAME_PIECES, /* cut into pieces, one after the other */
    FRAME_ZEROES, /* a ZERO carried out by writing zeroes */
    FRAME_FLUSH,  /* done, but for the flush that its FUA asks for */
};

/* A request as one layer was given it.  Loop thread only. */
struct frame {
    struct lane *lane; /* whose disk it is in; NULL: never got there */
    /* Of the filter above: what it wants to do at the end. */
    int (*after)(struct abd_request *request, int error);
    uint64_t offset, length;
    void *data;
    uint32_t op, flags;
    uint32_t phase; /* enum frame_phase */
    uint32_t pieces;
    uint64_t piece; /* the length of the piece that is under way */
};

/* Ended by lending: what is to be sent, and how to give it back. */
struct lent {
    const struct abd_piece *pieces;
    unsigned n;
    void (*release)(void *arg);
    void *arg;
    struct lane *lane; /* where it counts as lent */
    struct request *from; /* the request that carries this one's loan */
};

/* Where it is from says what happens at the end. */
struct request_owner {
    void (*ended)(struct request *request, int error);
};

struct request {
    struct abd_request pub; /* what the layer that has it sees */
    _Atomic uint32_t state;
    uint32_t depth; /* frames[depth] is the innermost in use */
    struct worker *worker;
    const struct request_owner *owner;

    int error;
    uint64_t error_at;
    char *error_text; /* malloc'ed */
    struct lent lent; /* pieces NULL: nothing is lent */

    /* EXTENTS: room for extents_max, the first inside the request. */
    struct abd_extent *extents;
    unsigned extents_n, extents_max;
    uint64_t extents_length; /* what they cover */
    struct abd_extent one_extent[2];

    struct list link;            /* free list, done list, lane's waiting */
    struct loop_message message; /* from the completing thread */
    atomic_bool cancelled;
    const char *last_owner; /* the layer that had it last, for messages */

    /* The request of the filter or connection that it is for. */
    union {
        struct child {
            struct request *parent; /* NULL: none */
            struct disk *of;        /* the filter's disk, whose child it is */
            void (*ended)(struct abd_request *, int, void *);
            void *arg;
            struct list link; /* parent's children */
        } child;
        struct job_part {
            struct job *job;
            struct list link;  /* job's parts, connection's replies */
            uint64_t offset;   /* in the export */
            uint64_t length;
            uint64_t buffer_size; /* 0: data is not from the arena */
            void *buffer;
            struct list reply_link;
        } part;
    };
    struct list children; /* of this request, in flight */
    unsigned children_n;
    uint64_t submitted_ns;
    struct list in_flight_link; /* worker->in_flight */

    struct frame frames[]; /* chain.n of them, then scratch */
};

/* The worker's pool.  reserve() makes sure that the next n takes succeed, so
 * that who has started never fails; false: the budget does not allow it now. */
bool request_reserve(struct worker *worker, unsigned n);
void request_unreserve(struct worker *worker, unsigned n);
/* Uses up one reservation.  All fields but the op's own are as at the start. */
struct request *request_take(struct worker *worker,
                             const struct request_owner *owner);
/* Releases what was lent, frees the text, puts it back into the pool. */
void request_put(struct request *request);

/* Gives back what was lent, if it was: the bytes have left. */
void request_release(struct request *request);
/* Copies what was lent to data, and releases it.  0 or an errno value. */
int request_copy_lent(struct request *request, void *data);

/* Tells the plugin that nobody waits; children likewise. */
void request_cancel(struct request *request);

/* Adds an extent with all checks; abd_add_extent() is this. */
bool request_add_extent(struct request *request, uint64_t length,
                        uint32_t flags);

/* The ANSWER stage's first part: unwinds all that has been completed. */
void requests_unwind(struct worker *worker);

static inline struct request *request_of(const struct abd_request *pub)
{
    return container_of(pub, struct request, pub);
}

#endif
