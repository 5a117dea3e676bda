/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Commands and their parts.  See job.h.
 *
 * A command asks for all that its next part needs in one step (command_take):
 * requests, room in the disk, memory.  Nobody holds one of them while waiting
 * for another, so nobody can wait for ever. */
#include "server/job.h"

#include "server/border.h"
#include "server/connection.h"
#include "server/disk.h"
#include "server/layer.h"
#include "server/reply.h"
#include "server/request.h"
#include "server/transmission.h"
#include "server/worker.h"

#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_chunked(const struct job *job)
{
    return job->type == NBD_CMD_READ && !job->whole;
}

/* Must the whole of it be there before the first byte is sent? */
static bool wants_whole(const struct connection *connection)
{
    const struct command *command = &connection->receive.command;

    return command->header.type == NBD_CMD_READ &&
           (connection->negotiated.style == NBD_SIMPLE ||
            command->header.flags & NBD_CMD_FLAG_DF);
}

/* --- the end of a part --- */

static void give_buffer(struct request *part)
{
    struct connection *connection = part->part.job->connection;

    if (!part->part.buffer)
        return;
    memory_give(part->worker->memory, part->part.buffer,
                part->part.buffer_size);
    connection->held -= memory_cost(part->part.buffer_size);
    part->part.buffer = NULL;
}

static void part_free(struct request *part)
{
    struct worker *worker = part->worker;

    give_buffer(part);
    request_put(part);
    if (chain.children)
        request_unreserve(worker, chain.children);
}

static void count(struct job *job)
{
    struct connection *connection = job->connection;
    struct worker_counters *counters = &connection->worker->counters;
    uint64_t ns = abd_loop_now_ns() - job->started_ns;

    counter_add(&counters->requests, 1);
    connection->counted.requests++;
    if (job->type < NBD_CMD_RESIZE)
        histogram_add(&counters->latency[job->type], ns);
    if (job->error) {
        counter_add(&counters->errors, 1);
        connection->counted.errors++;
    } else if (job->type == NBD_CMD_READ) {
        counter_add(&counters->bytes_read, job->length);
        connection->counted.bytes_read += job->length;
    } else if (job->type == NBD_CMD_WRITE) {
        counter_add(&counters->bytes_written, job->length);
        connection->counted.bytes_written += job->length;
    }
}

static void job_end(struct job *job)
{
    struct connection *connection = job->connection;
    struct request *head = job->head;
    struct list *link;

    count(job);
    if (job->whole) {
        while ((link = list_take_first(&job->all))) {
            struct request *part =
                container_of(link, struct request, part.link);

            if (part != head)
                part_free(part);
        }
    }
    free(job->error_text);
    part_free(head);
    connection->jobs--;
    connection_job_ended(connection);
}

void part_sent(struct request *part)
{
    struct job *job = part->part.job;

    job->unsent--;
    if (!part->part.final) {
        if (part == job->head) {
            request_release(part);
            give_buffer(part);
        } else {
            part_free(part);
        }
        return;
    }
    if (part != job->head)
        part_free(part);
    job_end(job);
}

/* All parts have ended: one reply for the whole, carried by the head. */
static void job_answer(struct job *job)
{
    job->head->part.final = true;
    reply_queue(job->connection, job->head);
}

static void note_error(struct job *job, struct request *part, int error)
{
    if (job->error)
        return;
    job->error = error;
    job->error_at = part->error_at == ABD_NO_OFFSET
                        ? ABD_NO_OFFSET
                        : part->part.offset + part->error_at;
    job->error_text = part->error_text;
    part->error_text = NULL;
}

/* Where in the part's data the range of the file lies; UINT64_MAX: nowhere. */
static uint64_t find_file(const struct request *part, int fd,
                          uint64_t fd_offset)
{
    uint64_t at = 0;

    for (unsigned i = 0; part->lent.pieces && i < part->lent.n; i++) {
        const struct abd_piece *piece = &part->lent.pieces[i];

        if (piece->kind == ABD_PIECE_FILE && piece->fd == fd &&
            fd_offset >= piece->fd_offset &&
            fd_offset - piece->fd_offset < piece->length)
            return at + (fd_offset - piece->fd_offset);
        at += piece->length;
    }
    return UINT64_MAX;
}

void job_file_failed(struct job *job, struct request *part, int fd,
                     uint64_t fd_offset, int error)
{
    uint64_t at = find_file(part, fd, fd_offset);

    list_for_each (link, &job->all) {
        if (at != UINT64_MAX)
            break;
        part = container_of(link, struct request, part.link);
        at = find_file(part, fd, fd_offset);
    }
    assert(at != UINT64_MAX);
    part->part.file_failed_at = at;
    job->file_failed = true;
    part->error_at = at;
    note_error(job, part, error);
}

/* A chunk goes out as soon as it is there; the last to end is also the end of
 * the reply. */
static void chunk_ended(struct job *job, struct request *part, int error)
{
    part->part.final = job->issued && job->parts == 0;
    if (error) {
        request_release(part);
        give_buffer(part);
    }
    if (!error || part->part.final)
        reply_queue(job->connection, part);
    else if (part != job->head)
        part_free(part);
}

static void part_ended(struct request *part, int error)
{
    struct job *job = part->part.job;

    list_remove(&part->part.link);
    job->parts--;
    part->part.failed = error != 0;
    if (error)
        note_error(job, part, error);
    if (is_chunked(job)) {
        chunk_ended(job, part, error);
        return;
    }
    if (job->whole)
        list_append(&job->all, &part->part.link);
    else if (part != job->head)
        part_free(part);
    else if (job->type == NBD_CMD_WRITE)
        give_buffer(part);
    if (job->issued && job->parts == 0)
        job_answer(job);
}

/* --- taking what the next part needs --- */

static enum abd_op op_of(uint16_t type)
{
    switch (type) {
    case NBD_CMD_READ:
        return ABD_OP_READ;
    case NBD_CMD_WRITE:
        return ABD_OP_WRITE;
    case NBD_CMD_FLUSH:
        return ABD_OP_FLUSH;
    case NBD_CMD_TRIM:
        return ABD_OP_TRIM;
    case NBD_CMD_CACHE:
        return ABD_OP_CACHE;
    case NBD_CMD_WRITE_ZEROES:
        return ABD_OP_ZERO;
    default:
        return ABD_OP_EXTENTS;
    }
}

static uint32_t flags_of(uint16_t type, uint16_t flags)
{
    uint32_t result = 0;

    if (flags & NBD_CMD_FLAG_FUA)
        result |= ABD_REQ_FUA;
    if (type == NBD_CMD_WRITE_ZEROES && !(flags & NBD_CMD_FLAG_NO_HOLE))
        result |= ABD_REQ_MAY_TRIM;
    if (flags & NBD_CMD_FLAG_FAST_ZERO)
        result |= ABD_REQ_FAST;
    if (flags & NBD_CMD_FLAG_REQ_ONE)
        result |= ABD_REQ_ONE;
    return result;
}

static void job_init(struct job *job, struct request *head,
                     struct connection *connection)
{
    const struct command *command = &connection->receive.command;

    *job = (struct job){
        .connection = connection,
        .head = head,
        .cookie = command->header.cookie,
        .offset = command->header.offset,
        .length = command->length,
        .type = command->header.type,
        .flags = command->header.flags,
        .whole = wants_whole(connection),
        .started_ns = abd_loop_now_ns(),
        .error_at = ABD_NO_OFFSET,
    };
    list_init(&job->all);
    connection->jobs++;
}

/* A part for the next length bytes of the command. */
static struct request *make_part(struct connection *connection, uint64_t length,
                                 void *buffer, uint64_t buffer_size)
{
    struct command *command = &connection->receive.command;
    struct request *part = request_take(connection->worker, part_ended);

    if (!command->job) {
        command->job = &part->part.own;
        job_init(command->job, part, connection);
    }
    part->part.job = command->job;
    part->part.link = (struct list){NULL, NULL};
    part->part.reply_link = (struct list){NULL, NULL};
    part->part.offset = command->issued;
    part->part.length = length;
    part->part.buffer = buffer;
    part->part.buffer_size = buffer_size;
    part->part.reply_length = UINT64_MAX;
    part->part.file_failed_at = UINT64_MAX;
    part->part.final = part->part.failed = false;
    if (buffer)
        connection->held += memory_cost(buffer_size);
    part->pub.client = &connection->client;
    part->pub.op = op_of(command->header.type);
    part->pub.flags = flags_of(command->header.type, command->header.flags);
    part->pub.offset = command->header.offset + command->issued;
    part->pub.length = length;
    part->pub.data = buffer;
    if (part->pub.op == ABD_OP_EXTENTS && buffer) {
        part->pub.data = NULL;
        part->extents = buffer;
        part->extents_max = LIMIT_EXTENTS;
    }
    return part;
}

/* What a part of this length needs of the arena; 0: nothing. */
static uint64_t buffer_for(const struct connection *connection, uint64_t length)
{
    const struct command *command = &connection->receive.command;
    const struct disk *disk = connection->disk;

    switch (command->header.type) {
    case NBD_CMD_READ:
        if (disk->pub.flags & ABD_DISK_LENDS && length >= disk->pub.lend_min &&
            length <= disk->lend_max)
            return 0;
        return length;
    case NBD_CMD_WRITE:
        if (disk->pub.flags & ABD_DISK_INLINE && !disk->pub.data_alignment &&
            command->at_hand >= length)
            return 0;
        return length;
    case NBD_CMD_BLOCK_STATUS:
        if (command->header.flags & NBD_CMD_FLAG_REQ_ONE)
            return 0;
        return LIMIT_EXTENTS * sizeof(struct abd_extent);
    default:
        return 0;
    }
}

static enum memory_use use_of(const struct command *command)
{
    return command->header.type == NBD_CMD_WRITE ? MEMORY_WRITE : MEMORY_READ;
}

enum missing { MISSING_NOTHING, MISSING_REQUEST, MISSING_ROOM, MISSING_MEMORY };

static enum missing take_one(struct connection *connection)
{
    struct command *command = &connection->receive.command;
    uint64_t left = command->length - command->issued;
    uint64_t length = left;
    uint64_t size = 0;
    void *buffer = NULL;

    if (command->header.type == NBD_CMD_READ ||
        command->header.type == NBD_CMD_WRITE)
        length = left < connection->disk->transfer ? left
                                                   : connection->disk->transfer;
    if (!request_reserve(connection->worker, 1 + chain.children))
        return MISSING_REQUEST;
    if (!command->error && !lane_has_room(connection->lane)) {
        request_unreserve(connection->worker, 1 + chain.children);
        return MISSING_ROOM;
    }
    if (!command->error)
        size = buffer_for(connection, length);
    if (size && !memory_take(connection->worker->memory, use_of(command), &size,
                             1, &buffer)) {
        request_unreserve(connection->worker, 1 + chain.children);
        return MISSING_MEMORY;
    }
    command->part = make_part(connection, length, buffer, size);
    command->received = 0;
    return MISSING_NOTHING;
}

/* A READ that must be whole and is longer than the disk takes at once: all its
 * parts together. */
static enum missing take_whole(struct connection *connection, unsigned n)
{
    struct command *command = &connection->receive.command;
    uint64_t transfer = connection->disk->transfer;
    uint64_t sizes[LIMIT_PAYLOAD_PIECES];
    void *buffers[LIMIT_PAYLOAD_PIECES];
    unsigned requests = n * (1 + chain.children);
    unsigned wanted = 0;

    if (!request_reserve(connection->worker, requests))
        return MISSING_REQUEST;
    if (!lane_has_room(connection->lane)) {
        request_unreserve(connection->worker, requests);
        return MISSING_ROOM;
    }
    for (unsigned i = 0; i < n; i++) {
        uint64_t left = command->length - i * transfer;
        uint64_t size =
            buffer_for(connection, left < transfer ? left : transfer);

        if (size)
            sizes[wanted++] = size;
    }
    if (wanted && !memory_take(connection->worker->memory, MEMORY_READ, sizes,
                               wanted, buffers)) {
        request_unreserve(connection->worker, requests);
        return MISSING_MEMORY;
    }
    wanted = 0;
    for (unsigned i = 0; i < n; i++) {
        uint64_t left = command->length - command->issued;
        uint64_t length = left < transfer ? left : transfer;
        uint64_t size = buffer_for(connection, length);
        void *buffer = size ? buffers[wanted++] : NULL;
        struct request *part = make_part(connection, length, buffer, size);

        list_append(&command->job->all, &part->part.link);
        command->issued += length;
    }
    command->part = command->job->head;
    return MISSING_NOTHING;
}

static enum missing take(struct connection *connection)
{
    const struct command *command = &connection->receive.command;
    uint64_t transfer = connection->disk->transfer;

    if (!command->error && wants_whole(connection) &&
        command->length > transfer)
        return take_whole(connection,
                          (unsigned)((command->length - 1) / transfer + 1));
    return take_one(connection);
}

/* Queues the connection where it will hear of what it misses. */
static void wait_for(struct connection *connection, enum missing missing)
{
    if (missing == MISSING_REQUEST) {
        connection->receive.waits = RECEIVE_WAITS_REQUEST;
        list_append(&connection->worker->starved,
                    &connection->receive.room_link);
    } else if (missing == MISSING_ROOM) {
        connection->receive.waits = RECEIVE_WAITS_ROOM;
        list_append(&connection->lane->connections,
                    &connection->receive.room_link);
    } else {
        connection->receive.waits = RECEIVE_WAITS_MEMORY;
        memory_wait(connection->worker->memory,
                    &connection->receive.memory_waiter);
    }
}

/* The memory's queue has come to this connection. */
static bool on_memory(struct memory_waiter *waiter)
{
    struct connection *connection =
        container_of(waiter, struct connection, receive.memory_waiter);
    enum missing missing;

    /* What was received may lie elsewhere by now. */
    connection->receive.command.at_hand = 0;
    missing = take(connection);
    if (missing == MISSING_MEMORY)
        return false;
    if (missing == MISSING_NOTHING)
        transmission_resume(connection);
    else
        wait_for(connection, missing);
    return true;
}

bool command_take(struct connection *connection)
{
    struct command *command = &connection->receive.command;
    enum missing missing;

    if (command->part)
        return true;
    missing = take(connection);
    if (missing == MISSING_NOTHING)
        return true;
    connection->receive.memory_waiter.try = on_memory;
    connection->receive.memory_waiter.use = use_of(command);
    wait_for(connection, missing);
    return false;
}

/* --- submitting --- */

static void submit(struct connection *connection, struct request *part)
{
    part->part.job->parts++;
    list_append(&connection->parts, &part->part.link);
    border_enter(part, connection->disk);
}

static void submit_whole(struct connection *connection, struct job *job)
{
    struct list all, *link;

    list_init(&all);
    list_append_all(&all, &job->all);
    job->issued = true;
    while ((link = list_take_first(&all)))
        submit(connection, container_of(link, struct request, part.link));
}

/* Only what always completes before submit() returns may be given data that
 * lies in the receive buffer. */
static void check_inline(const struct request *part)
{
    if (atomic_load_explicit(&part->state, memory_order_relaxed) !=
        REQUEST_PLUGIN)
        return;
    log_write(ABD_ERROR, NULL,
              "%s: submit() of a disk with ABD_DISK_INLINE returned before the "
              "request was completed",
              part->last_owner);
    abort();
}

void command_submit(struct connection *connection, void *in_place)
{
    struct command *command = &connection->receive.command;
    struct request *part = command->part;
    struct job *job = command->job;

    command->part = NULL;
    if (command->issued == command->length && job->whole &&
        part->part.length < command->length) {
        command->state = COMMAND_NONE;
        command->job = NULL;
        submit_whole(connection, job);
        return;
    }
    command->issued += part->part.length;
    if (command->issued == command->length) {
        job->issued = true;
        command->state = COMMAND_NONE;
        command->job = NULL;
    } else if (job->type == NBD_CMD_WRITE && job->error) {
        command->state = COMMAND_DROP; /* nobody wants the rest */
        command->drop = command->length - command->issued;
    } else {
        command->state = COMMAND_ISSUE;
    }
    if (in_place)
        part->pub.data = in_place;
    submit(connection, part);
    if (in_place)
        check_inline(part);
}

void command_dropped(struct connection *connection)
{
    struct command *command = &connection->receive.command;
    struct job *job = command->job;

    if (!job) {
        command->state = COMMAND_ISSUE; /* the error is yet to be answered */
        return;
    }
    command->state = COMMAND_NONE;
    command->job = NULL;
    job->issued = true;
    if (job->parts == 0)
        job_answer(job);
}

void command_answer_error(struct connection *connection)
{
    struct command *command = &connection->receive.command;
    struct job *job = command->job;

    job->error = command->error;
    if (command->why)
        job->error_text = strdup(command->why);
    job->issued = true;
    job->whole = true; /* one reply, without chunks */
    command->part = NULL;
    command->job = NULL;
    command->state = COMMAND_NONE;
    job_answer(job);
}

void command_abandon(struct connection *connection)
{
    struct command *command = &connection->receive.command;
    struct job *job = command->job;
    struct request *part = command->part;

    if (connection->receive.waits == RECEIVE_WAITS_MEMORY)
        memory_wait_stop(connection->worker->memory,
                         &connection->receive.memory_waiter);
    list_remove(&connection->receive.room_link);
    command->state = COMMAND_NONE;
    command->part = NULL;
    command->job = NULL;
    if (!job)
        return;
    /* A part that was never submitted goes back now; whole ones are all in
     * job->all, the head among them, and end with the job. */
    if (part && part != job->head && !job->whole)
        part_free(part);
    job->error = ESHUTDOWN;
    job->issued = true;
    if (job->parts == 0) {
        assert(job->unsent == 0);
        job_end(job);
    }
}
