/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

#include "tools/check/request.h"

#include "tools/check/options.h"
#include "tools/check/registered.h"
#include "tools/check/rules.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE 4096

static _Atomic uint64_t next_id = 1;

const char *request_who(const struct request *request)
{
    return request->frames[request->depth].disk->layer->plugin.name;
}

struct request *request_of(const struct abd_request *pub, const char *function)
{
    const struct guard_record *record = guard_find(pub, GUARD_REQUEST);

    if (!record)
        rules_stop(RULE_OWNER, host_busy_with(), "%s(%p): that is no request",
                   function, (const void *)pub);
    return record->object;
}

/* --- making and ending --- */

struct request *request_new(uint32_t op, uint32_t flags, uint64_t offset,
                            uint64_t length)
{
    struct request *request = calloc(1, sizeof *request);
    struct guard_record *record = guard_record_new();

    if (!request)
        host_die("there is no memory left");
    record->object = request;
    record->id = atomic_fetch_add(&next_id, 1);
    record->op = op;
    record->offset = offset;
    record->length = length;
    request->record = record;
    request->error_at = ABD_NO_OFFSET;
    list_init(&request->children);
    request->pub = guard_take(record, GUARD_REQUEST, sizeof *request->pub,
                              _Alignof(struct abd_request), 0);
    *request->pub = (struct abd_request){
        .id = record->id,
        .op = op,
        .flags = flags,
        .offset = offset,
        .length = length,
    };
    if (op == ABD_OP_EXTENTS) {
        request->extents = calloc(REQUEST_EXTENTS, sizeof *request->extents);
        if (!request->extents)
            host_die("there is no memory left");
    }
    return request;
}

void request_take_data(struct request *request, const struct disk *disk,
                       uint64_t *random)
{
    size_t alignment = disk->pub->data_alignment;
    size_t spare = 0;

    if (!alignment)
        alignment = disk->pub->flags & ABD_DISK_INLINE ? 1 : PAGE;
    if (alignment < PAGE && host_random(random) & 1)
        spare = host_random(random) % (PAGE / alignment) * alignment;
    request->data_size = request->pub->length;
    if (registered_is_wanted()) {
        request->data = registered_take(request->record, request->data_size);
        request->pub->data = request->data;
        return;
    }
    request->data = guard_take(request->record, GUARD_DATA, request->data_size,
                               alignment, spare);
    request->pub->data = request->data;
}

static void check_bounds(const struct request *request, const char *what,
                         bool intact)
{
    rules_try(RULE_BOUNDS);
    if (!intact)
        rules_break(RULE_BOUNDS, atomic_load(&request->record->who),
                    "it wrote in front of %s of %s, or behind", what,
                    guard_describe(request->record));
}

void request_retire(struct request *request)
{
    atomic_store(&request->record->state, GUARD_ENDED);
    guard_end(request->pub, sizeof *request->pub);
    if (request->data && registered_is_wanted())
        registered_give(request->data);
    else if (request->data)
        check_bounds(request, "the data",
                     guard_end(request->data, request->data_size));
    rules_try(RULE_AFTER_END);
    rules_try(RULE_CONSTANT);
    rules_try(RULE_ONCE);
    rules_try(RULE_OWNER);
    rules_try(RULE_COMPLETES);
    rules_try(RULE_PROGRESS);
    request->data = NULL;
    request->pub = NULL;
}

static void check_pieces_stayed(const struct request *request)
{
    const struct loan *loan = &request->loan;
    bool same;

    guard_lent_begin(request->record, request->loan.who);
    same = memcmp(loan->pieces, loan->copy, loan->n * sizeof *loan->copy) == 0;
    guard_lent_end();
    if (!same)
        rules_break(RULE_LENT_STAYS, request->loan.who,
                    "the pieces lent for %s were changed before release()",
                    guard_describe(request->record));
}

static void release_loan(struct request *request)
{
    struct loan *loan = &request->loan;
    struct host_call before;

    if (loan->pieces) {
        check_pieces_stayed(request);
        before = host_enter(loan->who, "release()");
        loan->release(loan->arg);
        host_leave(before);
    }
    if (loan->scratch)
        check_bounds(request, "the scratch",
                     guard_end(loan->scratch, loan->scratch_size));
    free(loan->copy);
    if (loan->from)
        request_release(loan->from);
    *loan = (struct loan){0};
}

void request_release(struct request *request)
{
    release_loan(request);
    free(request->extents);
    free(request);
}

static bool gather_file(const struct abd_piece *piece, uint8_t *to)
{
    uint64_t done = 0;

    while (done < piece->length) {
        ssize_t n = pread(piece->fd, to + done, piece->length - done,
                          (off_t)(piece->fd_offset + done));

        if (n <= 0)
            return false;
        done += (uint64_t)n;
    }
    return true;
}

bool request_gather(const struct request *request, void *to)
{
    const struct loan *loan = &request->loan;
    uint8_t *at = to;

    for (unsigned i = 0; i < loan->n; i++) {
        const struct abd_piece *piece = &loan->copy[i];

        guard_lent_begin(request->record, request->loan.who);
        if (piece->kind == ABD_PIECE_MEMORY)
            memcpy(at, piece->data, piece->length);
        guard_lent_end();
        if (piece->kind == ABD_PIECE_HOLE)
            memset(at, 0, piece->length);
        if (piece->kind == ABD_PIECE_FILE && !gather_file(piece, at)) {
            rules_break(RULE_LENT_STAYS, request->loan.who,
                        "%" PRIu64 " bytes at %" PRIu64 " of a file were lent "
                        "for %s, but can't be read",
                        piece->length, piece->fd_offset,
                        guard_describe(request->record));
            return false;
        }
        at += piece->length;
    }
    return true;
}

/* --- the way down --- */

/* What the layer of this frame sees of it.  The kit's own turn only. */
static void show(struct request *request)
{
    struct frame *frame = &request->frames[request->depth];
    struct abd_request *pub = request->pub;

    guard_set_writable(pub, sizeof *pub, true);
    pub->disk = frame->disk->pub;
    pub->offset = frame->offset;
    pub->scratch = frame->scratch;
    guard_set_writable(pub, sizeof *pub, false);
}

static void take_scratch(struct request *request)
{
    struct frame *frame = &request->frames[request->depth];
    uint32_t size = frame->disk->layer->plugin.scratch_size;

    if (size)
        frame->scratch =
            guard_take(request->record, GUARD_SCRATCH, size, 16, 0);
}

static void submit(struct request *request)
{
    struct frame *frame = &request->frames[request->depth];
    struct disk *disk = frame->disk;
    const struct abd_plugin *plugin = &disk->layer->plugin;
    struct guard_record *record = request->record;
    struct host_call before;

    frame->lane->in_flight_n++;
    if (!plugin->submit) {
        request_enter(request,
                      list_first(&disk->belows, struct disk, below_link));
        return;
    }
    take_scratch(request);
    show(request);
    atomic_store(&record->who, plugin->name);
    before = host_enter(plugin->name, "submit()");
    atomic_store(&record->state, GUARD_PLUGINS);
    plugin->submit(request->pub);
    host_leave(before);
    if (plugin->kick && !list_is_linked(&frame->lane->kick_link))
        list_append(&frame->lane->worker->kicks, &frame->lane->kick_link);
    if (!(disk->pub->flags & ABD_DISK_INLINE))
        return;
    rules_try(RULE_INLINE);
    if (atomic_load(&record->state) == GUARD_PLUGINS)
        rules_break(RULE_INLINE, plugin->name,
                    "submit() of a disk with ABD_DISK_INLINE returned before "
                    "it had completed %s",
                    guard_describe(record));
}

void request_enter(struct request *request, struct disk *disk)
{
    struct frame *above = &request->frames[request->depth];
    uint64_t offset = request->pub->offset;
    struct frame *frame;

    if (above->disk)
        request->depth++;
    frame = &request->frames[request->depth];
    *frame = (struct frame){
        .disk = disk,
        .lane = &disk->lanes[request->worker->index],
        .offset = offset,
    };
    if (disk->above && border_stops(request, disk))
        return;
    if (frame->lane->in_flight_n >= disk->share) {
        list_append(&frame->lane->waiting, &request->wait_link);
        return;
    }
    submit(request);
}

void request_submit(struct request *request, struct disk *disk,
                    const struct abd_client *client)
{
    request->worker = host_worker();
    request->pub->client = client;
    if (request->pub->op == ABD_OP_WRITE && request->data &&
        !registered_is_wanted())
        guard_set_writable(request->data, request->data_size, false);
    request_enter(request, disk);
}

static bool is_with_plugin(const struct request *request)
{
    uint32_t state = atomic_load(&request->record->state);

    return (state == GUARD_PLUGINS || state == GUARD_DONE) &&
           !list_is_linked(&request->wait_link) && request->parts_n == 0;
}

void request_cancel(struct request *request)
{
    struct host_call before;
    const struct abd_plugin *plugin =
        &request->frames[request->depth].disk->layer->plugin;

    rules_try(RULE_CANCEL);
    if (atomic_exchange(&request->record->is_cancelled, true))
        return;
    list_for_each_safe (link, &request->children)
        request_cancel(container_of(link, struct request, child_link));
    if (!plugin->cancel || !is_with_plugin(request))
        return;
    before = host_enter(plugin->name, "cancel()");
    plugin->cancel(request->pub);
    host_leave(before);
}

/* --- the way back --- */

/* Scratch of what was lent stays. */
static void leave_frame(struct request *request)
{
    struct frame *frame = &request->frames[request->depth];
    struct lane *lane = frame->lane;
    uint32_t size = frame->disk->layer->plugin.scratch_size;
    struct list *link;

    if (frame->scratch && request->loan.pieces && !request->loan.scratch &&
        !request->loan.from) {
        request->loan.scratch = frame->scratch;
        request->loan.scratch_size = size;
    } else if (frame->scratch) {
        check_bounds(request, "the scratch", guard_end(frame->scratch, size));
    }
    frame->disk = NULL;
    lane->in_flight_n--;
    link = list_take_first(&lane->waiting);
    if (link)
        submit(container_of(link, struct request, wait_link));
}

static void check_after(struct request *request, int error)
{
    rules_try(RULE_FORWARD);
    if (error < 0 || error > 4095)
        rules_break(RULE_ERRORS, request_who(request),
                    "after() returned %d, which is no errno value", error);
    request->error = error;
}

static void unwind(struct request *request)
{
    struct frame *frame;
    struct host_call before;

    /* A loan for who has data is copied there. */
    if (request->loan.pieces && request->pub->data) {
        request_gather(request, request->pub->data);
        release_loan(request);
    }
    for (;;) {
        leave_frame(request);
        if (request->depth == 0)
            break;
        request->depth--;
        frame = &request->frames[request->depth];
        show(request);
        if (!frame->after)
            continue;
        before = host_enter(request_who(request), "after()");
        check_after(request, frame->after(request->pub, request->error));
        host_leave(before);
    }
    request->ended(request);
}

static void on_done(struct loop_message *message)
{
    unwind(container_of(message, struct request, message));
}

void request_done(struct request *request)
{
    /* Nobody above changes it: it stays as it is from here on. */
    if (request->data && request->depth == 0 && !registered_is_wanted())
        guard_set_writable(request->data, request->data_size, false);
    request->message.fn = on_done;
    loop_send(request->worker->loop, &request->message);
}

/* The lane is counted down when the frame is left. */
void request_end_here(struct request *request, int error)
{
    request->frames[request->depth].lane->in_flight_n++;
    request->error = error;
    atomic_store(&request->record->state, GUARD_DONE);
    request_done(request);
}

static void check_children(const struct request *request)
{
    if (request->frames[request->depth].children_n)
        rules_stop(RULE_CHILDREN, request_who(request),
                   "it ended %s before its children",
                   guard_describe(request->record));
}

struct request *request_claim(const struct abd_request *pub,
                              const char *function, enum guard_state next)
{
    struct guard_record *record = guard_find(pub, GUARD_REQUEST);
    uint32_t state = GUARD_PLUGINS;

    if (!record)
        rules_stop(RULE_OWNER, host_busy_with(), "%s(%p): that is no request",
                   function, (const void *)pub);
    if (atomic_compare_exchange_strong(&record->state, &state, next)) {
        check_children(record->object);
        return record->object;
    }
    if (state == GUARD_OURS)
        rules_stop(RULE_OWNER, guard_blame(record),
                   "%s() on %s, which it does not own now", function,
                   guard_describe(record));
    rules_stop(RULE_ONCE, guard_blame(record),
               "%s() on %s, which it had completed before", function,
               guard_describe(record));
}
