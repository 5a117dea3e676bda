/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* An object store, as much of it as the volume needs: create if absent, read a
 * range, list, delete.  Nothing is ever overwritten (I1).
 *
 * Stores are stacked: store_retry() over store_fault() over the directory or
 * S3.  All of it runs on one loop; every call is asynchronous, and ends by
 * calling done() once, never from inside the call. */
#ifndef ABD_OBJECT_STORE_H
#define ABD_OBJECT_STORE_H

#include "abd-loop.h"

#include "base/histogram.h"
#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct store;

/* How a call ended.  What a caller does next depends on this only; why[] is for
 * people. */
enum store_result {
    STORE_OK,
    STORE_EXISTS,  /* CREATE: there is one of that name; it may be ours (I2) */
    STORE_MISSING, /* GET: there is none */
    STORE_UNKNOWN, /* CREATE: it may have been created; anything: try again */
    STORE_BUSY,    /* it was not done: try again */
    STORE_DENIED,  /* credentials, policy: trying again does not help */
    STORE_BROKEN,  /* the answer is not what the protocol allows, or is cut */
    STORE_NO_SPACE,
    STORE_CANCELLED,
};

enum store_verb { STORE_CREATE, STORE_GET, STORE_LIST, STORE_DELETE };
#define STORE_VERBS 4

#define STORE_NAME_MAX 200 /* bytes of a name, without the prefix */
#define STORE_LIST_MAX 1000
#define STORE_WHY_MAX  160

struct store_call {
    /* The caller's, until done(). */
    enum store_verb verb;
    const char *name;         /* LIST: a prefix */
    const struct iovec *body; /* CREATE; unchanged until done(): retries send
                                 the same bytes */
    unsigned body_n;
    uint64_t length; /* CREATE: of the body; GET: bytes wanted, 0: all */
    uint64_t offset; /* GET */
    void *into; /* GET: room for length bytes (or into_max, if that is 0) */
    uint64_t into_max;
    /* GET, instead of that: places for length bytes, one behind the other. What
     * comes of a try that fails may lie there, too. */
    const struct iovec *places;
    unsigned places_n;
    const char *after; /* LIST: names behind this one; NULL: all */
    /* LIST: called for each name (without the store's prefix), in order, before
     * done(); on the loop. */
    void (*found)(struct store_call *call, const char *name, uint64_t size);
    void *found_arg; /* the caller's alone: arg changes on the way down */
    void (*done)(struct store_call *call);
    void *arg;
    const uint8_t *session; /* CREATE through store_retry(): 16 bytes that tell
                               ours from others' */

    /* The store's answer. */
    enum store_result result;
    uint64_t got;  /* GET: bytes that are in `into` */
    uint64_t size; /* GET: of the whole object, UINT64_MAX: not known */
    bool more;     /* LIST: it did not all fit */
    uint64_t retry_after_ns; /* what is tried again waits so long; 0: as it
                                likes */
    char why[STORE_WHY_MAX];

    /* The stack's own, while it is under way. */
    struct store *store;     /* the lowest one */
    struct attempt *attempt; /* store_retry()'s */
    struct fault *fault;     /* store_fault()'s */
    struct list link;
    struct abd_task task;
    struct abd_work work;
    struct abd_timer timer;
    void *state;
    uint64_t began_ns; /* the lowest one's */
    unsigned place;    /* where the next byte of a GET goes ... */
    size_t in_place;
};

struct store_class {
    const char *name;
    void (*start)(struct store *store, struct store_call *call);
    /* The caller does not want it any more: it ends soon, with CANCELLED or as
     * it would have. */
    void (*cancel)(struct store *store, struct store_call *call);
    /* No call is under way. */
    void (*destroy)(struct store *store);
};

/* Counted by the lowest store: what a bill is made of, and what people want to
 * see. */
struct store_counters {
    uint64_t calls[STORE_VERBS], failures[STORE_VERBS], retries[STORE_VERBS];
    uint64_t bytes_up, bytes_down;
    struct histogram latency[STORE_VERBS]; /* of one try */
};

struct store {
    const struct store_class *class;
    struct abd_loop *loop;
    struct store *below; /* of a wrapper */
    struct store_counters counters;
};

static inline void store_start(struct store *store, struct store_call *call)
{
    store->class->start(store, call);
}

static inline void store_cancel(struct store *store, struct store_call *call)
{
    store->class->cancel(store, call);
}

void store_destroy(struct store *store); /* with all that is below it */

/* A GET's bytes, as they come, for implementations.  Begins anew. */
void store_begin_bytes(struct store_call *call);
/* Where the next ones go, at most *ret_room of them; NULL: there is no more
 * room. */
void *store_next_bytes(const struct store_call *call, size_t *ret_room);
/* So many have been put there. */
void store_got_bytes(struct store_call *call, size_t n);
/* Puts them there; false: they don't fit. */
bool store_put_bytes(struct store_call *call, const void *bytes, size_t n);
/* The byte of that number, of those that came. */
uint8_t *store_byte_at(const struct store_call *call, uint64_t at);

/* Counted by the lowest store: a call begins, and ends with its answer. */
void store_count_begin(struct store *store, struct store_call *call);
void store_count_end(struct store *store, struct store_call *call);

/* Sets the answer; of this module's implementations only. */
void store_answer(struct store_call *call, enum store_result result,
                  const char *format, ...)
    __attribute__((format(printf, 3, 4)));
const char *store_result_name(enum store_result result);

/* A directory (store_dir.c).  0 or an errno value, *why tells people; the
 * folder must be there. */
int store_dir(struct abd_loop *loop, const char *path, struct store **ret,
              char why[STORE_WHY_MAX]);

#endif
