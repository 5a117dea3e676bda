/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Loads: random operations on the loops that a disk is used on, each load with
 * its own part of the disk and its own model of that. */
#ifndef ABD_CHECK_LOAD_H
#define ABD_CHECK_LOAD_H

#include "tools/check/disk.h"
#include "tools/check/model.h"
#include "tools/check/request.h"
#include "tools/check/rules.h"

/* What is asked for.  Read-only while it runs. */
struct load_plan {
    uint64_t operations; /* of all loops together */
    unsigned depth;      /* of each loop */
    bool cancels;        /* at random */
    bool lends;          /* READs without data, released late */
    bool borders;        /* every operation and length at every border */
    bool abandons;       /* all are cancelled as soon as they are submitted */
    bool overlaps;       /* what is in flight may overlap: no data is checked */
    bool only_reads;
    enum rule rule; /* that wrong data break; 0: RULE_DATA */
    const struct abd_client *const *clients;
    unsigned clients_n;
    struct model *keeps; /* what must be there, and in the end is; or NULL */
};

/* What is on the way.  The load's loop only. */
struct operation {
    struct load *load;
    struct request *request;
    struct list link;
    /* As they were asked for. */
    uint32_t op, flags;
    uint64_t offset, length;
    const uint8_t *data; /* of a WRITE; the request's */
    /* Of a loan: what was there at first, what may be there since. */
    uint8_t *bytes, *maybe, *mask; /* mask 1: maybe counts, 2: anything does */
};

struct load {
    struct disk *disk;
    const struct load_plan *plan;
    struct abd_loop *loop;
    uint64_t begin, length; /* its part of the disk */
    unsigned depth;
    uint64_t operations;
    uint64_t random;
    struct model own_model, *model;
    uint64_t started, border;
    struct list in_flight, held; /* of struct operation */
    unsigned in_flight_n, held_n;
    bool finishing, nudged;
    struct loop_message message, nudge;
    sem_t *finished;
    /* Shared: the main thread looks whether it gets on. */
    _Atomic uint64_t ended;
    struct guard_record *_Atomic oldest;
};

/* Runs the plan, and returns when all has ended. */
void load_run(struct disk *disk, const struct load_plan *plan);

/* choose.c: fills in what is to be done next; false: nothing fits now. */
bool choose(struct load *load, struct operation *operation);
static inline bool op_writes(uint32_t op)
{
    return op == ABD_OP_WRITE || op == ABD_OP_ZERO || op == ABD_OP_TRIM;
}

/* verify.c: is what came back right?  Updates the model. */
void verify(struct operation *operation);
/* Loans: what they must show from now on; a write is submitted; is it so? */
void verify_lent(struct operation *operation);
void verify_note_write(struct load *load, const struct operation *operation);
void verify_still_lent(struct operation *operation);

#endif
