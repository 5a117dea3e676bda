/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A disk that does all that the contract allows, and watches that the server
 * keeps its part of it (it aborts otherwise).  Each limit and operation is a
 * parameter; it completes inline, from a timer, from one of three threads, or
 * each time otherwise; it lends in pieces of every kind, describes extents in
 * any sizes, and fails now and then.  Chance depends on seed=N and on the
 * request's number only.  Contents are a memfd for each name, and outlive
 * closing.  WILD_FLAGS are the plugin's flags. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abd-loop.h"
#include "abd-plugin.h"

#ifndef WILD_FLAGS
#define WILD_FLAGS 0
#endif
#define THREADS 3
#define PIECES  40

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

struct loan {
    struct wild *wild;
    struct abd_loop *loop;
    uint8_t *copy;
    struct abd_piece pieces[ABD_PIECES_MAX];
};

__attribute__((noreturn)) static void broken(const struct abd_request *request,
                                             const char *what)
{
    fprintf(stderr, "Assertion `%s' failed: op %u flags %u %#llx+%#llx\n", what,
            request->op, request->flags, (unsigned long long)request->offset,
            (unsigned long long)request->length);
    abort();
}

static void check(const struct abd_request *request, bool good,
                  const char *what)
{
    if (!good)
        broken(request, what);
}

static struct wild *wild_of(const struct abd_request *request)
{
    return request->disk->instance->state;
}

/* A number that depends on the request and on what it is for. */
static uint64_t chance(const struct abd_request *request, uint64_t what)
{
    uint64_t x = wild_of(request)->seed * 0x9e3779b97f4a7c15 +
                 request->id * 0xbf58476d1ce4e5b9 + what;

    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9;
    x ^= x >> 27;
    x *= 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static bool is_zero(const uint8_t *bytes, uint64_t length)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0;
}

static void release(void *arg)
{
    struct loan *loan = arg;

    if (abd_loop_current() != loan->loop) {
        fputs("Assertion `release on the thread of submit' failed\n", stderr);
        abort();
    }
    atomic_fetch_sub(&loan->wild->loans, 1);
    free(loan->copy);
    free(loan);
}

static struct abd_piece piece_at(struct abd_request *request,
                                 const struct store *store,
                                 const struct loan *loan, uint64_t at,
                                 uint64_t length)
{
    uint64_t kind = chance(request, at) % 4;
    struct abd_piece piece = {
        .kind = ABD_PIECE_MEMORY, .length = length, .data = loan->copy + at};

    if (kind != 0 && is_zero(loan->copy + at, length)) {
        piece.kind = ABD_PIECE_HOLE;
        piece.data = NULL;
    } else if (kind == 1) {
        piece.kind = ABD_PIECE_FILE;
        piece.fd = store->fd;
        piece.fd_offset = request->offset + at;
        piece.data = NULL;
    }
    return piece;
}

static void lend(struct abd_request *request, struct store *store)
{
    const struct task *task = request->scratch;
    struct loan *loan = malloc(sizeof *loan);
    uint64_t most = chance(request, 1) % 20 ? PIECES : ABD_PIECES_MAX, at = 0;
    unsigned n = 0, want = 1 + (unsigned)(chance(request, 2) % most);

    if (loan)
        loan->copy = malloc(request->length);
    if (!loan || !loan->copy) {
        free(loan);
        abd_complete(request, ENOMEM);
        return;
    }
    loan->wild = wild_of(request);
    loan->loop = task->loop;
    pthread_mutex_lock(&store->lock);
    memcpy(loan->copy, store->bytes + request->offset, request->length);
    pthread_mutex_unlock(&store->lock);
    while (at < request->length) {
        uint64_t left = request->length - at, length = left;

        if (n + 1 < want)
            length = 1 + chance(request, n) % (left < 8000 ? left : 8000);
        loan->pieces[n++] = piece_at(request, store, loan, at, length);
        at += length;
    }
    atomic_fetch_add(&loan->wild->loans, 1);
    atomic_fetch_add(&loan->wild->all_loans, 1);
    abd_complete_lent(request, loan->pieces, n, release, loan);
}

static void describe(struct abd_request *request, struct store *store)
{
    const struct wild *wild = wild_of(request);
    uint64_t unit = wild->block_min > 4096 ? wild->block_min : 4096;
    uint64_t at = request->offset, end = at + request->length;
    bool goes_on = chance(request, 3) % 10 != 0;

    pthread_mutex_lock(&store->lock);
    while (goes_on && at < end) {
        uint64_t length = unit * (1 + chance(request, at) % 9);
        uint64_t kind = chance(request, at + 1) % 4;
        uint32_t flags = kind == 0 ? ABD_EXTENT_HOLE : 0;

        if (chance(request, 4) % 2 && length > end - at)
            length = end - at;
        if (length > wild->size - at)
            length = wild->size - at;
        if (kind > 1 && is_zero(store->bytes + at, length))
            flags =
                kind == 2 ? ABD_EXTENT_ZERO : ABD_EXTENT_ZERO | ABD_EXTENT_HOLE;
        goes_on = abd_add_extent(request, length, flags) &&
                  chance(request, at + 2) % 50 != 0;
        at += length;
    }
    pthread_mutex_unlock(&store->lock);
    abd_complete(request, 0);
}

static void fail(struct abd_request *request)
{
    static const int errors[] = {EIO,   ENOSPC, EPERM, ENOMEM, EINVAL,
                                 EROFS, EDQUOT, EBUSY, EACCES};
    int error = errors[chance(request, 5) % (sizeof errors / sizeof errors[0])];
    uint64_t how = chance(request, 6) % 3;

    if (how == 0)
        abd_complete(request, error);
    else
        abd_fail(request, error,
                 how == 1 && request->length
                     ? chance(request, 7) % request->length
                     : ABD_NO_OFFSET,
                 "chance had it for %llu", (unsigned long long)request->id);
}

static void change(struct abd_request *request, struct store *store,
                   uint64_t length)
{
    uint8_t *at = store->bytes + request->offset;

    pthread_mutex_lock(&store->lock);
    if (request->op == ABD_OP_WRITE)
        memcpy(at, request->data, length);
    else if (request->op == ABD_OP_ZERO || chance(request, 8) % 2)
        memset(at, 0, length);
    pthread_mutex_unlock(&store->lock);
}

static void read_or_lend(struct abd_request *request, struct store *store)
{
    bool may_lend = request->disk->flags & ABD_DISK_LENDS;

    if (!request->data || (may_lend && chance(request, 9) % 2)) {
        lend(request, store);
        return;
    }
    pthread_mutex_lock(&store->lock);
    memcpy(request->data, store->bytes + request->offset, request->length);
    pthread_mutex_unlock(&store->lock);
    abd_complete(request, 0);
}

static void carry_out(struct abd_request *request)
{
    struct wild *wild = wild_of(request);
    struct wild_disk *own = request->disk->state;
    struct store *store = own->store;
    bool changes = request->op == ABD_OP_WRITE || request->op == ABD_OP_ZERO ||
                   request->op == ABD_OP_TRIM;

    atomic_fetch_sub(&own->inside, 1);
    if (request->op == ABD_OP_ZERO &&
        chance(request, 10) % 1000 < wild->refuse_zero) {
        abd_complete(request, ENOTSUP);
        return;
    }
    if (chance(request, 11) % 1000 < wild->errors) {
        if (changes)
            change(request, store, chance(request, 12) % request->length);
        fail(request);
        return;
    }
    if (request->op == ABD_OP_READ) {
        read_or_lend(request, store);
    } else if (request->op == ABD_OP_EXTENTS) {
        describe(request, store);
    } else {
        if (changes)
            change(request, store, request->length);
        abd_complete(request, 0);
    }
}

/* --- when --- */

static void on_timer(void *arg)
{
    carry_out(((struct task *)arg)->request);
}

/* Last in, first out: never in the order of arrival. */
static void *run(void *arg)
{
    struct wild *wild = arg;

    pthread_mutex_lock(&wild->lock);
    while (!wild->stop || wild->tasks) {
        struct task *task = wild->tasks;

        if (!task) {
            pthread_cond_wait(&wild->more, &wild->lock);
            continue;
        }
        wild->tasks = task->next;
        pthread_mutex_unlock(&wild->lock);
        carry_out(task->request);
        pthread_mutex_lock(&wild->lock);
    }
    pthread_mutex_unlock(&wild->lock);
    return NULL;
}

static void hand_to_threads(struct wild *wild, struct task *task)
{
    pthread_mutex_lock(&wild->lock);
    task->next = wild->tasks;
    wild->tasks = task;
    pthread_cond_signal(&wild->more);
    pthread_mutex_unlock(&wild->lock);
}

/* What the server owes a plugin. */
static void check_request(const struct abd_request *request)
{
    const struct abd_disk *disk = request->disk;
    const struct wild *wild = wild_of(request);
    static const uint8_t nothing[sizeof(struct task)];
    uint64_t most = UINT64_MAX;

    check(request, wild->ops >> request->op & 1, "it has the operation");
    check(request, request->offset <= disk->size, "inside the disk");
    check(request, request->length <= disk->size - request->offset, "inside");
    check(request, (request->length == 0) == (request->op == ABD_OP_FLUSH),
          "a length");
    if (disk->block_min > 1)
        check(request,
              (request->offset | request->length) % disk->block_min == 0,
              "whole blocks");
    if (request->op == ABD_OP_READ || request->op == ABD_OP_WRITE)
        most = disk->max_transfer ? disk->max_transfer : 1 << 20;
    else if (request->op == ABD_OP_ZERO && disk->max_zero)
        most = disk->max_zero;
    else if (request->op != ABD_OP_ZERO && disk->max_trim)
        most = disk->max_trim;
    check(request, request->length <= most, "not too long");
    check(request,
          !(request->flags & ABD_REQ_FUA) || disk->fua == ABD_FUA_NATIVE,
          "FUA where it is native");
    check(request,
          !(request->flags & ABD_REQ_FAST) || disk->flags & ABD_DISK_FAST_ZERO,
          "FAST where it is honoured");
    check(request, memcmp(request->scratch, nothing, sizeof nothing) == 0,
          "zeroed scratch");
    if (request->op == ABD_OP_WRITE)
        check(request, request->data, "data to write");
    if (request->op == ABD_OP_READ && !request->data)
        check(request,
              disk->flags & ABD_DISK_LENDS && request->length >= disk->lend_min,
              "data to read into");
    if (!(disk->flags & ABD_DISK_INLINE) && wild_of(request)->aligned)
        check(request, (uintptr_t)request->data % 4096 == 0, "aligned data");
}

static void wild_submit(struct abd_request *request)
{
    struct wild *wild = wild_of(request);
    struct wild_disk *own = request->disk->state;
    struct task *task = request->scratch;
    unsigned inside = atomic_fetch_add(&own->inside, 1) + 1;
    enum mode mode = wild->mode;

    check_request(request);
    if (request->disk->max_requests)
        check(request, inside <= request->disk->max_requests, "max_requests");
    if (inside > atomic_load(&wild->most))
        atomic_store(&wild->most, inside);
    atomic_fetch_add(&wild->asked[request->op], 1);
    if (request->flags & ABD_REQ_FUA)
        atomic_fetch_add(&wild->fua_seen, 1);
    task->request = request;
    task->loop = abd_loop_current();
    if (mode == RANDOM)
        mode = chance(request, 13) % 3;
    if (mode == THREAD)
        hand_to_threads(wild, task);
    else if (mode == TIMER)
        abd_timer_start(&task->timer, chance(request, 14) % 1000000, 0,
                        on_timer, task);
    else
        carry_out(request);
}

static void wild_cancel(struct abd_request *request)
{
    atomic_fetch_add(&wild_of(request)->cancels, 1);
}

/* --- disks --- */

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

    if (atomic_load(&own->inside) || atomic_load(&own->clients)) {
        fputs("Assertion `closed without requests and clients' failed\n",
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
        if (pthread_create(&wild->threads[i], NULL, run, wild) != 0)
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
