/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Where a volume is: from its URL and the parameters that say how to get there
 * to the stack of stores.  For the plugin and for abdvol. */
#ifndef ABD_OBJECT_PLACE_H
#define ABD_OBJECT_PLACE_H

#include "store_s3.h"

struct place;

/* Strings: the caller's, copied by place_find(). */
struct place_options {
    const char *url;            /* dir:PATH or s3://BUCKET[/PREFIX] */
    struct store_s3_options s3; /* but for its URL */
    const char *fault;          /* see store_fault(), or NULL */
    uint64_t retry_for_ns;
};

/* Is it one?  NULL, or what it must be.  No I/O. */
const char *place_check_url(const char *url);

/* Whatever can be found to be wrong without asking the store.  It may block.
 * 0 or an errno value, why says what is wrong. */
int place_find(const struct place_options *options, struct place **ret,
               char why[STORE_WHY_MAX]);
void place_free(struct place *place);
/* What its store keeps for itself, in bytes, beside what it is asked for. */
uint64_t place_memory(const struct place *place);
/* The stack of stores; the place must outlive it.  on_crash: a crash by the
 * plan of faults has come.  On the loop.  0 or an errno value, why says what is
 * wrong. */
int place_store(const struct place *place, struct abd_loop *loop,
                void (*on_crash)(void *arg), void *on_crash_arg,
                struct store **ret, char why[STORE_WHY_MAX]);

#endif
