/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The plugin's own: a volume as a disk.  object.c has parameters and opening,
 * object_io.c the requests. */
#ifndef ABD_OBJECT_OBJECT_H
#define ABD_OBJECT_OBJECT_H

#include "abd-plugin.h"

#include "volume.h"

#include "base/list.h"

struct object_config {
    char *url;
    char *fault; /* a plan of faults, for tests */
    uint64_t memory;
    struct volume_options options;
    bool has_size;
};

/* disk->state.  Everything on the disk's loop. */
struct object_disk {
    struct abd_disk *pub;
    const struct object_config *config;
    struct store *store;
    struct volume volume;
    struct list waiting; /* struct io: for room in the log, in order */
    struct list holds;   /* struct io: ranges whose old contents are read */
    struct list held;    /* struct io: ended, but not to be said yet (P3) */
};

void object_io_init(struct object_disk *disk);
void object_submit(struct abd_request *request);
/* Room has come in the log. */
void object_io_room(void *arg);
/* What was held may be said. */
void object_io_trusted(struct object_disk *disk);

#define OBJECT_SCRATCH 256

#endif
