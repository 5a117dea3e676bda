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
#include "server/job.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct disk;
struct lane;
struct layer;
struct worker;

enum request_state {
    REQUEST_FREE,
    REQUEST_SERVER,
    REQUEST_PLUGIN,
    REQUEST_DONE,
};

/* What the server does at the border above a layer (border.c). */
enum frame_phase {
    FRAME_WAITING,        /* the lane is full */
    FRAME_PLAIN,          /* the request goes down as it is */
    FRAME_PIECES,         /* cut into pieces, one after the other */
    FRAME_BOUNCED,        /* the same, through a bounce buffer */
    FRAME_WAITING_BOUNCE, /* for one */
    FRAME_ZEROES,         /* a ZERO carried out by writing zeroes */
    FRAME_FLUSH, /* carries the flush that its FUA (and others') asks for */
    FRAME_DONE,  /* ended at the border; request->error says how */
};

/* A request as one layer was given it.  Loop thread only. */
struct frame {
    struct lane *lane; /* whose disk it is in; NULL: never got there */
    /* Of the filter above: what it wants to do at the end. */
    int (*after)(struct abd_request *request, int error);
    uint64_t offset, length;
    void *data;
    uint64_t done; /* of pieces: bytes that have ended */
    void *bounce;  /* FRAME_BOUNCED: where the piece's data lies */
    uint32_t bounce_size;
    uint8_t op, flags; /* as in abd_request */
    uint8_t phase;     /* enum frame_phase */
    uint8_t children;  /* of this layer for the request, in flight */
};
static_assert(sizeof(struct frame) == 64, "one line of the cache");

/* Ended by lending: what is to be sent, and how to give it back. */
struct lent {
    const struct abd_piece *pieces;
    unsigned n;
    void (*release)(void *arg);
    void *arg;
    struct request *from; /* a child that stays until then, as the loan's arg
                             may lie in its scratch */
    struct lane *lane;    /* counts it from when the loop has seen it */
};

struct request {
    struct abd_request pub; /* what the layer that has it sees */
    _Atomic uint32_t state;
    uint32_t depth; /* frames[depth] is the innermost in use */
    struct worker *worker;
    void (*ended)(struct request *request, int error); /* its owner's */

    int error;
    uint64_t error_at;
    char *error_text; /* malloc'ed */
    struct lent lent; /* pieces NULL: nothing is lent */

    /* EXTENTS: room for extents_max, the caller's or one inside. */
    struct abd_extent *extents;
    unsigned extents_n, extents_max;
    bool extents_malloced;
    uint64_t extents_length; /* what they cover */
    struct abd_extent one_extent;

    struct list link;            /* free, done, or one of the lane's lists */
    struct loop_message message; /* from the completing thread */
    atomic_bool cancelled;
    const char *last_owner; /* the layer that had it last, for messages */

    /* Whose it is. */
    union {
        struct child {
            struct request *parent; /* NULL: none */
            const struct layer *of; /* the filter whose child it is */
            void (*ended)(struct abd_request *, int, void *);
            void *arg;
            struct list link; /* parent's children */
            bool kept;        /* its loan has gone to another request */
        } child;
        struct part part; /* job.h */
    };
    struct list children; /* of this request, in flight */

    struct frame frames[]; /* chain.n of them, then scratch */
};

/* The worker's pool.  reserve() makes sure that the next n takes succeed, so
 * that who has started never fails; false: the budget does not allow it now. */
bool request_reserve(struct worker *worker, unsigned n);
void request_unreserve(struct worker *worker, unsigned n);
/* The same for as long as a disk is open.  fits: could it be had if nothing
 * were in flight?  Not more than half of them all may go this way, and a
 * command must still find its first two. */
bool request_background_fits(const struct worker *worker, unsigned n);
bool request_reserve_background(struct worker *worker, unsigned n);
void request_unreserve_background(struct worker *worker, unsigned n);
/* How many there can ever be on this worker beside those. */
unsigned request_pool_max(const struct worker *worker);
/* What one request of a client takes, with the children that filters may make
 * for it; and how many of these there are always. */
unsigned request_unit(void);
#define REQUEST_UNITS_MIN 2

/* Who waits for so many.  fed() is called when it is its turn and there are
 * that many (or never will be), out of the queue: reserve() says.  It is called
 * from wherever a request goes back, so it may do little more than to remember
 * it. */
struct request_waiter {
    struct list link;
    unsigned wanted;
    void (*fed)(struct request_waiter *waiter);
};
void request_wait(struct worker *worker, struct request_waiter *waiter);
/* Tells the first, if it can be told something.  Who was told and then does not
 * want any calls it, so that the next has its turn. */
void request_feed(struct worker *worker);
/* Uses up one reservation.  pub's op, flags, offset, length, data and client
 * are the caller's to set. */
struct request *request_take(struct worker *worker,
                             void (*ended)(struct request *request, int error));
/* Releases what was lent, frees the text, puts it back into the pool. */
void request_put(struct request *request);

/* The same for one that is still reserved afterwards: a child's reservation is
 * its parent's (or its disk's) again. */
void request_put_reserved(struct request *request);

/* Gives back what was lent, if it was: the bytes have left. */
void request_release(struct request *request);
/* Copies what was lent to data, and releases it.  0 or an errno value. */
int request_copy_lent(struct request *request, void *data);

/* Tells the plugin that nobody waits; children likewise. */
void request_cancel(struct request *request);

/* Adds an extent with all checks; abd_add_extent() is this. */
bool request_add_extent(struct request *request, uint64_t length,
                        uint32_t flags);

/* The scratch of a layer in this request. */
void *request_scratch(struct request *request, const struct layer *layer);
void request_clear_scratch(struct request *request, const struct layer *layer);

/* The ANSWER stage's first part: unwinds all that has been completed. */
void requests_unwind(struct worker *worker);

static inline struct request *request_of(const struct abd_request *pub)
{
    return container_of(pub, struct request, pub);
}

#endif
