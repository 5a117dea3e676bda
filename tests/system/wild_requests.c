/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The wild plugin's requests: checked, carried out, and completed, each in one
 * of the ways that the contract allows.  wild_plugin.c tells the rest. */
#include "wild.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECES 40

struct loan {
    struct wild *wild;
    struct wild_disk *disk;
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
    atomic_fetch_sub(&loan->disk->loans, 1);
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
    loan->disk = request->disk->state;
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
    atomic_fetch_add(&loan->disk->loans, 1);
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
void *wild_run(void *arg)
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

void wild_submit(struct abd_request *request)
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

void wild_cancel(struct abd_request *request)
{
    atomic_fetch_add(&wild_of(request)->cancels, 1);
}
