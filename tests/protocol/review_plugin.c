/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A plugin for the tests of what once was wrong: a disk for each name, of bytes
 * 'U' (or of holes).  Those called "slow..." keep requests, and those called
 * "again..." keep their close(), until the test lets them go: over the socket
 * gate=FD the plugin tells of each with one byte, and for each byte that comes
 * it lets the oldest go; 'o' ends all keeping.  A thread reads the socket. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "abd-loop.h"
#include "abd-plugin.h"

#define MIB ((uint64_t)1 << 20)

static uint64_t transfer, requests, lends, lend_min, holes, gate;
static char *page;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* what follows */
static struct kept *first, **last = &first;
static bool is_open = true;
static unsigned opened_again;

struct kept {
    struct kept *next;
    struct abd_request *request; /* or */
    struct abd_disk *closing;
};

static int lend(struct abd_request *request)
{
    uint64_t left = request->length;
    unsigned n = holes ? 1 : (unsigned)((left + MIB - 1) / MIB);
    struct abd_piece *pieces = calloc(n, sizeof *pieces);

    if (!pieces)
        return ENOMEM;
    for (unsigned i = 0; i < n; i++) {
        uint64_t length = holes || left < MIB ? left : MIB;

        pieces[i] = (struct abd_piece){.kind = holes ? ABD_PIECE_HOLE
                                                     : ABD_PIECE_MEMORY,
                                       .length = length,
                                       .data = page};
        left -= length;
    }
    abd_complete_lent(request, pieces, n, free, pieces);
    return 0;
}

static void finish(struct abd_request *request)
{
    int error = 0;

    if (request->op == ABD_OP_READ && !request->data) {
        error = lend(request);
        if (error == 0)
            return;
    } else if (request->op == ABD_OP_READ) {
        memset(request->data, 'U', request->length);
    }
    abd_complete(request, error);
}

static void close_now(struct abd_disk *disk)
{
    free(disk->state);
    abd_closed(disk);
}

/* Lets the oldest go; false: there was none. */
static bool let_go(void)
{
    struct kept *kept;

    pthread_mutex_lock(&lock);
    kept = first;
    if (kept) {
        first = kept->next;
        if (!first)
            last = &first;
    }
    pthread_mutex_unlock(&lock);
    if (!kept)
        return false;
    if (kept->request)
        finish(kept->request);
    else
        close_now(kept->closing);
    free(kept);
    return true;
}

/* False: nothing is kept (any more). */
static bool keep(struct abd_request *request, struct abd_disk *closing)
{
    struct kept *kept = malloc(sizeof *kept);
    bool done = false;

    if (!kept)
        return false;
    *kept = (struct kept){.request = request, .closing = closing};
    pthread_mutex_lock(&lock);
    if (!is_open) {
        *last = kept;
        last = &kept->next;
        done = true;
    }
    pthread_mutex_unlock(&lock);
    if (!done)
        free(kept);
    else if (write((int)gate, request ? "r" : "c", 1) != 1)
        abort();
    return done;
}

static void *gate_thread(void *arg)
{
    char byte;

    while (read((int)gate, &byte, 1) == 1 && byte != 'o')
        let_go();
    pthread_mutex_lock(&lock);
    is_open = true;
    pthread_mutex_unlock(&lock);
    while (let_go())
        ;
    return arg;
}

static int review_config(struct abd_instance *instance, const char *key,
                         const char *value)
{
    static const struct {
        const char *key;
        uint64_t *value;
    } keys[] = {{"transfer", &transfer}, {"requests", &requests},
                {"lends", &lends},       {"lend_min", &lend_min},
                {"holes", &holes},       {"gate", &gate}};

    for (unsigned i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(key, keys[i].key) == 0)
            return abd_parse_size(instance, value, keys[i].value);
    abd_log(instance, NULL, ABD_ERROR, "%s: no such parameter", key);
    return EINVAL;
}

static int review_start(struct abd_instance *instance)
{
    pthread_t thread;
    int error;

    (void)instance;
    page = malloc(MIB);
    if (!page)
        return ENOMEM;
    memset(page, 'U', MIB);
    if (gate == 0)
        return 0;
    is_open = false;
    error = pthread_create(&thread, NULL, gate_thread, NULL);
    return error ? error : pthread_detach(thread);
}

static void review_open(struct abd_disk *disk)
{
    disk->size = 1ull << 40;
    disk->max_transfer = transfer;
    disk->ops |= 1U << ABD_OP_READ | 1U << ABD_OP_FLUSH;
    disk->lend_min = (uint32_t)lend_min;
    if (lends)
        disk->flags |= ABD_DISK_LENDS;
    if (strncmp(disk->export_name, "slow", 4) == 0)
        disk->max_requests = (uint32_t)requests;
    /* Sets only what differs from zero, as the contract allows. */
    if (strncmp(disk->export_name, "again", 5) == 0 && opened_again++ == 0) {
        disk->canonical_name = disk->state = strdup("only the first time");
        disk->ops |= 1U << ABD_OP_WRITE;
    }
    abd_opened(disk, 0);
}

static void review_submit(struct abd_request *request)
{
    if (strncmp(request->disk->export_name, "slow", 4) != 0 ||
        !keep(request, NULL))
        finish(request);
}

static void review_close(struct abd_disk *disk)
{
    if (strncmp(disk->export_name, "again", 5) != 0 || !keep(NULL, disk))
        close_now(disk);
}

static const struct abd_plugin plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "review",
    .flags = ABD_PLUGIN_EXPORTS,
    .config = review_config,
    .start = review_start,
    .open = review_open,
    .submit = review_submit,
    .close = review_close,
};

__attribute__((visibility("default"))) const struct abd_plugin *
abd_plugin_entry(void)
{
    return &plugin;
}
