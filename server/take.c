/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the next part of a command needs: requests, room in the disk, memory.
 *
 * All of it is taken in one step.  Nobody holds one of them while waiting for
 * another, so nobody can wait for ever; and who must wait stands in a queue
 * that is served in turn. */
#include "server/job.h"

#include "server/border.h"
#include "server/connection.h"
#include "server/disk.h"
#include "server/layer.h"
#include "server/request.h"
#include "server/settings.h"
#include "server/transmission.h"
#include "server/worker.h"

#include <errno.h>

/* Must the whole of it be there before the first byte is sent? */
static bool wants_whole(const struct connection *connection)
{
    const struct command *command = &connection->receive.command;

    return command->header.type == NBD_CMD_READ &&
           (connection->negotiated.style == NBD_SIMPLE ||
            command->header.flags & NBD_CMD_FLAG_DF);
}

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

    /* As in command.c: one by one is quicker. */
    job->connection = connection;
    job->head = head;
    job->cookie = command->header.cookie;
    job->offset = command->header.offset;
    job->length = command->length;
    job->type = command->header.type;
    job->flags = command->header.flags;
    job->whole = wants_whole(connection);
    job->file_failed = job->issued = false;
    job->parts = job->unsent = 0;
    list_init(&job->all);
    job->started_ns = abd_loop_now_ns();
    job->error = 0;
    job->error_at = ABD_NO_OFFSET;
    job->error_text = NULL;
    connection->jobs++;
    connection->worker->jobs++;
}

/* A part for the next length bytes of the command. */
static struct request *make_part(struct connection *connection, uint64_t length,
                                 void *buffer, uint64_t buffer_size)
{
    struct command *command = &connection->receive.command;
    struct request *part = request_take(connection->worker, part_ended);

    connection->requests_held++;
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
        if (disk->takes_received && command->at_hand >= length)
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

/* A long READ has its place among the writes (if it could ever be served
 * there), so that it does not hold up small reads. */
static enum memory_use choose_use(const struct connection *connection,
                                  const uint64_t *sizes, unsigned n)
{
    const struct command *command = &connection->receive.command;

    if (command->header.type == NBD_CMD_WRITE ||
        (command->length > settings.memory / 16 &&
         memory_fits(connection->worker->memory, MEMORY_WRITE, sizes, n)))
        return MEMORY_WRITE;
    return MEMORY_READ;
}

/* Reserves n requests, each with what filters may need for it.  While others
 * wait for theirs, only who was told that it is its turn gets any. */
static bool reserve(struct connection *connection, unsigned n)
{
    struct worker *worker = connection->worker;
    unsigned requests = n * request_unit();

    connection->receive.request_waiter.wanted = requests;
    if (!list_is_empty(&worker->starved) && !connection->receive.fed)
        return false;
    connection->receive.fed = false;
    return request_reserve(worker, requests);
}

enum missing {
    MISSING_NOTHING,
    MISSING_REQUEST,
    MISSING_ROOM,
    MISSING_MEMORY,
    MISSING_REPLIES, /* the client must take some of its own first */
};

/* May this client have so much more?  Who does not read its replies is held to
 * a small part of the memory; and while others wait, nobody gets more than half
 * of what is free.  One who is refused holds something, so it is asked again
 * when that comes back.  Who holds nothing is never refused. */
static bool may_hold(const struct connection *connection, uint64_t cost)
{
    const struct memory *memory = connection->worker->memory;
    uint64_t held = connection->held;

    if (cost == 0 && list_is_empty(&connection->worker->starved))
        return true;
    if (!list_is_empty(&connection->worker->starved) &&
        connection->requests_held >= LIMIT_REQUESTS_WHEN_SHORT)
        return false;
    if (held == 0 || cost == 0)
        return true;
    if (connection->send.blocked &&
        held + cost > settings.memory / LIMIT_UNREAD_PART)
        return false;
    return !memory_is_short(memory) ||
           held + cost <= memory_free_bytes(memory) / 2;
}

/* Takes buffers, all or none.  True also if there can never be enough (what is
 * charged to the arena grows): the command then has an error, and no buffers.
 */
static bool take_memory(struct connection *connection, const uint64_t *sizes,
                        unsigned n, void **ret_buffers)
{
    struct command *command = &connection->receive.command;
    struct memory *memory = connection->worker->memory;

    command->use = choose_use(connection, sizes, n);
    if (memory_take(memory, command->use, sizes, n, ret_buffers))
        return true;
    if (memory_fits(memory, command->use, sizes, n))
        return false;
    command->error = ENOMEM;
    command->why = "it needs more memory than --memory allows";
    for (unsigned i = 0; i < n; i++)
        ret_buffers[i] = NULL;
    return true;
}

/* Reserves for the next part of a command that is cut as it comes.
 *
 * Such a command holds its first request until the end (the job lies there), so
 * it must never queue for another: a few of them would hold all there are, and
 * wait for each other.  It begins with two, and keeps the second until it is
 * the last part's: a part that has ended gives its own back to the command
 * (job.c), and until then there is nothing to wait for but that. */
static enum missing reserve_next(struct connection *connection, bool last)
{
    struct command *command = &connection->receive.command;
    struct worker *worker = connection->worker;

    if (!command->job) {
        if (!reserve(connection, last ? 1 : REQUEST_UNITS_MIN))
            return MISSING_REQUEST;
        command->spare = !last;
        return MISSING_NOTHING;
    }
    if (!(last && command->spare) && list_is_empty(&worker->starved) &&
        request_reserve(worker, request_unit()))
        return MISSING_NOTHING;
    if (!command->spare)
        return MISSING_REPLIES;
    command->spare = false;
    return MISSING_NOTHING;
}

/* The part was not made after all. */
static void unreserve_next(struct connection *connection)
{
    struct command *command = &connection->receive.command;

    if (command->job && !command->spare) {
        command->spare = true;
        return;
    }
    if (!command->job)
        command_release_spare(connection);
    request_unreserve(connection->worker, request_unit());
}

void command_release_spare(struct connection *connection)
{
    struct command *command = &connection->receive.command;

    if (!command->spare)
        return;
    command->spare = false;
    request_unreserve(connection->worker, request_unit());
}

static enum missing take_one(struct connection *connection)
{
    struct command *command = &connection->receive.command;
    uint64_t left = command->length - command->issued;
    uint64_t length = left;
    uint64_t size = 0;
    void *buffer = NULL;
    enum missing missing;

    if (command->header.type == NBD_CMD_READ ||
        command->header.type == NBD_CMD_WRITE)
        length = left < connection->disk->transfer ? left
                                                   : connection->disk->transfer;
    missing = reserve_next(connection, command->error || length == left);
    if (missing != MISSING_NOTHING)
        return missing;
    if (!command->error)
        size = buffer_for(connection, length);
    if (!command->error && !lane_has_room(connection->lane))
        missing = MISSING_ROOM;
    else if (!may_hold(connection, size ? memory_cost(size) : 0))
        missing = MISSING_REPLIES;
    else if (size && !take_memory(connection, &size, 1, &buffer))
        missing = MISSING_MEMORY;
    if (missing != MISSING_NOTHING) {
        unreserve_next(connection);
        return missing;
    }
    command->part = make_part(connection, length, buffer, buffer ? size : 0);
    command->received = 0;
    return MISSING_NOTHING;
}

/* The buffers of a READ that must be whole: each serves as many parts as fit in
 * a MiB (or one), so that there are few of them. */
struct whole {
    uint64_t sizes[MEMORY_TAKE_MAX];
    void *buffers[MEMORY_TAKE_MAX];
    unsigned n;
    uint64_t cost;
};

/* The length of the part that begins at this place.  Parts are powers of 2, so
 * that they fill their buffers. */
static uint64_t part_length(const struct connection *connection, uint64_t at)
{
    uint64_t left = connection->receive.command.length - at;
    uint64_t piece = connection->disk->piece;

    return left < piece ? left : piece;
}

/* Does the part at this place begin a buffer?  filled: bytes in the last one.
 */
static bool begins_buffer(const struct whole *whole, uint64_t filled,
                          uint64_t size)
{
    return whole->n == 0 || filled == 0 || filled + size > MIB;
}

static void plan_whole(const struct connection *connection, struct whole *whole)
{
    uint64_t filled = 0, length;

    whole->n = 0;
    whole->cost = 0;
    for (uint64_t at = 0; at < connection->receive.command.length;
         at += length) {
        uint64_t size;

        length = part_length(connection, at);
        size = buffer_for(connection, length);
        if (size == 0)
            continue;
        if (begins_buffer(whole, filled, size)) {
            whole->sizes[whole->n++] = 0;
            filled = 0;
        }
        whole->sizes[whole->n - 1] += size;
        filled += size;
    }
    for (unsigned i = 0; i < whole->n; i++)
        whole->cost += memory_cost(whole->sizes[i]);
}

static void make_whole(struct connection *connection, const struct whole *whole)
{
    struct command *command = &connection->receive.command;
    struct whole placed = {.n = 0};
    uint64_t filled = 0;

    while (command->issued < command->length) {
        uint64_t length = part_length(connection, command->issued);
        uint64_t size = buffer_for(connection, length);
        struct request *part;

        if (size && begins_buffer(&placed, filled, size)) {
            unsigned i = placed.n++;

            part = make_part(connection, length, whole->buffers[i],
                             whole->sizes[i]);
            filled = size;
        } else {
            part = make_part(connection, length, NULL, 0);
            if (size) /* the buffer is that of a part before it */
                part->pub.data = (char *)whole->buffers[placed.n - 1] + filled;
            filled += size;
        }
        list_append(&command->job->all, &part->part.link);
        command->issued += length;
    }
}

/* A READ that must be whole and is longer than the disk takes at once: all its
 * parts together. */
static enum missing take_whole(struct connection *connection, unsigned n)
{
    struct command *command = &connection->receive.command;
    unsigned requests = n * request_unit();
    enum missing missing = MISSING_NOTHING;
    struct whole whole;

    if (!reserve(connection, n))
        return MISSING_REQUEST;
    plan_whole(connection, &whole);
    if (!may_hold(connection, whole.cost))
        missing = MISSING_REPLIES;
    else if (!lane_has_room(connection->lane))
        missing = MISSING_ROOM;
    else if (whole.n &&
             !take_memory(connection, whole.sizes, whole.n, whole.buffers))
        missing = MISSING_MEMORY;
    if (missing != MISSING_NOTHING) {
        request_unreserve(connection->worker, requests);
        return missing;
    }
    if (command->error) {
        /* take_memory() found that there will never be enough */
        request_unreserve(connection->worker, requests - request_unit());
        command->part = make_part(connection, command->length, NULL, 0);
        return MISSING_NOTHING;
    }
    make_whole(connection, &whole);
    command->part = command->job->head;
    return MISSING_NOTHING;
}

static enum missing take(struct connection *connection)
{
    struct command *command = &connection->receive.command;
    uint64_t piece = connection->disk->piece;
    uint64_t parts = (command->length - 1) / piece + 1;

    if (command->error || !wants_whole(connection) ||
        command->length <= connection->disk->transfer)
        return take_one(connection);
    if (parts > request_pool_max(connection->worker) / request_unit()) {
        command->error = ENOMEM;
        command->why = "it needs more requests than --memory allows";
        return take_one(connection);
    }
    return take_whole(connection, (unsigned)parts);
}

/* Queues the connection where it will hear of what it misses. */
static void wait_for(struct connection *connection, enum missing missing)
{
    if (missing == MISSING_REQUEST) {
        connection->receive.waits = RECEIVE_WAITS_REQUEST;
        request_wait(connection->worker, &connection->receive.request_waiter);
    } else if (missing == MISSING_ROOM) {
        connection->receive.waits = RECEIVE_WAITS_ROOM;
        list_append(&connection->lane->connections,
                    &connection->receive.room_link);
    } else if (missing == MISSING_REPLIES) {
        connection->receive.waits = RECEIVE_WAITS_REPLIES;
    } else {
        connection->receive.waits = RECEIVE_WAITS_MEMORY;
        memory_wait(connection->worker->memory,
                    &connection->receive.memory_waiter);
    }
}

/* The pool's queue has. */
static void on_requests(struct request_waiter *waiter)
{
    struct connection *connection =
        container_of(waiter, struct connection, receive.request_waiter);

    connection->receive.fed = true;
    transmission_resume(connection);
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
    connection->receive.request_waiter.fed = on_requests;
    connection->receive.memory_waiter.try = on_memory;
    connection->receive.memory_waiter.use = command->use;
    wait_for(connection, missing);
    return false;
}
