/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A host for one filter, for its unit test: the part of the server that filters
 * see, in one thread and with a clock that only moves when told.
 *
 * The chain is the filter (linked in), once or several times, over a disk of
 * the test's.  Whatever the interface says happens later is queued and happens
 * in host_run().  Scratch memory is of exactly the size that the filter asked
 * for and is freed as soon as the filter has given the request away, so ASan
 * and valgrind see every touch too many. */
#ifndef ABD_TESTS_FILTER_HOST_H
#define ABD_TESTS_FILTER_HOST_H

#include "abd-filter.h"
#include "abd-loop.h"

#include <stdbool.h>
#include <stdint.h>

#define HOST_LAYERS 4

/* A request as the test sees it; freed by host_free(). */
struct host_request {
    struct abd_request pub;
    struct host_request *parent, *next;
    unsigned loop;
    unsigned frames; /* layers that wait for its end */
    struct {
        struct abd_disk *disk;
        uint64_t offset;
        void *scratch;
        int (*after)(struct abd_request *, int);
    } frame[HOST_LAYERS];
    unsigned children; /* at once */
    void (*ended)(struct abd_request *, int, void *);
    void *arg;
    bool completed, cancelled;

    /* When it has ended: */
    bool done;
    int error;
    uint64_t done_ns;
    uint64_t fail_at;
    char text[200];
    const struct abd_piece *pieces;
    unsigned n_pieces;
};

/* What the lowest disk was asked for. */
struct host_seen {
    uint32_t op, flags;
    uint64_t offset, length, at_ns;
    const void *data;
};

struct host {
    /* The test's to set: */
    struct abd_disk below;        /* what the lowest disk says of itself */
    int open_error;               /* its open() fails */
    bool hold;                    /* requests stay in it until host_answer() */
    int answer;                   /* the error it answers with otherwise */
    const struct abd_piece *lend; /* reads without data end with these */
    unsigned n_lend;

    /* The test's to read: */
    struct abd_disk *top;
    int open_result; /* ENODATA: not known yet */
    uint64_t now_ns;
    unsigned shutdowns;
    unsigned opened_read_only; /* how often the lowest disk was, and not */
    unsigned opened_writable;
    unsigned open_disks; /* all layers together */
    unsigned timers;     /* started */
    struct host_seen *seen;
    unsigned n_seen;
    char log[65536];
};
extern struct host host;

/* Forgets everything; loops: how many there seem to be. */
void host_init(unsigned loops);
/* Puts the filter once more into the chain, below those that there are; the
 * first is the outermost.  config: "key=value" strings, NULL at the end.  The
 * first error of create() and config(); ENOENT: a key that it does not have. */
int host_layer(const char *const *config);
/* ready() and start() of all layers; the first error. */
int host_start(void);
/* Opens the chain; returns host.open_result. */
int host_open(void);
/* Closes the chain; true: all is closed. */
bool host_close(void);
/* destroy() of all layers. */
void host_stop(void);

/* Code that follows seems to run on this loop. */
void host_enter_loop(unsigned index);
int host_admit(const struct abd_client *client);
void host_leave(const struct abd_client *client);
struct host_request *host_submit(uint32_t op, uint32_t flags, uint64_t offset,
                                 uint64_t length, void *data,
                                 const struct abd_client *client);
void host_cancel(struct host_request *request);
/* Ends the oldest request that is held below. */
bool host_answer(int error);
/* Does all that is queued. */
void host_run(void);
/* Lets time pass, and does what becomes due, in order. */
void host_advance(uint64_t ns);
void host_free(struct host_request *request);

#endif
