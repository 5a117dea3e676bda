/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Stands for the server in tests of plugins: real loops and a real work pool,
 * but requests come from the test.  One plugin, one instance, one disk. */
#ifndef PLUGIN_DOUBLE_H
#define PLUGIN_DOUBLE_H

#include <stdbool.h>
#include <stdint.h>

#include "abd-loop.h"
#include "abd-plugin.h"

#define DOUBLE_EXTENTS 64

struct plugin_double {
    const struct abd_plugin *plugin;
    struct abd_instance instance;
    struct abd_disk disk;
    struct abd_task task;
    int result;
    bool ended; /* open or close */
};

/* One request, to be zeroed before use. */
struct request_double {
    struct abd_request request;
    _Alignas(16) uint8_t scratch[256];
    struct request_double *next;
    struct abd_task task;
    struct plugin_double *owner;

    /* The answer. */
    bool ended, cancelled;
    int error;
    uint64_t failed_at;
    const struct abd_piece *pieces;
    unsigned piece_count;
    void (*release)(void *arg);
    void *release_arg;
    unsigned extent_count, extents_wanted; /* 0 wanted: all that fit */
    struct {
        uint64_t length;
        uint32_t flags;
    } extents[DOUBLE_EXTENTS];
};

void double_start_loops(unsigned count);
void double_stop_loops(void);

/* create, then config for each pair of strings up to NULL, ready, start; the
 * first error ends it.  destroy() is needed in every case. */
int double_create(struct plugin_double *host, ...) __attribute__((sentinel));
void double_destroy(struct plugin_double *host);
int double_open(struct plugin_double *host);
void double_close(struct plugin_double *host);
void double_set_debug(struct plugin_double *host, const char *name, int value);

void double_prepare(struct plugin_double *host, struct request_double *request,
                    uint32_t op, uint64_t offset, uint64_t length, void *data);
/* A list of requests on the loop with this number, then kick(). */
void double_submit(unsigned loop, struct request_double *requests);
void double_wait(struct request_double *request);
/* prepare, submit on loop 0, wait; returns the error. */
int double_run(struct plugin_double *host, struct request_double *request,
               uint32_t op, uint64_t offset, uint64_t length, void *data);
/* Copies what was lent. */
void double_copy_lent(const struct request_double *request, uint8_t *to);
/* On loop 0, where it was submitted by double_run(). */
void double_release(struct request_double *request);

#endif
