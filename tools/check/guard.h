/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Memory that tells on who touches it at the wrong time.
 *
 * Requests, scratch, data and disks lie in pages of their own, each followed by
 * one that nobody may touch, in one range of address space of which no page is
 * ever used twice.  When its object has ended, a page can't be touched any
 * more; a record of what it was stays.  So a second completion, or a write to
 * data, is found out however late it comes. */
#ifndef ABD_CHECK_GUARD_H
#define ABD_CHECK_GUARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum guard_state {
    GUARD_OURS,    /* the kit's */
    GUARD_PLUGINS, /* submitted, or being opened, closed or used */
    GUARD_DONE,    /* completed, which the kit has not seen yet */
    GUARD_ENDED,
};

enum guard_kind { GUARD_REQUEST, GUARD_SCRATCH, GUARD_DATA, GUARD_DISK };

/* Of one request or disk; never freed. */
struct guard_record {
    /* Set once, before the object is anybody else's. */
    void *object; /* of requests valid until GUARD_ENDED */
    uint32_t op;
    uint64_t id, offset, length;
    /* Shared. */
    _Atomic uint32_t state;  /* enum guard_state */
    const char *_Atomic who; /* the plugin that has or had it */
    atomic_bool is_cancelled;
};

/* Once, before all else.  Also catches faults and says which rule they broke.
 */
void guard_init(void);
struct guard_record *guard_record_new(void);
/* True if so much has been used that the run should end. */
bool guard_is_short(void);

/* size bytes, zeroed, aligned, whose end is at most spare bytes (and what the
 * alignment costs) away from where nothing can be touched. */
void *guard_take(struct guard_record *record, enum guard_kind kind, size_t size,
                 size_t alignment, size_t spare);
/* Makes it read-only or writable again for everybody. */
void guard_set_writable(void *memory, size_t size, bool writable);
/* Nobody can touch it from now on.  False: something was written in front of it
 * or behind it. */
bool guard_end(void *memory, size_t size);

/* Who does something to it now: whose code runs on this loop, else (on a thread
 * of a plugin) who had it last. */
const char *guard_blame(const struct guard_record *record);

/* The record of a request or disk that begins exactly there, or NULL. */
struct guard_record *guard_find(const void *address, enum guard_kind kind);

/* From here to guard_lent_end() this thread reads what who has lent: a fault is
 * that of the lender. */
void guard_lent_begin(const struct guard_record *record, const char *who);
void guard_lent_end(void);

/* "request 7 (READ of 4096 bytes at 0)"; in a buffer of the thread's. */
const char *guard_describe(const struct guard_record *record);

#endif
