/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A plugin that does on threads of its own what is not a request: it opens and
 * closes its disks there, hangs up and ends the server.  There is a disk for
 * each name; the name says what happens:
 *
 *     errno-N   opening fails with this errno value
 *     slow...   opening says so over the socket gate=FD with one byte, and
 *               waits until one comes back
 *     quick...  opening and closing is done at once, on the loop
 *     others    on a thread
 *
 * READs of offset 0 are answered with numbers as JSON: how often disks were
 * opened, closed, and how many were open at once at most.  A WRITE at offset 0
 * of "hang up" or "shut down" ends the client or the server, from a thread, and
 * is completed there as well.  All disks have 64 KiB that nobody keeps. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "abd-loop.h"
#include "abd-plugin.h"

static uint64_t gate, max_requests;
static atomic_uint opens, closes, most;

/* Threads cannot be waited for from destroy(): the server may go on with the
 * end before they have returned from their last call. */
static void on_thread(void *(*run)(void *arg), void *arg)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, run, arg) != 0 ||
        pthread_detach(thread) != 0)
        abort();
}

static void *opened(void *arg)
{
    struct abd_disk *disk = arg;
    unsigned now;
    char byte;

    if (strncmp(disk->export_name, "slow", 4) == 0 &&
        (write((int)gate, "o", 1) != 1 || read((int)gate, &byte, 1) != 1))
        abort();
    if (strncmp(disk->export_name, "errno-", 6) == 0) {
        abd_opened(disk,
                   atoi(disk->export_name + 6)); /* NOLINT(cert-err34-c) */
        return NULL;
    }
    now = atomic_fetch_add(&opens, 1) + 1 - atomic_load(&closes);
    if (now > atomic_load(&most))
        atomic_store(&most, now);
    disk->state = malloc(4096); /* for leaks to be seen */
    abd_opened(disk, disk->state ? 0 : ENOMEM);
    return NULL;
}

static void *closed(void *arg)
{
    struct abd_disk *disk = arg;

    free(disk->state);
    atomic_fetch_add(&closes, 1);
    abd_closed(disk);
    return NULL;
}

static bool is_quick(const struct abd_disk *disk)
{
    return strncmp(disk->export_name, "quick", 5) == 0;
}

static void late_open(struct abd_disk *disk)
{
    disk->size = 65536;
    disk->ops = 1U << ABD_OP_READ | 1U << ABD_OP_WRITE;
    disk->max_requests = (uint32_t)max_requests;
    if (is_quick(disk))
        opened(disk);
    else
        on_thread(opened, disk);
}

static void late_close(struct abd_disk *disk)
{
    if (is_quick(disk))
        closed(disk);
    else
        on_thread(closed, disk);
}

static void *hang_up(void *arg)
{
    struct abd_request *request = arg;

    abd_disconnect(request->client);
    abd_complete(request, 0);
    return NULL;
}

static void *shut_down(void *arg)
{
    abd_shutdown();
    abd_complete(arg, 0);
    return NULL;
}

static void late_submit(struct abd_request *request)
{
    const char *words = request->data;

    /* What is not parallel has one loop, to which its clients have moved. */
    if (abd_loop_current() != request->disk->loop) {
        fputs("Assertion `the loop of the disk' failed\n", stderr);
        abort();
    }
    if (request->op == ABD_OP_READ) {
        memset(request->data, 0, request->length);
        snprintf(request->data, request->length,
                 "{\"opens\": %u, \"closes\": %u, \"most\": %u}",
                 atomic_load(&opens), atomic_load(&closes), atomic_load(&most));
        abd_complete(request, 0);
    } else if (request->length == 7 && memcmp(words, "hang up", 7) == 0) {
        on_thread(hang_up, request);
    } else if (request->length == 9 && memcmp(words, "shut down", 9) == 0) {
        on_thread(shut_down, request);
    } else {
        abd_complete(request, 0);
    }
}

static const struct abd_parameter parameters[] = {
    {"gate", "descriptor of a socket"},
    {"max_requests", "of every disk"},
    {NULL, NULL},
};

static int late_config(struct abd_instance *instance, const char *key,
                       const char *value)
{
    return abd_parse_number(instance, value, 1000,
                            strcmp(key, "gate") == 0 ? &gate : &max_requests);
}

static const struct abd_plugin plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "late",
    .parameters = parameters,
    .flags = ABD_PLUGIN_EXPORTS,
    .config = late_config,
    .open = late_open,
    .submit = late_submit,
    .close = late_close,
};

__attribute__((visibility("default"))) const struct abd_plugin *
abd_plugin_entry(void)
{
    return &plugin;
}
