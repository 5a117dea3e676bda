/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The plugin's own: a volume as a disk.  object_config.c has parameters,
 * object.c opening and closing, object_io.c the requests. */
#ifndef ABD_OBJECT_OBJECT_H
#define ABD_OBJECT_OBJECT_H

#include "abd-plugin.h"

#include "place.h"
#include "volume.h"

#include "base/list.h"

/* instance->state */
struct object_config {
    struct place_options where; /* with strings of its own */
    struct place *place;        /* from ready() on */
    uint64_t memory;
    struct volume_options options;
};

/* object_config.c: the plugin's callbacks, see abd-plugin.h. */
extern const struct abd_parameter object_parameters[];
int object_create(struct abd_instance *instance);
int object_configure(struct abd_instance *instance, const char *key,
                     const char *value);
int object_ready(struct abd_instance *instance);
void object_destroy(struct abd_instance *instance);

#define OBJECT_PAID_MAX 16 /* of ABD_BUFFER_MAX */

/* disk->state.  Everything on the disk's loop. */
struct object_disk {
    struct abd_disk *pub;
    const struct object_config *config;
    struct store *store;
    struct volume volume;
    /* Buffers that nobody writes to: they pay for what the store keeps. */
    void *paid[OBJECT_PAID_MAX];
    unsigned paid_n;
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

/* object_status.c: the plugin's callback. */
void object_status(struct abd_disk *pub, struct abd_status *status);

#endif
