/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the files of a volume's opening share: volume_open.c finds and claims,
 * volume_replay.c replays and fences. */
#ifndef ABD_OBJECT_VOLUME_OPEN_H
#define ABD_OBJECT_VOLUME_OPEN_H

#include "volume.h"

struct replay;

/* What comes damaged is fetched so often (P4). */
#define OPENING_TRIES 3

struct opening {
    struct volume *volume;
    void (*opened)(struct volume *volume, int error, void *arg);
    void *arg;
    unsigned calls; /* under way */
    unsigned tries; /* of what came damaged */
    bool ended, end_posted, created;
    int error;
    struct abd_task task;

    /* The one call of volume_open.c, and what follows it. */
    struct store_call call;
    void (*next)(struct opening *opening);
    char name[NAME_SIZE];
    uint8_t *buffer; /* JSON_MAX */
    char *text;      /* being created */
    struct iovec body;
    uint8_t other[UUID_SIZE]; /* a session that must not get the claim */

    /* The highest epoch that was found. */
    uint32_t epoch, hint, step;
    bool halving;
    char after[NAME_SIZE * 2], list_after[NAME_SIZE * 2];

    struct replay *replay; /* volume_replay.c's */
};

void opening_fail(struct opening *opening, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The log is ours (or only read), and known. */
void opening_serve(struct opening *opening);
/* What was replayed without a claim may be claimed. */
void opening_claim(struct opening *opening);
int opening_error(enum store_result result);
/* The calls that were under way have ended. */
void opening_idle(struct opening *opening);

/* Goes on where it was, if it was interrupted by the claim. */
void replay_begin(struct opening *opening);
void replay_free(struct opening *opening);

/* Looks for a later claim, now and then (P3). */
void volume_start_watching(struct volume *volume);

#endif
