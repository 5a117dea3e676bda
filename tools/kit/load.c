/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Random operations on one loop, each checked against the model.
 *
 * A load owns some windows of the disk; loads on other loops have others.  What
 * is in flight together never overlaps where one of it writes, so the model
 * always knows what must be there. */
#include "tools/kit/kit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WINDOWS 3
#define WINDOW  (UINT64_C(4) << 20)
/* Loans that are held back at once. */
#define HELD_MAX 16

/* Loop thread only, but for the two that say so. */
struct load {
    struct kit_disk *disk;
    const struct load_plan *plan;
    struct abd_loop *loop;
    uint64_t random;
    struct model windows[WINDOWS];
    unsigned windows_n;
    uint64_t started, border;
    unsigned in_flight_n;
    struct list in_flight, held;
    unsigned held_n;
    bool finishing;
    struct loop_message message;
    sem_t *finished;
    _Atomic uint64_t ended;             /* the main thread reads it */
    struct kit_request *_Atomic oldest; /* likewise, for what is said */
};

static uint64_t next_random(struct load *load)
{
    uint64_t z = (load->random += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t below(struct load *load, uint64_t n)
{
    return n ? next_random(load) % n : 0;
}

static bool writes(uint32_t op)
{
    return op == ABD_OP_WRITE || op == ABD_OP_ZERO || op == ABD_OP_TRIM;
}

/* --- choosing --- */

static uint64_t longest(const struct kit_disk *disk, uint32_t op)
{
    uint64_t max = 0;

    if (op == ABD_OP_READ || op == ABD_OP_WRITE)
        max = disk->transfer;
    else if (op == ABD_OP_ZERO)
        max = disk->pub.max_zero;
    else
        max = disk->pub.max_trim;
    return max ? max : UINT64_MAX;
}

static uint32_t choose_op(struct load *load)
{
    static const uint32_t mix[] = {
        ABD_OP_READ,  ABD_OP_READ,    ABD_OP_READ,  ABD_OP_WRITE,
        ABD_OP_WRITE, ABD_OP_WRITE,   ABD_OP_ZERO,  ABD_OP_TRIM,
        ABD_OP_FLUSH, ABD_OP_EXTENTS, ABD_OP_CACHE,
    };
    uint32_t op = mix[below(load, sizeof mix / sizeof mix[0])];
    const struct kit_disk *disk = load->disk;

    if (!disk_has(disk, (enum abd_op)op) ||
        (writes(op) && (!options.may_write || disk->pub.read_only ||
                        !disk_has(disk, ABD_OP_WRITE))))
        return ABD_OP_READ;
    return op;
}

static uint32_t choose_flags(struct load *load, uint32_t op)
{
    uint32_t flags = 0;

    if (writes(op) && load->disk->pub.fua == ABD_FUA_NATIVE &&
        below(load, 4) == 0)
        flags |= ABD_REQ_FUA;
    if (op == ABD_OP_ZERO && below(load, 2))
        flags |= ABD_REQ_MAY_TRIM;
    if (op == ABD_OP_ZERO && load->disk->pub.flags & ABD_DISK_FAST_ZERO &&
        below(load, 4) == 0)
        flags |= ABD_REQ_FAST;
    if (op == ABD_OP_EXTENTS && below(load, 3) == 0)
        flags |= ABD_REQ_ONE;
    return flags;
}

static bool conflicts(const struct load *load, uint32_t op, uint64_t offset,
                      uint64_t length)
{
    list_for_each (link, &load->in_flight) {
        const struct kit_request *other =
            container_of(link, struct kit_request, link);

        if ((writes(op) || writes(other->pub.op)) && other->pub.length &&
            offset < other->pub.offset + other->pub.length &&
            other->pub.offset < offset + length)
            return true;
    }
    return false;
}

/* A range in one of the windows: short ones more often than long ones. */
static void choose_range(struct load *load, uint32_t op, uint64_t *ret_offset,
                         uint64_t *ret_length)
{
    const struct model *window = &load->windows[below(load, load->windows_n)];
    uint64_t unit = load->disk->block_min;
    uint64_t units = window->length / unit;
    uint64_t max = longest(load->disk, op) / unit;
    uint64_t length = UINT64_C(1) << below(load, 64);
    uint64_t at;

    max = max < units ? max : units;
    length = 1 + below(load, length < max ? length : max);
    at = below(load, units - length + 1);
    if (below(load, 8) == 0)
        at = below(load, 2) ? 0 : units - length;
    *ret_offset = window->offset + at * unit;
    *ret_length = length * unit;
}

/* Each window's borders with the shortest and the longest request, for reading
 * and for writing; false: all have been. */
static bool choose_border(struct load *load, uint32_t *ret_op,
                          uint64_t *ret_offset, uint64_t *ret_length)
{
    uint64_t i = load->border;
    const struct model *window;
    uint64_t max, length;

    if (!load->plan->borders || i >= load->windows_n * UINT64_C(8))
        return false;
    window = &load->windows[i / 8];
    *ret_op = i & 4 && options.may_write && !load->disk->pub.read_only &&
                      disk_has(load->disk, ABD_OP_WRITE)
                  ? ABD_OP_WRITE
                  : ABD_OP_READ;
    max = longest(load->disk, *ret_op);
    max = max < window->length ? max : window->length;
    length = i & 1 ? max / load->disk->block_min * load->disk->block_min
                   : load->disk->block_min;
    *ret_offset =
        i & 2 ? window->offset + window->length - length : window->offset;
    *ret_length = length;
    if (conflicts(load, *ret_op, *ret_offset, *ret_length))
        return false;
    load->border++;
    return true;
}

static void fill(struct load *load, struct kit_request *request)
{
    uint64_t *words = request->pub.data;
    uint8_t *bytes = request->pub.data;
    uint64_t i;

    for (i = 0; i < request->pub.length / 8; i++)
        words[i] = next_random(load);
    for (i *= 8; i < request->pub.length; i++)
        bytes[i] = (uint8_t)next_random(load);
}

/* --- what came back --- */

static struct model *window_of(struct load *load, uint64_t offset)
{
    for (unsigned i = 0; i < load->windows_n; i++) {
        struct model *window = &load->windows[i];

        if (offset >= window->offset &&
            offset - window->offset < window->length)
            return window;
    }
    return NULL;
}

static uint64_t checksum(const void *data, uint64_t length)
{
    const uint8_t *bytes = data;
    uint64_t sum = 14695981039346656037U;

    for (uint64_t i = 0; i < length; i++)
        sum = (sum ^ bytes[i]) * 1099511628211U;
    return sum;
}

/* What was lent, as the bytes that a client would get. */
static bool gather(const struct kit_request *request, uint8_t *to)
{
    for (unsigned i = 0; i < request->pieces_n; i++) {
        const struct abd_piece *piece = &request->pieces[i];

        if (piece->kind == ABD_PIECE_MEMORY)
            memcpy(to, piece->data, piece->length);
        else if (piece->kind == ABD_PIECE_HOLE)
            memset(to, 0, piece->length);
        else if (pread(piece->fd, to, piece->length, (off_t)piece->fd_offset) !=
                 (ssize_t)piece->length) {
            report_failure("a range of a file was lent that can't be read");
            return false;
        }
        to += piece->length;
    }
    return true;
}

static void check_bytes(struct load *load, const struct kit_request *request,
                        const uint8_t *bytes)
{
    uint64_t wrong =
        model_check(window_of(load, request->pub.offset), request->pub.offset,
                    request->pub.length, bytes);

    if (wrong != UINT64_MAX)
        report_failure("wrong data at offset %" PRIu64 ", in a READ of %" PRIu64
                       " bytes at %" PRIu64,
                       wrong, request->pub.length, request->pub.offset);
}

static void check_read(struct load *load, struct kit_request *request)
{
    uint8_t *bytes;

    if (!request->pieces) {
        check_bytes(load, request, request->pub.data);
        return;
    }
    bytes = malloc(request->pub.length);
    if (!bytes)
        report_fatal("the kit has no memory left");
    if (gather(request, bytes))
        check_bytes(load, request, bytes);
    free(bytes);
}

static void check_extents(struct load *load, const struct kit_request *request)
{
    struct model *window = window_of(load, request->pub.offset);
    uint64_t at = request->pub.offset;
    uint64_t end = window->offset + window->length;

    for (unsigned i = 0; i < request->extents_n; i++) {
        uint64_t length = request->extents[i].length;

        if (length == 0 || length % load->disk->block_min)
            report_failure("an extent of %" PRIu64 " bytes", length);
        for (uint64_t k = at; k < at + length && k < end &&
                              request->extents[i].flags & ABD_EXTENT_ZERO &&
                              k < request->pub.offset + request->pub.length;
             k++) {
            if (window->known[k - window->offset] &&
                window->bytes[k - window->offset]) {
                report_failure("offset %" PRIu64 " is said to read as zeroes, "
                               "but has data",
                               k);
                return;
            }
        }
        at += length;
    }
}

static void check_success(struct load *load, struct kit_request *request)
{
    struct abd_request *pub = &request->pub;
    struct model *window =
        pub->length ? window_of(load, pub->offset) : load->windows;

    switch (pub->op) {
    case ABD_OP_READ:
        check_read(load, request);
        break;
    case ABD_OP_WRITE:
        if (checksum(pub->data, pub->length) != request->error_at)
            report_failure("it has changed the data of a WRITE");
        if (options.keeps)
            model_write(window, pub->offset, pub->length, pub->data);
        break;
    case ABD_OP_ZERO:
        if (options.keeps)
            model_zero(window, pub->offset, pub->length);
        break;
    case ABD_OP_TRIM:
        model_forget(window, pub->offset, pub->length);
        break;
    case ABD_OP_EXTENTS:
        check_extents(load, request);
        break;
    default:
        break;
    }
}

static void check_error(struct load *load, struct kit_request *request)
{
    struct abd_request *pub = &request->pub;
    bool unsupported = pub->op == ABD_OP_ZERO && request->error == ENOTSUP;

    if (!atomic_load(&request->cancelled) && !unsupported)
        report_failure("%s of %" PRIu64 " bytes at %" PRIu64
                       " ended with error %d (%s)",
                       pub->op == ABD_OP_READ    ? "READ"
                       : pub->op == ABD_OP_WRITE ? "WRITE"
                       : pub->op == ABD_OP_ZERO  ? "ZERO"
                       : pub->op == ABD_OP_TRIM  ? "TRIM"
                       : pub->op == ABD_OP_FLUSH ? "FLUSH"
                                                 : "EXTENTS or CACHE",
                       pub->length, pub->offset, request->error,
                       strerrordesc_np(request->error));
    if (writes(pub->op) && !(unsupported && pub->flags & ABD_REQ_FAST))
        model_forget(window_of(load, pub->offset), pub->offset, pub->length);
}

/* --- loans --- */

/* Gives back the loan that is in the given place; what it points to must have
 * stayed. */
static void give_back(struct load *load, struct kit_request *request)
{
    uint8_t *bytes = malloc(request->pub.length);

    list_remove(&request->link);
    load->held_n--;
    if (bytes)
        gather(request, bytes);
    free(bytes);
    request_release(request);
    request_retire(request);
}

static void give_back_some(struct load *load, unsigned leave)
{
    while (load->held_n > leave) {
        struct list *link = load->held.next;

        for (uint64_t n = below(load, load->held_n); n > 0; n--)
            link = link->next;
        give_back(load, container_of(link, struct kit_request, link));
    }
}

/* --- the loop --- */

static void issue_one(struct load *load)
{
    uint32_t op;
    uint64_t offset = 0, length = 0;
    struct kit_request *request;
    bool lent;

    if (!choose_border(load, &op, &offset, &length)) {
        op = choose_op(load);
        for (unsigned tries = 0; op != ABD_OP_FLUSH; tries++) {
            choose_range(load, op, &offset, &length);
            if (!conflicts(load, op, offset, length))
                break;
            if (tries == 8)
                return; /* when something has ended */
        }
    }
    lent = op == ABD_OP_READ && load->plan->lends && below(load, 4) &&
           length >= load->disk->pub.lend_min;
    request =
        request_new(load, op, choose_flags(load, op), offset, length, lent);
    request->disk = load->disk;
    request->pub.disk = &load->disk->pub;
    request->pub.client = &load->disk->client;
    if (op == ABD_OP_WRITE) {
        fill(load, request);
        request->error_at = checksum(request->pub.data, length);
    }
    list_append(&load->in_flight, &request->link);
    load->in_flight_n++;
    load->started++;
    request_submit(request);
    if (load->plan->cancels && below(load, 4) == 0) {
        struct list *link = load->in_flight.next;

        for (uint64_t n = below(load, load->in_flight_n); n > 0; n--)
            link = link->next;
        request_cancel(container_of(link, struct kit_request, link));
    }
}

static void cancel_all(struct load *load)
{
    list_for_each (link, &load->in_flight)
        request_cancel(container_of(link, struct kit_request, link));
}

static void go_on(struct load *load)
{
    unsigned before = load->in_flight_n;
    uint64_t tries = load->plan->depth;

    while (load->started < load->plan->operations && tries-- > 0 &&
           load->in_flight_n < load->plan->depth && !report_has_failed())
        issue_one(load);
    if (plugin->kick && load->in_flight_n != before)
        plugin->kick(&load->disk->pub);
    atomic_store(&load->oldest,
                 list_first(&load->in_flight, struct kit_request, link));
    if (load->finishing || (load->started < load->plan->operations &&
                            !report_has_failed() && load->in_flight_n > 0))
        return;
    if (load->plan->abandons && load->in_flight_n > 0) {
        load->finishing = true; /* the client has gone */
        cancel_all(load);
        load->finishing = false;
    }
    if (load->in_flight_n > 0)
        return;
    if (load->started < load->plan->operations && !report_has_failed()) {
        loop_send(load->loop, &load->message);
        return;
    }
    give_back_some(load, 0);
    sem_post(load->finished);
}

static void on_go(struct loop_message *message)
{
    go_on(container_of(message, struct load, message));
}

void load_ended(struct kit_request *request)
{
    struct load *load = request->load;

    list_remove(&request->link);
    load->in_flight_n--;
    if (request->error)
        check_error(load, request);
    else
        check_success(load, request);
    if (request->pieces) {
        list_append(&load->held, &request->link);
        load->held_n++;
        give_back_some(load, below(load, HELD_MAX));
    } else {
        request_retire(request);
    }
    atomic_fetch_add(&load->ended, 1);
    go_on(load);
}

/* --- one for each loop --- */

/* Windows at the start, the middle and the end of this load's part. */
static bool init_windows(struct load *load, unsigned index, unsigned n)
{
    uint64_t unit = load->disk->block_min;
    uint64_t part = load->disk->pub.size / n / unit * unit;
    uint64_t begin = part * index;
    uint64_t window = WINDOW / unit * unit;

    if (index == n - 1)
        part = load->disk->pub.size - begin;
    if (part == 0)
        return true;
    if (part < WINDOWS * window) {
        load->windows_n = 1;
        return model_init(&load->windows[0], begin,
                          part < window ? part : window);
    }
    load->windows_n = WINDOWS;
    return model_init(&load->windows[0], begin, window) &&
           model_init(&load->windows[1], begin + part / 2 / unit * unit,
                      window) &&
           model_init(&load->windows[2], begin + part - window, window);
}

static void finish(struct load *load)
{
    for (unsigned i = 0; i < load->windows_n; i++)
        model_finish(&load->windows[i]);
}

/* Waits for one load to finish; who stops making progress is named. */
static void await_one(sem_t *finished, struct load *loads, unsigned n)
{
    uint64_t seen = 0, waited_ns = 0;

    for (;;) {
        struct timespec until;
        uint64_t ended = 0;

        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec++;
        if (sem_timedwait(finished, &until) == 0)
            return;
        if (errno != ETIMEDOUT)
            continue;
        for (unsigned i = 0; i < n; i++)
            ended += atomic_load(&loads[i].ended);
        waited_ns = ended == seen ? waited_ns + UINT64_C(1000000000) : 0;
        seen = ended;
        for (unsigned i = 0; waited_ns >= options.timeout_ns && i < n; i++) {
            const struct kit_request *oldest = atomic_load(&loads[i].oldest);

            if (oldest)
                report_fatal("request %" PRIu64 " (op %u, %" PRIu64
                             " bytes at %" PRIu64 ") was not completed within "
                             "%" PRIu64 " s",
                             oldest->pub.id, oldest->pub.op, oldest->pub.length,
                             oldest->pub.offset,
                             options.timeout_ns / UINT64_C(1000000000));
        }
    }
}

void load_run(struct kit_disk *disk, const struct load_plan *plan)
{
    unsigned n = disk->pub.flags & ABD_DISK_PARALLEL ? abd_loop_count() : 1;
    struct load loads[LOOPS_MAX];
    struct load_plan share = *plan;
    sem_t finished;

    share.operations /= n;
    if (share.depth > disk->max_requests / n)
        share.depth = disk->max_requests / n ? disk->max_requests / n : 1;
    sem_init(&finished, 0, 0);
    for (unsigned i = 0; i < n; i++) {
        struct load *load = &loads[i];

        memset(load, 0, sizeof *load);
        load->disk = disk;
        load->plan = &share;
        load->loop = n == 1 ? disk->pub.loop : abd_loop_at(i);
        load->random = options.seed + i;
        load->finished = &finished;
        load->message.fn = on_go;
        list_init(&load->in_flight);
        list_init(&load->held);
        if (!init_windows(load, i, n))
            report_fatal("the kit has no memory left");
    }
    for (unsigned i = 0; i < n; i++) {
        if (loads[i].windows_n)
            loop_send(loads[i].loop, &loads[i].message);
        else
            sem_post(&finished);
    }
    for (unsigned i = 0; i < n; i++)
        await_one(&finished, loads, n);
    for (unsigned i = 0; i < n; i++)
        finish(&loads[i]);
    sem_destroy(&finished);
}
