/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Implements what of abd-plugin.h the server does, in the simplest way: a
 * completion stores its result and wakes the test. */
#include "plugin_double.h"

#include <assert.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/list.h"
#include "loop/host.h"
#include "loop/loop.h"
#include "loop/work.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static struct request_double *double_of(const struct abd_request *request)
{
    return container_of((struct abd_request *)(uintptr_t)request,
                        struct request_double, request);
}

static void end(struct request_double *request, int error)
{
    pthread_mutex_lock(&lock);
    assert(!request->ended);
    request->error = error;
    request->ended = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

void abd_complete(struct abd_request *request, int error)
{
    end(double_of(request), error);
}

void abd_fail(struct abd_request *request, int error, uint64_t at,
              const char *format, ...)
{
    assert(error && format);
    double_of(request)->failed_at = at;
    end(double_of(request), error);
}

void abd_complete_lent(struct abd_request *request,
                       const struct abd_piece *pieces, unsigned n,
                       void (*release)(void *arg), void *arg)
{
    struct request_double *self = double_of(request);
    uint64_t length = 0;

    assert(request->op == ABD_OP_READ && n <= ABD_PIECES_MAX && release);
    for (unsigned i = 0; i < n; i++)
        length += pieces[i].length;
    assert(length == request->length);
    self->pieces = pieces;
    self->piece_count = n;
    self->release = release;
    self->release_arg = arg;
    end(self, 0);
}

bool abd_add_extent(struct abd_request *request, uint64_t length,
                    uint32_t flags)
{
    struct request_double *self = double_of(request);
    unsigned wanted =
        self->extents_wanted ? self->extents_wanted : DOUBLE_EXTENTS;

    assert(!self->ended && length > 0 && self->extent_count < wanted);
    self->extents[self->extent_count].length = length;
    self->extents[self->extent_count].flags = flags;
    return ++self->extent_count < wanted;
}

bool abd_cancelled(const struct abd_request *request)
{
    return double_of(request)->cancelled;
}

static void end_disk(struct abd_disk *disk, int error)
{
    struct plugin_double *host = container_of(disk, struct plugin_double, disk);

    pthread_mutex_lock(&lock);
    assert(!host->ended);
    host->result = error;
    host->ended = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

void abd_opened(struct abd_disk *disk, int error)
{
    end_disk(disk, error);
}

void abd_closed(struct abd_disk *disk)
{
    end_disk(disk, 0);
}

void double_start_loops(unsigned count)
{
    int err = host_remember_directory();
    assert(!err);
    err = loops_create(count);
    assert(!err);
    err = loops_start();
    assert(!err);
}

void double_stop_loops(void)
{
    loops_stop();
    loops_destroy();
    work_finish();
}

int double_create(struct plugin_double *host, ...)
{
    const char *key;
    va_list args;

    *host = (struct plugin_double){.plugin = abd_plugin_entry()};
    host->instance.name = host->plugin->name;
    assert(host->plugin->abi == ABD_ABI);
    int err = host->plugin->create(&host->instance);
    va_start(args, host);
    while (!err && (key = va_arg(args, const char *)))
        err = host->plugin->config(&host->instance, key,
                                   va_arg(args, const char *));
    va_end(args);
    if (!err && host->plugin->ready)
        err = host->plugin->ready(&host->instance);
    if (!err && host->plugin->start)
        err = host->plugin->start(&host->instance);
    return err;
}

void double_destroy(struct plugin_double *host)
{
    host->plugin->destroy(&host->instance);
}

void double_set_debug(struct plugin_double *host, const char *name, int value)
{
    const struct abd_debug_flag *flag = host->plugin->debug_flags;

    while (strcmp(flag->name, name) != 0)
        flag++;
    *flag->value = value;
}

static void run_open(void *arg)
{
    struct plugin_double *host = arg;

    host->plugin->open(&host->disk);
}

static void run_close(void *arg)
{
    struct plugin_double *host = arg;

    host->plugin->close(&host->disk);
}

static int run_on_disk(struct plugin_double *host, void (*fn)(void *arg))
{
    host->ended = false;
    abd_post(host->disk.loop, &host->task, fn, host);
    pthread_mutex_lock(&lock);
    while (!host->ended)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    return host->result;
}

int double_open(struct plugin_double *host)
{
    bool read_only = host->disk.read_only;

    host->disk = (struct abd_disk){
        .struct_size = sizeof host->disk,
        .instance = &host->instance,
        .loop = abd_loop_at(0),
        .export_name = "",
        .read_only = read_only,
    };
    return run_on_disk(host, run_open);
}

void double_close(struct plugin_double *host)
{
    run_on_disk(host, run_close);
}

void double_prepare(struct plugin_double *host, struct request_double *request,
                    uint32_t op, uint64_t offset, uint64_t length, void *data)
{
    uint32_t flags = request->request.flags;
    unsigned wanted = request->extents_wanted;
    bool cancelled = request->cancelled;

    *request = (struct request_double){.owner = host,
                                       .extents_wanted = wanted,
                                       .cancelled = cancelled,
                                       .failed_at = ABD_NO_OFFSET};
    request->request = (struct abd_request){
        .disk = &host->disk,
        .op = op,
        .flags = flags,
        .offset = offset,
        .length = length,
        .data = data,
        .scratch = request->scratch,
    };
}

static void run_requests(void *arg)
{
    struct request_double *request = arg;
    struct plugin_double *host = request->owner;

    /* From its submit() on a request may end, and its test go on. */
    while (request) {
        struct request_double *next = request->next;
        host->plugin->submit(&request->request);
        request = next;
    }
    if (host->plugin->kick)
        host->plugin->kick(&host->disk);
}

void double_submit(unsigned loop, struct request_double *requests)
{
    abd_post(abd_loop_at(loop), &requests->task, run_requests, requests);
}

void double_wait(struct request_double *request)
{
    pthread_mutex_lock(&lock);
    while (!request->ended)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

int double_run(struct plugin_double *host, struct request_double *request,
               uint32_t op, uint64_t offset, uint64_t length, void *data)
{
    double_prepare(host, request, op, offset, length, data);
    double_submit(0, request);
    double_wait(request);
    return request->error;
}

void double_copy_lent(const struct request_double *request, uint8_t *to)
{
    for (unsigned i = 0; i < request->piece_count; i++) {
        const struct abd_piece *piece = &request->pieces[i];
        if (piece->kind == ABD_PIECE_HOLE) {
            memset(to, 0, piece->length);
        } else if (piece->kind == ABD_PIECE_MEMORY) {
            memcpy(to, piece->data, piece->length);
        } else {
            ssize_t n =
                pread(piece->fd, to, piece->length, (off_t)piece->fd_offset);
            assert(n == (ssize_t)piece->length);
        }
        to += piece->length;
    }
}

static void run_release(void *arg)
{
    struct request_double *request = arg;

    request->release(request->release_arg);
    pthread_mutex_lock(&lock);
    request->release = NULL;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

void double_release(struct request_double *request)
{
    abd_post(abd_loop_at(0), &request->task, run_release, request);
    pthread_mutex_lock(&lock);
    while (request->release)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}
