/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the two files of the wild plugin share. */
#ifndef ABD_TESTS_WILD_H
#define ABD_TESTS_WILD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "abd-loop.h"
#include "abd-plugin.h"

#define THREADS 3

enum mode { INLINE, TIMER, THREAD, RANDOM };

/* The contents of one export; the instance's. */
struct store {
    struct store *next;
    char *name;
    int fd;
    uint8_t *bytes;
    pthread_mutex_t lock; /* protects bytes */
};

/* One opened disk: disk->state. */
struct wild_disk {
    struct store *store;
    atomic_uint inside;  /* requests */
    atomic_uint clients; /* admitted */
    atomic_uint loans;
};

struct wild {
    uint64_t size, max_transfer, max_zero, max_trim, max_requests;
    uint64_t block_min, block_max, lend_min, seed, lends, parallel, errors;
    uint64_t refuse_zero, exports, fast_zero, aligned, admits_most;
    uint32_t ops;
    enum abd_fua fua;
    enum mode mode;
    char *counts;
    atomic_uint asked[8], fua_seen, most, opens, loans, all_loans, cancels;
    atomic_uint admits;

    pthread_mutex_t lock; /* protects what follows */
    pthread_cond_t more;
    struct task *tasks;
    struct store *stores;
    bool stop;
    pthread_t threads[THREADS];
};

/* A request's scratch. */
struct task {
    struct abd_request *request;
    struct task *next;
    struct abd_loop *loop; /* of submit() */
    struct abd_timer timer;
};

/* wild_requests.c */
void wild_submit(struct abd_request *request);
void wild_cancel(struct abd_request *request);
/* A thread that carries requests out, until wild->stop. */
void *wild_run(void *wild);

#endif
