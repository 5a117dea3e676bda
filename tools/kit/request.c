/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Requests: what plugins call to end them, and memory that is poisoned when
 * they have been.
 *
 * The struct of a request is never used again, so a second completion is found
 * out however late it comes.  Data and scratch lie in pages of their own, which
 * nobody can touch once the request has ended; those of the last ones are kept
 * so, older ones are given back. */
#include "tools/kit/kit.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PUBLIC __attribute__((visibility("default")))
#define PAGE   4096
/* Memory of ended requests that is kept out of reach. */
#define QUARANTINE (UINT64_C(64) << 20)

static struct {
    pthread_mutex_t lock; /* protects all of it */
    struct {
        void *memory;
        size_t size;
    } kept[8192];
    unsigned first, n;
    uint64_t bytes;
} quarantine = {.lock = PTHREAD_MUTEX_INITIALIZER};

static _Atomic uint64_t next_id = 1;
/* Every request there ever was: none is freed. */
static _Atomic(struct kit_request *) all;

static struct kit_request *request_of(const struct abd_request *pub)
{
    return container_of(pub, struct kit_request, pub);
}

struct kit_request *request_new(struct load *load, uint32_t op, uint32_t flags,
                                uint64_t offset, uint64_t length, bool lent)
{
    struct kit_request *request = calloc(1, sizeof *request);
    bool data = (op == ABD_OP_READ && !lent) || op == ABD_OP_WRITE;

    if (!request)
        report_fatal("the kit has no memory left");
    request->memory_size =
        PAGE + (data ? (length + PAGE - 1) / PAGE * PAGE : 0);
    request->memory = mmap(NULL, request->memory_size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (request->memory == MAP_FAILED)
        report_fatal("the kit has no memory left");
    request->older = atomic_load(&all);
    while (!atomic_compare_exchange_weak(&all, &request->older, request))
        ;
    request->load = load;
    request->error_at = ABD_NO_OFFSET;
    request->pub.op = op;
    request->pub.flags = flags;
    request->pub.offset = offset;
    request->pub.length = length;
    request->pub.id = atomic_fetch_add(&next_id, 1);
    request->pub.scratch = request->memory;
    if (data)
        request->pub.data = (char *)request->memory + PAGE;
    return request;
}

void request_submit(struct kit_request *request)
{
    request->loop = abd_loop_current();
    request->began_ns = abd_loop_now_ns();
    atomic_store_explicit(&request->state, KIT_PLUGIN, memory_order_release);
    loop_set_busy_with(request->loop, plugin->name);
    plugin->submit(&request->pub);
    loop_set_busy_with(request->loop, NULL);
    if (request->disk->pub.flags & ABD_DISK_INLINE &&
        atomic_load_explicit(&request->state, memory_order_acquire) ==
            KIT_PLUGIN)
        report_failure("ABD_DISK_INLINE: submit() returned before the request "
                       "was completed");
}

void request_cancel(struct kit_request *request)
{
    atomic_store(&request->cancelled, true);
    if (plugin->cancel)
        plugin->cancel(&request->pub);
}

void request_release(struct kit_request *request)
{
    if (!request->pieces)
        return;
    request->pieces = NULL;
    request->release(request->release_arg);
}

void request_retire(struct kit_request *request)
{
    unsigned slots = sizeof quarantine.kept / sizeof quarantine.kept[0];

    mprotect(request->memory, request->memory_size, PROT_NONE);
    pthread_mutex_lock(&quarantine.lock);
    while (quarantine.n == slots ||
           (quarantine.n &&
            quarantine.bytes + request->memory_size > QUARANTINE)) {
        unsigned i = quarantine.first++ % slots;

        munmap(quarantine.kept[i].memory, quarantine.kept[i].size);
        quarantine.bytes -= quarantine.kept[i].size;
        quarantine.n--;
    }
    quarantine.kept[(quarantine.first + quarantine.n) % slots].memory =
        request->memory;
    quarantine.kept[(quarantine.first + quarantine.n) % slots].size =
        request->memory_size;
    quarantine.n++;
    quarantine.bytes += request->memory_size;
    pthread_mutex_unlock(&quarantine.lock);
}

/* --- what plugins call --- */

static void on_end(struct loop_message *message)
{
    load_ended(container_of(message, struct kit_request, message));
}

/* The swap that makes a completion the only one. */
static void claim(struct kit_request *request, const char *function)
{
    uint32_t state = KIT_PLUGIN;

    if (atomic_compare_exchange_strong(&request->state, &state, KIT_DONE))
        return;
    report_fatal("%s() on request %llu, which %s", function,
                 (unsigned long long)request->pub.id,
                 state == KIT_DONE ? "was completed already"
                                   : "it does not own");
}

static void send(struct kit_request *request)
{
    request->message.fn = on_end;
    loop_send(request->loop, &request->message);
}

static void check_error(int error)
{
    if (error < 0 || error > 4095)
        report_failure("completed with %d, which is no errno value", error);
}

PUBLIC void abd_complete(struct abd_request *pub, int error)
{
    struct kit_request *request = request_of(pub);

    claim(request, "abd_complete");
    check_error(error);
    if (!error && pub->op == ABD_OP_READ && !pub->data)
        report_failure("a READ without data was ended by abd_complete() "
                       "instead of abd_complete_lent()");
    request->error = error;
    send(request);
}

PUBLIC void abd_fail(struct abd_request *pub, int error, uint64_t at,
                     const char *format, ...)
{
    struct kit_request *request = request_of(pub);
    char text[4096];
    va_list args;

    claim(request, "abd_fail");
    check_error(error);
    if (error == 0)
        report_failure("abd_fail() with error 0");
    if (at != ABD_NO_OFFSET && at >= pub->length)
        report_failure("abd_fail(): the offset %llu does not lie in the "
                       "request, which has %llu bytes",
                       (unsigned long long)at, (unsigned long long)pub->length);
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    request->had_text = true;
    request->error = error ? error : 5;
    request->error_at = at;
    send(request);
}

static void check_pieces(const struct kit_request *request,
                         const struct abd_piece *pieces, unsigned n)
{
    uint64_t left = request->pub.length;

    if (request->pub.op != ABD_OP_READ)
        report_fatal("abd_complete_lent() of a request that is no READ");
    if (!(request->disk->pub.flags & ABD_DISK_LENDS))
        report_fatal("abd_complete_lent(), but its disk is not ABD_DISK_LENDS");
    if (n == 0 || n > ABD_PIECES_MAX)
        report_fatal("abd_complete_lent() with %u pieces", n);
    for (unsigned i = 0; i < n; i++) {
        if (pieces[i].kind > ABD_PIECE_FILE)
            report_fatal("piece %u is of no known kind: %u", i, pieces[i].kind);
        if (pieces[i].length == 0 || pieces[i].length > left)
            report_fatal("the pieces lent do not cover exactly the request's "
                         "length");
        left -= pieces[i].length;
    }
    if (left)
        report_fatal("the pieces lent do not cover exactly the request's "
                     "length");
}

PUBLIC void abd_complete_lent(struct abd_request *pub,
                              const struct abd_piece *pieces, unsigned n,
                              void (*release)(void *arg), void *arg)
{
    struct kit_request *request = request_of(pub);

    claim(request, "abd_complete_lent");
    check_pieces(request, pieces, n);
    if (!release)
        report_fatal("abd_complete_lent() without release");
    request->pieces = pieces;
    request->pieces_n = n;
    request->release = release;
    request->release_arg = arg;
    send(request);
}

PUBLIC bool abd_add_extent(struct abd_request *pub, uint64_t length,
                           uint32_t flags)
{
    struct kit_request *request = request_of(pub);
    uint64_t covered = 0;

    if (atomic_load(&request->state) != KIT_PLUGIN || pub->op != ABD_OP_EXTENTS)
        report_fatal("abd_add_extent() on a request that it does not own, or "
                     "that is no EXTENTS");
    for (unsigned i = 0; i < request->extents_n; i++)
        covered += request->extents[i].length;
    if (length > request->disk->pub.size - pub->offset - covered)
        report_failure("abd_add_extent(): the extent reaches past the end of "
                       "the disk");
    if (flags & ~(uint32_t)(ABD_EXTENT_HOLE | ABD_EXTENT_ZERO))
        report_failure("abd_add_extent(): unknown flags %#x", flags);
    if (covered >= pub->length || request->extents_n == KIT_EXTENTS ||
        (pub->flags & ABD_REQ_ONE && request->extents_n == 1))
        return false;
    request->extents[request->extents_n].length = length;
    request->extents[request->extents_n++].flags = flags;
    return covered + length < pub->length;
}

PUBLIC bool abd_cancelled(const struct abd_request *pub)
{
    return atomic_load(&request_of(pub)->cancelled);
}
