/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A disk that does all that the contract allows, and watches that the server
 * keeps its part of it (it aborts otherwise).  Each limit and operation is a
 * parameter; it completes inline, from a timer, from one of three threads, or
 * each time otherwise; it lends in pieces of every kind, describes extents in
 * any sizes, and fails now and then.  Chance depends on seed=N and on the
 * request's number only.  Contents are a memfd for each name, and outlive
 * closing.  WILD_FLAGS are the plugin's flags. */
#include "wild.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef WILD_FLAGS
#define WILD_FLAGS 0
#endif

static struct store *make_store(const struct wild *wild, const char *name)
{
    struct store *store = calloc(1, sizeof *store);

    if (!store)
        return NULL;
    store->name = strdup(name);
    store->fd = memfd_create("wild", MFD_CLOEXEC);
    if (!store->name || store->fd < 0 ||
        ftruncate(store->fd, (off_t)wild->size) < 0)
        abort();
    store->bytes = mmap(NULL, wild->size, PROT_READ | PROT_WRITE, MAP_SHARED,
                        store->fd, 0);
    if (store->bytes == MAP_FAILED)
        abort();
    pthread_mutex_init(&store->lock, NULL);
    return store;
}

static struct store *find_store(struct wild *wild, const char *name)
{
    struct store *store;

    pthread_mutex_lock(&wild->lock);
    for (store = wild->stores; store; store = store->next)
        if (strcmp(store->name, name) == 0)
            break;
    if (!store) {
        store = make_store(wild, name);
        if (store) {
            store->next = wild->stores;
            wild->stores = store;
        }
    }
    pthread_mutex_unlock(&wild->lock);
    return store;
}

static void wild_exports(struct abd_exports *exports)
{
    struct wild *wild = exports->instance->state;
    char name[32], description[64];

    for (uint64_t i = 0; i < wild->exports; i++) {
        snprintf(name, sizeof name, "disk%llu", (unsigned long long)i);
        snprintf(description, sizeof description, "the wild disk %llu",
                 (unsigned long long)i);
        abd_add_export(exports, name, description);
    }
    abd_exports_done(exports, 0);
}

static void set_flags(struct abd_disk *disk, const struct wild *wild)
{
    if (wild->mode == INLINE)
        disk->flags |= ABD_DISK_INLINE;
    if (wild->lends)
        disk->flags |= ABD_DISK_LENDS;
    if (wild->parallel)
        disk->flags |= ABD_DISK_PARALLEL;
    if (wild->fast_zero)
        disk->flags |= ABD_DISK_FAST_ZERO;
}

static void wild_open(struct abd_disk *disk)
{
    struct wild *wild = disk->instance->state;
    bool named = WILD_FLAGS & ABD_PLUGIN_EXPORTS;
    struct wild_disk *own;
    char *end;

    if (named && wild->exports &&
        (strncmp(disk->export_name, "disk", 4) != 0 ||
         strtoull(disk->export_name + 4, &end, 10) >= wild->exports || *end)) {
        abd_opened(disk, ENOENT);
        return;
    }
    own = calloc(1, sizeof *own);
    if (own)
        own->store = find_store(wild, named ? disk->export_name : "");
    if (!own || !own->store) {
        free(own);
        abd_opened(disk, ENOMEM);
        return;
    }
    atomic_fetch_add(&wild->opens, 1);
    disk->state = own;
    disk->size = wild->size;
    disk->max_transfer = wild->max_transfer;
    disk->max_zero = wild->max_zero;
    disk->max_trim = wild->max_trim;
    disk->max_requests = (uint32_t)wild->max_requests;
    disk->block_min = (uint32_t)wild->block_min;
    disk->block_max = (uint32_t)wild->block_max;
    disk->lend_min = (uint32_t)wild->lend_min;
    disk->ops = wild->ops;
    disk->fua = wild->fua;
    disk->canonical_name = own->store->name;
    disk->description = "a wild disk";
    set_flags(disk, wild);
    abd_opened(disk, 0);
}

static int wild_admit(struct abd_disk *disk, const struct abd_client *client)
{
    struct wild *wild = disk->instance->state;
    struct wild_disk *own = disk->state;

    (void)client;
    if (wild->admits_most && atomic_load(&wild->admits) >= wild->admits_most)
        return EACCES;
    atomic_fetch_add(&wild->admits, 1);
    atomic_fetch_add(&own->clients, 1);
    return 0;
}

static void wild_leave(struct abd_disk *disk, const struct abd_client *client)
{
    struct wild_disk *own = disk->state;

    (void)client;
    if (atomic_fetch_sub(&own->clients, 1) == 0) {
        fputs("Assertion `only who was admitted leaves' failed\n", stderr);
        abort();
    }
}

static void wild_close(struct abd_disk *disk)
{
    struct wild_disk *own = disk->state;

    if (atomic_load(&own->inside) || atomic_load(&own->clients) ||
        atomic_load(&own->loans)) {
        fputs("Assertion `closed without requests, clients and loans' failed\n",
              stderr);
        abort();
    }
    free(own);
    abd_closed(disk);
}

/* --- the instance --- */

static int wild_create(struct abd_instance *instance)
{
    struct wild *wild = calloc(1, sizeof *wild);

    if (!wild)
        return ENOMEM;
    wild->size = 4 << 20;
    wild->fua = ABD_FUA_NATIVE;
    wild->ops = 0xfe;
    pthread_mutex_init(&wild->lock, NULL);
    pthread_cond_init(&wild->more, NULL);
    instance->state = wild;
    return 0;
}

static int take_word(struct wild *wild, const char *key, const char *value)
{
    static const char *const modes[] = {"inline", "timer", "thread", "random"};
    static const char *const fuas[] = {"none", "emulate", "native"};
    static const char *const ops[] = {"",     "read",  "write",   "zero",
                                      "trim", "flush", "extents", "cache"};

    for (unsigned i = 0; i < 4; i++)
        if (strcmp(key, "mode") == 0 && strcmp(value, modes[i]) == 0) {
            wild->mode = (enum mode)i;
            return 0;
        }
    for (unsigned i = 0; i < 3; i++)
        if (strcmp(key, "fua") == 0 && strcmp(value, fuas[i]) == 0) {
            wild->fua = (enum abd_fua)i;
            return 0;
        }
    for (unsigned i = 1; i < 8; i++)
        if (strcmp(key, "lacks") == 0 && strcmp(value, ops[i]) == 0) {
            wild->ops &= ~(1U << i);
            return 0;
        }
    return EINVAL;
}

static int wild_config(struct abd_instance *instance, const char *key,
                       const char *value)
{
    struct wild *wild = instance->state;
    const struct {
        const char *key;
        uint64_t *to;
    } numbers[] = {
        {"size", &wild->size},
        {"max_transfer", &wild->max_transfer},
        {"max_zero", &wild->max_zero},
        {"max_trim", &wild->max_trim},
        {"max_requests", &wild->max_requests},
        {"block_min", &wild->block_min},
        {"block_max", &wild->block_max},
        {"lend_min", &wild->lend_min},
        {"lends", &wild->lends},
        {"parallel", &wild->parallel},
        {"errors", &wild->errors},
        {"refuse_zero", &wild->refuse_zero},
        {"fast_zero", &wild->fast_zero},
        {"exports", &wild->exports},
        {"seed", &wild->seed},
        {"aligned", &wild->aligned},
        {"admits_most", &wild->admits_most},
    };

    for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (strcmp(key, numbers[i].key) == 0)
            return abd_parse_size(instance, value, numbers[i].to);
    if (strcmp(key, "counts") == 0)
        return abd_absolute_path(instance, value, &wild->counts);
    return take_word(wild, key, value);
}

static int wild_start(struct abd_instance *instance)
{
    struct wild *wild = instance->state;

    for (unsigned i = 0; i < THREADS; i++)
        if (pthread_create(&wild->threads[i], NULL, wild_run, wild) != 0)
            return EAGAIN;
    return 0;
}

static void write_counts(const struct wild *wild)
{
    static const char *const names[] = {"read",  "write",   "zero", "trim",
                                        "flush", "extents", "cache"};
    FILE *file = fopen(wild->counts, "w");

    if (!file)
        return;
    fputc('{', file);
    for (unsigned i = 0; i < 7; i++)
        fprintf(file, "\"%s\": %u, ", names[i],
                atomic_load(&wild->asked[i + 1]));
    fprintf(file,
            "\"fua\": %u, \"most\": %u, \"opens\": %u, \"loans\": %u, "
            "\"cancels\": %u, \"admits\": %u}\n",
            atomic_load(&wild->fua_seen), atomic_load(&wild->most),
            atomic_load(&wild->opens), atomic_load(&wild->all_loans),
            atomic_load(&wild->cancels), atomic_load(&wild->admits));
    fclose(file);
}

static void wild_destroy(struct abd_instance *instance)
{
    struct wild *wild = instance->state;

    pthread_mutex_lock(&wild->lock);
    wild->stop = true;
    pthread_cond_broadcast(&wild->more);
    pthread_mutex_unlock(&wild->lock);
    for (unsigned i = 0; i < THREADS; i++)
        if (wild->threads[i])
            pthread_join(wild->threads[i], NULL);
    if (atomic_load(&wild->loans)) {
        fputs("Assertion `all loans came back' failed\n", stderr);
        abort();
    }
    if (wild->counts)
        write_counts(wild);
    while (wild->stores) {
        struct store *store = wild->stores;

        wild->stores = store->next;
        munmap(store->bytes, wild->size);
        close(store->fd);
        pthread_mutex_destroy(&store->lock);
        free(store->name);
        free(store);
    }
    free(wild->counts);
    free(wild);
}

static const struct abd_plugin plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "wild",
    .version = "1",
    .flags = WILD_FLAGS,
    .scratch_size = sizeof(struct task),
    .create = wild_create,
    .config = wild_config,
    .start = wild_start,
    .destroy = wild_destroy,
    .exports = WILD_FLAGS & ABD_PLUGIN_EXPORTS ? wild_exports : NULL,
    .open = wild_open,
    .admit = wild_admit,
    .leave = wild_leave,
    .submit = wild_submit,
    .cancel = wild_cancel,
    .close = wild_close,
};

__attribute__((visibility("default"))) const struct abd_plugin *
abd_plugin_entry(void)
{
    return &plugin;
}
