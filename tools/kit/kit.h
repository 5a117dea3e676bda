/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* abdkit-check: a host that holds a plugin to its contract.
 *
 * It is no server: it opens the plugin's disk and uses it as no client could,
 * at every border, in every order, watching each rule of abd-plugin.h.  A rule
 * that is broken is one line of output that names it and the plugin.
 *
 *     plugin.c    loading, and the life of an instance
 *     disk.c      abd_opened() and its kin; opening and closing
 *     request.c   abd_complete() and its kin; memory that nobody may touch
 * later model.c     what the disk must contain load.c      random operations on
 * one loop, checked against the model checks.c    the list of checks report.c
 * what is said of them
 *
 * The main thread runs one check after the other and waits; everything that
 * touches the plugin's disk runs on loops. */
#ifndef ABD_KIT_KIT_H
#define ABD_KIT_KIT_H

#include "abd-loop.h"
#include "abd-plugin.h"

#include "base/list.h"
#include "loop/loop.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct load;

/* From the command line. */
struct kit_options {
    const char *path;
    char **parameters; /* key=value, n of them */
    unsigned parameters_n;
    uint64_t seed, operations, timeout_ns;
    unsigned loops, depth;
    bool may_write, verbose;
    bool keeps;       /* the disk keeps what is written */
    bool may_be_slow; /* who holds a loop is not reported */
};
extern struct kit_options options;

/* --- report.c --- */

/* The check that runs now, for messages. */
void report_begin(const char *check);
/* It has failed; only the first time for a check is it said.  Any thread. */
void report_failure(const char *format, ...)
    __attribute__((format(printf, 1, 2)));
/* It does not apply. */
void report_skip(const char *reason);
void report_end(void);
/* Something after which nothing can go on: reports, and ends the process. */
void report_fatal(const char *format, ...)
    __attribute__((format(printf, 1, 2), noreturn));
bool report_has_failed(void);
/* The last line; returns the exit status. */
int report_finish(void);

/* --- plugin.c --- */

extern const struct abd_plugin *plugin;

void plugin_load(void);
/* create, config, ready; and start() once the loops run.  False: reported. */
bool instance_begin(struct abd_instance *instance);
bool instance_start(struct abd_instance *instance);
void instance_end(struct abd_instance *instance);

/* --- disk.c --- */

struct kit_disk {
    struct abd_disk pub;
    struct abd_client client; /* who uses it */
    sem_t ready;              /* opened or closed */
    int error;
    atomic_uint opened, closed; /* how often it was said */
    bool admitted;
    uint64_t transfer;     /* max_transfer, never 0 */
    uint32_t block_min;    /* never 0 */
    unsigned max_requests; /* never 0 */
    struct loop_message message;
};

/* Opens a disk of the instance on loop 0, admits a client.  False: reported. */
bool disk_open(struct kit_disk *disk, struct abd_instance *instance,
               bool read_only);
/* leave, then close; returns when it is closed. */
void disk_close(struct kit_disk *disk);
static inline bool disk_has(const struct kit_disk *disk, enum abd_op op)
{
    return disk->pub.ops & (1U << op);
}
/* Does it say what it may say? */
void disk_check_fields(const struct kit_disk *disk);
/* LIST; returns the number of exports, or -1 with an error reported. */
int exports_count(struct abd_instance *instance);

/* --- request.c --- */

#define KIT_EXTENTS 256

struct kit_request {
    struct abd_request pub;
    _Atomic uint32_t state; /* enum kit_state */
    struct kit_disk *disk;
    struct load *load;
    struct abd_loop *loop;
    int error;
    uint64_t error_at;
    bool had_text;

    /* Guarded memory: [scratch page][data], nobody's after the end. */
    void *memory;
    size_t memory_size;

    const struct abd_piece *pieces; /* lent */
    unsigned pieces_n;
    void (*release)(void *arg);
    void *release_arg;

    struct {
        uint64_t length;
        uint32_t flags;
    } extents[KIT_EXTENTS];
    unsigned extents_n;
    bool extents_refused;

    atomic_bool cancelled;
    struct loop_message message;
    struct list link;
    struct kit_request *older; /* in the list of all */
    uint64_t began_ns;
};

enum kit_state { KIT_NEW, KIT_PLUGIN, KIT_DONE };

/* A request that was never used before, with data of its own unless the caller
 * wants a READ to be lent. */
struct kit_request *request_new(struct load *load, uint32_t op, uint32_t flags,
                                uint64_t offset, uint64_t length, bool lent);
/* Gives it to the plugin; ended requests come back to load_ended(). */
void request_submit(struct kit_request *request);
void request_cancel(struct kit_request *request);
/* Lent memory goes back; on the thread of submit(). */
void request_release(struct kit_request *request);
/* The plugin has ended it, and we have looked at everything: from now on its
 * memory can't be touched.  The struct stays for ever. */
void request_retire(struct kit_request *request);

/* --- model.c --- */

/* What a range of the disk must contain. */
struct model {
    uint64_t offset, length;
    uint8_t *bytes;
    uint8_t *known; /* 1: bytes counts; 0: nobody knows */
};
bool model_init(struct model *model, uint64_t offset, uint64_t length);
void model_finish(struct model *model);
void model_write(struct model *model, uint64_t offset, uint64_t length,
                 const uint8_t *data);
void model_zero(struct model *model, uint64_t offset, uint64_t length);
void model_forget(struct model *model, uint64_t offset, uint64_t length);
/* Compares, and learns what it did not know.  UINT64_MAX: equal; else the first
 * offset that differs. */
uint64_t model_check(struct model *model, uint64_t offset, uint64_t length,
                     const uint8_t *data);

/* --- load.c --- */

/* What a load does. */
struct load_plan {
    uint64_t operations;
    unsigned depth;
    bool cancels;  /* cancels requests at random */
    bool lends;    /* READs without data, released late */
    bool borders;  /* offsets and lengths at every border first */
    bool abandons; /* at the end all in flight is cancelled */
};
/* Runs it on every loop that the disk is used on, and waits.  Failures are
 * reported. */
void load_run(struct kit_disk *disk, const struct load_plan *plan);
/* request.c: on the loop of the request. */
void load_ended(struct kit_request *request);

/* --- checks.c --- */

void checks_list(void);
void checks_run(void);

#endif
