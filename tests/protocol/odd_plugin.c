/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A disk in memory that is as odd as the contract allows: every limit and every
 * operation that it has or lacks is a parameter, and it completes inline, from
 * a timer or from a thread, in any order.  It counts what it is asked, and
 * writes the counts to a file at the end. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abd-loop.h"
#include "abd-plugin.h"

enum mode { INLINE, TIMER, THREAD };

struct odd {
    uint64_t size, max_transfer, max_zero, max_trim, max_requests, block_min;
    uint64_t lacks, fua, lends, parallel, refuse_zero, fail_flush;
    enum mode mode;
    char *counts;
    uint8_t *bytes;
    pthread_mutex_t lock; /* protects what is below */
    pthread_cond_t more;
    struct task *tasks;
    unsigned asked[8], fua_seen, inside, most;
    uint64_t longest[8];
    int stop;
    pthread_t thread;
};

struct task {
    struct abd_request *request;
    struct task *next;
    struct abd_timer timer;
    struct abd_piece pieces[3];
};

static void release_nothing(void *arg)
{
    (void)arg;
}

/* The first half is lent as two pieces, and the end if it is zero as a hole. */
static void lend(struct odd *odd, struct abd_request *request)
{
    struct task *task = request->scratch;
    uint64_t half = request->length / 2, rest = request->length - half;
    uint8_t *from = odd->bytes + request->offset;
    unsigned n = 0, zero = 1;

    if (half)
        task->pieces[n++] = (struct abd_piece){
            .kind = ABD_PIECE_MEMORY, .length = half, .data = from};
    for (uint64_t i = 0; i < rest && zero; i++)
        zero = from[half + i] == 0;
    task->pieces[n++] =
        (struct abd_piece){.kind = zero ? ABD_PIECE_HOLE : ABD_PIECE_MEMORY,
                           .length = rest,
                           .data = from + half};
    abd_complete_lent(request, task->pieces, n, release_nothing, NULL);
}

static void carry_out(struct abd_request *request)
{
    struct odd *odd = request->disk->instance->state;
    uint8_t *at = odd->bytes + request->offset;
    int error = 0;

    pthread_mutex_lock(&odd->lock);
    odd->inside--;
    pthread_mutex_unlock(&odd->lock);
    switch (request->op) {
    case ABD_OP_READ:
        if (!request->data) {
            lend(odd, request);
            return;
        }
        memcpy(request->data, at, request->length);
        break;
    case ABD_OP_WRITE:
        memcpy(at, request->data, request->length);
        break;
    case ABD_OP_ZERO:
        if (odd->refuse_zero)
            error = ENOTSUP;
        else
            memset(at, 0, request->length);
        break;
    case ABD_OP_FLUSH:
        error = odd->fail_flush ? EIO : 0;
        break;
    case ABD_OP_EXTENTS:
        for (uint64_t done = 0; done < request->length; done += 4096) {
            uint64_t n = request->length - done;

            if (!abd_add_extent(request, n < 4096 ? n : 4096,
                                done / 4096 % 2 ? 0 : ABD_EXTENT_HOLE))
                break;
        }
        break;
    default:
        break;
    }
    abd_complete(request, error);
}

static void on_timer(void *arg)
{
    carry_out(((struct task *)arg)->request);
}

/* Last in, first out: never in the order of arrival. */
static void *run(void *arg)
{
    struct odd *odd = arg;

    pthread_mutex_lock(&odd->lock);
    while (!odd->stop || odd->tasks) {
        struct task *task = odd->tasks;

        if (!task) {
            pthread_cond_wait(&odd->more, &odd->lock);
            continue;
        }
        odd->tasks = task->next;
        pthread_mutex_unlock(&odd->lock);
        carry_out(task->request);
        pthread_mutex_lock(&odd->lock);
    }
    pthread_mutex_unlock(&odd->lock);
    return NULL;
}

static void odd_submit(struct abd_request *request)
{
    struct odd *odd = request->disk->instance->state;
    struct task *task = request->scratch;

    task->request = request;
    pthread_mutex_lock(&odd->lock);
    odd->asked[request->op]++;
    if (request->length > odd->longest[request->op])
        odd->longest[request->op] = request->length;
    odd->fua_seen += request->flags & ABD_REQ_FUA ? 1 : 0;
    if (++odd->inside > odd->most)
        odd->most = odd->inside;
    if (odd->mode == THREAD) {
        task->next = odd->tasks;
        odd->tasks = task;
        pthread_cond_signal(&odd->more);
    }
    pthread_mutex_unlock(&odd->lock);
    if (odd->mode == INLINE)
        carry_out(request);
    else if (odd->mode == TIMER)
        abd_timer_start(&task->timer, 20000 * (request->id % 50), 0, on_timer,
                        task);
}

static void odd_open(struct abd_disk *disk)
{
    struct odd *odd = disk->instance->state;

    disk->size = odd->size;
    disk->max_transfer = odd->max_transfer;
    disk->max_zero = odd->max_zero;
    disk->max_trim = odd->max_trim;
    disk->max_requests = (uint32_t)odd->max_requests;
    disk->block_min = (uint32_t)odd->block_min;
    disk->ops = 0xfe & ~(uint32_t)odd->lacks;
    disk->fua = (uint32_t)odd->fua;
    disk->flags = (odd->mode == INLINE ? ABD_DISK_INLINE : 0) |
                  (odd->lends ? ABD_DISK_LENDS : 0) |
                  (odd->parallel ? ABD_DISK_PARALLEL : 0);
    abd_opened(disk, 0);
}

static void odd_close(struct abd_disk *disk)
{
    abd_closed(disk);
}

static int odd_create(struct abd_instance *instance)
{
    struct odd *odd = calloc(1, sizeof *odd);

    if (!odd)
        return ENOMEM;
    odd->size = 4 << 20;
    odd->fua = ABD_FUA_NATIVE;
    pthread_mutex_init(&odd->lock, NULL);
    pthread_cond_init(&odd->more, NULL);
    instance->state = odd;
    return 0;
}

static int odd_config(struct abd_instance *instance, const char *key,
                      const char *value)
{
    struct odd *odd = instance->state;
    const struct {
        const char *key;
        uint64_t *to;
    } numbers[] = {
        {"size", &odd->size},
        {"max_transfer", &odd->max_transfer},
        {"max_zero", &odd->max_zero},
        {"max_trim", &odd->max_trim},
        {"max_requests", &odd->max_requests},
        {"block_min", &odd->block_min},
        {"lacks", &odd->lacks},
        {"fua", &odd->fua},
        {"lends", &odd->lends},
        {"parallel", &odd->parallel},
        {"refuse_zero", &odd->refuse_zero},
        {"fail_flush", &odd->fail_flush},
    };

    for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(key, numbers[i].key) == 0)
            return abd_parse_size(instance, value, numbers[i].to);
    }
    if (strcmp(key, "counts") == 0)
        return abd_absolute_path(instance, value, &odd->counts);
    if (strcmp(key, "mode") != 0)
        return EINVAL;
    odd->mode = strcmp(value, "timer") == 0    ? TIMER
                : strcmp(value, "thread") == 0 ? THREAD
                                               : INLINE;
    return 0;
}

static int odd_start(struct abd_instance *instance)
{
    struct odd *odd = instance->state;

    odd->bytes = calloc(1, odd->size);
    if (!odd->bytes)
        return ENOMEM;
    return pthread_create(&odd->thread, NULL, run, odd);
}

static void odd_destroy(struct abd_instance *instance)
{
    struct odd *odd = instance->state;
    FILE *file = odd->counts ? fopen(odd->counts, "w") : NULL;

    if (odd->bytes) {
        pthread_mutex_lock(&odd->lock);
        odd->stop = 1;
        pthread_cond_signal(&odd->more);
        pthread_mutex_unlock(&odd->lock);
        pthread_join(odd->thread, NULL);
    }
    if (file) {
        fprintf(file,
                "{\"read\": %u, \"write\": %u, \"zero\": %u, \"trim\": %u, "
                "\"flush\": %u, \"extents\": %u, \"fua\": %u, \"most\": %u, "
                "\"longest_read\": %llu, \"longest_write\": %llu, "
                "\"longest_zero\": %llu, \"longest_trim\": %llu}\n",
                odd->asked[1], odd->asked[2], odd->asked[3], odd->asked[4],
                odd->asked[5], odd->asked[6], odd->fua_seen, odd->most,
                (unsigned long long)odd->longest[1],
                (unsigned long long)odd->longest[2],
                (unsigned long long)odd->longest[3],
                (unsigned long long)odd->longest[4]);
        fclose(file);
    }
    free(odd->counts);
    free(odd->bytes);
    free(odd);
}

static const struct abd_plugin plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "odd",
    .version = "1",
    .scratch_size = sizeof(struct task),
    .create = odd_create,
    .config = odd_config,
    .start = odd_start,
    .destroy = odd_destroy,
    .open = odd_open,
    .submit = odd_submit,
    .close = odd_close,
};

__attribute__((visibility("default"))) const struct abd_plugin *
abd_plugin_entry(void)
{
    return &plugin;
}
