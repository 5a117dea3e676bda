/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Requests: the pool, completion from any thread, and the way back up.
 *
 * The pool is last in, first out, and never freed, so a stale pointer meets a
 * request and is found out by its state.  Completion is three steps (swap the
 * state, queue, wake), everything else happens on the request's own loop. */
#include "server/request.h"

#include "server/border.h"
#include "server/disk.h"
#include "server/layer.h"
#include "server/settings.h"
#include "server/worker.h"

#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The pool grows by this much at a time. */
#define SLAB (64 * 1024)

static size_t request_size(void)
{
    size_t size = sizeof(struct request) + chain.n * sizeof(struct frame) +
                  chain.scratch_size;

    return (size + 63) & ~(size_t)63;
}

/* The address space is there from the start: who waits for a request hears only
 * of those that come back, so that there is no room must not come and go. */
static char *next_slab(struct worker *worker, size_t slab)
{
    /* Where nothing is used again, no budget is enough. */
    if (settings.debug_requests) {
        void *memory = mmap(NULL, slab, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        return memory == MAP_FAILED ? NULL : memory;
    }
    if (worker->pool_bytes + slab > worker->pool_limit ||
        !arena_charge(server_arena, slab))
        return NULL;
    return worker->pool + worker->pool_bytes;
}

static bool grow(struct worker *worker)
{
    size_t size = request_size();
    size_t slab = SLAB;
    char *memory = next_slab(worker, slab);

    if (!memory)
        return false;
    worker->pool_bytes += slab;
    for (size_t at = 0; at + size <= slab; at += size) {
        struct request *request = (struct request *)(memory + at);

        request->worker = worker;
        list_append(&worker->free_requests, &request->link);
        worker->free_n++;
    }
    return true;
}

static unsigned pool_capacity(const struct worker *worker)
{
    return (unsigned)(worker->pool_limit / SLAB * (SLAB / request_size()));
}

unsigned request_unit(void)
{
    return 1 + chain.children;
}

unsigned request_pool_max(const struct worker *worker)
{
    return pool_capacity(worker) - worker->background;
}

bool request_background_fits(const struct worker *worker, unsigned n)
{
    return worker->background + n <= pool_capacity(worker) / 2 &&
           worker->background + n + REQUEST_UNITS_MIN * request_unit() <=
               pool_capacity(worker);
}

bool request_reserve_background(struct worker *worker, unsigned n)
{
    if (!request_reserve(worker, n))
        return false;
    worker->background += n;
    /* Somebody may wait for more than is left for all. */
    request_feed(worker);
    return true;
}

void request_unreserve_background(struct worker *worker, unsigned n)
{
    worker->background -= n;
    request_unreserve(worker, n);
}

bool request_reserve(struct worker *worker, unsigned n)
{
    while (worker->free_n - worker->reserved < n) {
        if (!grow(worker))
            return false;
    }
    worker->reserved += n;
    return true;
}

void request_unreserve(struct worker *worker, unsigned n)
{
    assert(worker->reserved >= n);
    worker->reserved -= n;
    request_feed(worker);
}

/* Only the first is told: the others' turn comes when it has taken its own. Who
 * wants more than there can be any more is told, too. */
void request_feed(struct worker *worker)
{
    struct request_waiter *first =
        list_first(&worker->starved, struct request_waiter, link);

    if (!first || (worker->free_n - worker->reserved < first->wanted &&
                   first->wanted <= request_pool_max(worker)))
        return;
    list_remove(&first->link);
    first->fed(first);
}

void request_wait(struct worker *worker, struct request_waiter *waiter)
{
    list_append(&worker->starved, &waiter->link);
}

static void prefetch(struct request *request)
{
    for (size_t at = 0; at < sizeof *request + sizeof(struct frame); at += 64)
        __builtin_prefetch((char *)request + at, 1);
}

struct request *request_take(struct worker *worker,
                             void (*ended)(struct request *request, int error))
{
    struct list *link = list_take_first(&worker->free_requests);
    struct request *request = container_of(link, struct request, link);

    /* With hundreds in flight the next has left the nearest cache long ago. */
    prefetch(container_of(worker->free_requests.next, struct request, link));
    assert(worker->free_n > 0 && worker->reserved > 0);
    worker->free_n--;
    worker->reserved--;
    assert(atomic_load_explicit(&request->state, memory_order_relaxed) ==
           REQUEST_FREE);
    atomic_store_explicit(&request->state, REQUEST_SERVER,
                          memory_order_relaxed);
    request->pub.id = worker->next_id;
    worker->next_id += workers_n;
    request->depth = 0;
    request->ended = ended;
    request->error = 0;
    request->error_at = ABD_NO_OFFSET;
    request->error_text = NULL;
    request->lent.pieces = NULL;
    request->lent.from = NULL;
    request->lent.lane = NULL;
    request->extents = &request->one_extent;
    request->extents_n = 0;
    request->extents_max = 1;
    request->extents_malloced = false;
    request->extents_length = 0;
    atomic_store_explicit(&request->cancelled, false, memory_order_relaxed);
    list_init(&request->children);
    return request;
}

/* -D server.requests=1: whoever still uses the request is to notice. */
static void retire_for_ever(struct request *request)
{
    memset(&request->frames[chain.n], 0xdb, chain.scratch_size);
    request->pub.data = (void *)(uintptr_t)0xdbdbdbdbdbdbdb00;
}

/* reserved: for whoever had it, who may take one again at any time. */
static void put(struct request *request, bool reserved)
{
    struct worker *worker = request->worker;

    request_release(request);
    free(request->error_text);
    request->error_text = NULL;
    if (request->extents_malloced)
        free(request->extents);
    atomic_store_explicit(&request->state, REQUEST_FREE, memory_order_relaxed);
    if (settings.debug_requests) {
        retire_for_ever(request);
        if (reserved && !request_reserve(worker, 1))
            abort(); /* the system has no more */
        return;
    }
    list_prepend(&worker->free_requests, &request->link);
    worker->free_n++;
    if (reserved)
        worker->reserved++;
    else
        request_feed(worker);
}

void request_put(struct request *request)
{
    put(request, false);
}

void request_put_reserved(struct request *request)
{
    put(request, true);
}

static void count_returned(struct lane *lane)
{
    void (*on_returned)(void *arg) = lane->on_returned;

    assert(lane->lent > 0);
    if (--lane->lent > 0 || !on_returned)
        return;
    lane->on_returned = NULL;
    on_returned(lane->on_returned_arg);
}

void request_release(struct request *request)
{
    struct request *from = request->lent.from;
    struct lane *lane = request->lent.lane;

    if (!request->lent.pieces)
        return;
    request->lent.pieces = NULL;
    request->lent.from = NULL;
    request->lent.lane = NULL;
    request->lent.release(request->lent.arg);
    /* The children that it has come through, the nearest first. */
    while (from) {
        struct request *next = from->lent.from;

        from->lent.from = NULL;
        request_put_reserved(from);
        from = next;
    }
    if (lane)
        count_returned(lane);
}

/* All of a range of a file, or an error: a lent range must be there. */
static int read_file_piece(const struct abd_piece *piece, char *to)
{
    uint64_t done = 0;

    while (done < piece->length) {
        ssize_t got = pread(piece->fd, to + done, piece->length - done,
                            (off_t)(piece->fd_offset + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno;
        if (got == 0)
            return EIO;
        done += (uint64_t)got;
    }
    return 0;
}

int request_copy_lent(struct request *request, void *data)
{
    char *to = data;
    int err = 0;

    for (unsigned i = 0; i < request->lent.n && !err; i++) {
        const struct abd_piece *piece = &request->lent.pieces[i];

        if (piece->kind == ABD_PIECE_MEMORY)
            memcpy(to, piece->data, piece->length);
        else if (piece->kind == ABD_PIECE_HOLE)
            memset(to, 0, piece->length);
        else
            err = read_file_piece(piece, to);
        to += piece->length;
    }
    request_release(request);
    return err;
}

/* --- completion: any thread --- */

static void misused(const struct request *request, uint32_t state,
                    const char *function)
{
    const char *name = request->last_owner ? request->last_owner : "a plugin";

    log_write(ABD_ERROR, NULL,
              "%s: %s() on a request that %s (it must be called exactly once "
              "for each request submitted)",
              name, function,
              state == REQUEST_DONE   ? "was completed already"
              : state == REQUEST_FREE ? "ended long ago"
                                      : "the plugin does not own");
    abort();
}

static void on_arrival(struct loop_message *message)
{
    struct request *request = container_of(message, struct request, message);

    list_append(&request->worker->done, &request->link);
}

/* The swap that makes a completion the only one.  On the request's own loop it
 * is a load and a store: a locked instruction would make each request wait for
 * all the bytes that a plugin has just copied to reach the cache.  What that
 * misses is a second completion by another thread in the same nanoseconds. */
static void claim(struct request *request, const char *function)
{
    uint32_t state = REQUEST_PLUGIN;

    if (loop_is_current(request->worker->loop)) {
        state = atomic_load_explicit(&request->state, memory_order_acquire);
        if (state != REQUEST_PLUGIN)
            misused(request, state, function);
        atomic_store_explicit(&request->state, REQUEST_DONE,
                              memory_order_relaxed);
        return;
    }
    if (!atomic_compare_exchange_strong_explicit(
            &request->state, &state, REQUEST_DONE, memory_order_acq_rel,
            memory_order_relaxed))
        misused(request, state, function);
}

/* Nothing of the request is touched after the push. */
static void queue(struct request *request)
{
    struct worker *worker = request->worker;

    if (loop_is_current(worker->loop)) {
        list_append(&worker->done, &request->link);
        return;
    }
    request->message.fn = on_arrival;
    loop_send(worker->loop, &request->message);
}

__attribute__((visibility("default"))) void abd_complete(
    struct abd_request *pub, int error)
{
    struct request *request = request_of(pub);

    claim(request, "abd_complete");
    if (!error && pub->op == ABD_OP_READ && !pub->data &&
        !request->lent.pieces) {
        log_write(ABD_ERROR, NULL,
                  "%s: abd_complete() of a READ that came without data; "
                  "abd_complete_lent() ends it",
                  request->last_owner);
        abort();
    }
    request->error = error;
    queue(request);
}

__attribute__((visibility("default"))) void abd_fail(struct abd_request *pub,
                                                     int error, uint64_t at,
                                                     const char *format, ...)
{
    struct request *request = request_of(pub);
    va_list args;

    claim(request, "abd_fail");
    request->error = error ? error : EIO;
    if (at < pub->length)
        request->error_at = at;
    free(request->error_text);
    va_start(args, format);
    if (vasprintf(&request->error_text, format, args) < 0)
        request->error_text = NULL; /* the error counts, not its text */
    va_end(args);
    queue(request);
}

/* A plugin's mistake, not a client's: it ends the process by name. */
static void check_pieces(const struct request *request,
                         const struct abd_piece *pieces, unsigned n)
{
    const struct disk *disk = disk_of(request->pub.disk);
    uint64_t left = request->pub.length;
    const char *wrong = NULL;

    if (request->pub.op != ABD_OP_READ)
        wrong = "the request is not a READ";
    else if (!(disk->pub.flags & ABD_DISK_LENDS))
        wrong = "its disk is not ABD_DISK_LENDS";
    else if (n == 0 || n > ABD_PIECES_MAX)
        wrong = "there must be 1 to ABD_PIECES_MAX pieces";
    for (unsigned i = 0; i < n && !wrong; i++) {
        if (pieces[i].length == 0 || pieces[i].length > left)
            wrong = "the pieces must cover exactly the request's length";
        else if (pieces[i].kind > ABD_PIECE_FILE)
            wrong = "a piece is of no known kind";
        left -= wrong ? 0 : pieces[i].length;
    }
    if (!wrong && left > 0)
        wrong = "the pieces must cover exactly the request's length";
    if (wrong) {
        log_write(ABD_ERROR, NULL, "%s: abd_complete_lent(): %s",
                  request->last_owner, wrong);
        abort();
    }
}

__attribute__((visibility("default"))) void abd_complete_lent(
    struct abd_request *pub, const struct abd_piece *pieces, unsigned n,
    void (*release)(void *arg), void *arg)
{
    struct request *request = request_of(pub);

    claim(request, "abd_complete_lent");
    check_pieces(request, pieces, n);
    request->lent.pieces = pieces;
    request->lent.n = n;
    request->lent.release = release;
    request->lent.arg = arg;
    queue(request);
}

bool request_add_extent(struct request *request, uint64_t length,
                        uint32_t flags)
{
    uint64_t end = request->pub.disk->size - request->pub.offset;
    uint64_t covered = request->extents_length;
    struct abd_extent *last;

    if (covered >= request->pub.length)
        return false;
    if (length > end - covered)
        length = end - covered;
    if (length == 0)
        return true;
    flags &= ABD_EXTENT_HOLE | ABD_EXTENT_ZERO;
    last =
        request->extents_n ? &request->extents[request->extents_n - 1] : NULL;
    if (last && last->flags == flags) {
        last->length += length;
    } else if (request->extents_n == request->extents_max) {
        return false;
    } else {
        request->extents[request->extents_n++] =
            (struct abd_extent){.length = length, .flags = flags};
    }
    request->extents_length += length;
    return request->extents_length < request->pub.length;
}

__attribute__((visibility("default"))) bool abd_add_extent(
    struct abd_request *pub, uint64_t length, uint32_t flags)
{
    struct request *request = request_of(pub);
    uint32_t state =
        atomic_load_explicit(&request->state, memory_order_relaxed);

    if (state != REQUEST_PLUGIN || pub->op != ABD_OP_EXTENTS)
        misused(request, state, "abd_add_extent");
    return request_add_extent(request, length, flags);
}

__attribute__((visibility("default"))) bool abd_cancelled(
    const struct abd_request *pub)
{
    const struct request *request = request_of(pub);

    return atomic_load_explicit(&request->cancelled, memory_order_relaxed);
}

/* --- the way back: the request's loop --- */

void request_cancel(struct request *request)
{
    struct frame *frame = &request->frames[request->depth];
    uint32_t state;

    if (atomic_exchange_explicit(&request->cancelled, true,
                                 memory_order_relaxed))
        return;
    list_for_each (link, &request->children)
        request_cancel(container_of(link, struct request, child.link));
    state = atomic_load_explicit(&request->state, memory_order_relaxed);
    if (state == REQUEST_PLUGIN && frame->lane) {
        const struct layer *layer = frame->lane->disk->layer;

        if (layer->plugin->cancel) {
            loop_set_busy_with(request->worker->loop, layer->instance.name);
            layer->plugin->cancel(&request->pub);
            loop_set_busy_with(request->worker->loop, NULL);
        }
    } else if (state == REQUEST_SERVER) {
        border_cancel(request);
    }
}

/* One request has come back: up through the layers until one goes on with it,
 * or to its owner. */
static void unwind(struct request *request)
{
    int error = request->error;

    for (;;) {
        int (*after)(struct abd_request *, int) =
            request->frames[request->depth].after;

        if (!border_ended(request, &error))
            return;
        if (request->depth == 0) {
            request->error = error;
            request->ended(request, error);
            return;
        }
        request->depth--;
        border_show(request);
        if (after) {
            request->last_owner = request->frames[request->depth]
                                      .lane->disk->layer->instance.name;
            loop_set_busy_with(request->worker->loop, request->last_owner);
            error = after(&request->pub, error);
            loop_set_busy_with(request->worker->loop, NULL);
        }
    }
}

static void count_lent(struct request *request)
{
    request->lent.lane = request->frames[request->depth].lane;
    request->lent.lane->lent++;
}

void requests_unwind(struct worker *worker)
{
    struct list batch, *link;

    /* What ends inline while this goes on has its turn in the next round, so
     * that an operation of many pieces does not hold the loop. */
    list_init(&batch);
    list_append_all(&batch, &worker->done);
    while ((link = list_take_first(&batch))) {
        struct request *request = container_of(link, struct request, link);

        atomic_store_explicit(&request->state, REQUEST_SERVER,
                              memory_order_relaxed);
        if (request->lent.pieces && !request->lent.lane)
            count_lent(request);
        if (request->lent.pieces && request->pub.data) {
            int err = request_copy_lent(request, request->pub.data);

            if (err)
                request->error = err;
        }
        unwind(request);
    }
}

void *request_scratch(struct request *request, const struct layer *layer)
{
    /* Frames end where scratch begins; both are multiples of 16. */
    return (char *)&request->frames[chain.n] + layer->scratch_at;
}

void request_clear_scratch(struct request *request, const struct layer *layer)
{
    memset(request_scratch(request, layer), 0, layer->plugin->scratch_size);
}
