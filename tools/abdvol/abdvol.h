/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* abdvol's own: abdvol.c has options and the beginning and end, each command
 * has a file.
 *
 * The main thread parses and prints; everything of a volume runs on the one
 * loop.  A command is a chain of calls that ends in finish(). */
#ifndef ABDVOL_H
#define ABDVOL_H

#include "plugins/object/place.h"
#include "plugins/object/volume.h"

#include <semaphore.h>

#define MIB (UINT64_C(1) << 20)

struct command {
    const char *name;
    /* The volume is open (or there is none, for list): on the loop. */
    void (*run)(void);
};

/* What people see while they wait, on a terminal only. */
struct progress {
    uint64_t done, total; /* total 0: not known */
    const char *unit;
    uint64_t divisor; /* of both, for the unit */
    uint64_t began_ns, shown_ns;
};

struct abdvol {
    const char *url;
    const struct command *command;
    bool json, take_over;
    struct volume_options options;
    struct place_options where;

    struct place *place;
    struct store *store;
    struct volume volume;
    bool opened; /* volume is to be finished */
    sem_t done;
    int error;
    char why[2 * STORE_WHY_MAX];

    uint64_t data;             /* bytes that the map has */
    uint64_t checked, damaged; /* blocks */
    uint64_t deleted;
    bool shows_progress;
    struct progress progress;
};
extern struct abdvol self;

/* Ends the command: error 0 or an errno value, why may be NULL. */
void finish(int error, const char *why);
/* Closes the volume, then finishes with what self.error says. */
void close_volume(void);

void progress_begin(uint64_t total, const char *unit, uint64_t divisor);
void progress_show(uint64_t done);
/* Wipes the line, so that something else can be said. */
void progress_clear(void);

void check_run(void);
void delete_run(void);
void list_run(void);
/* Frees what it found, after printing it; on the main thread. */
void list_print(void);

#endif
