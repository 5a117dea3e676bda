/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Single bytes are no progress: who holds a MiB and sends a byte each second
 * would hold it for ever.  So in each window a client must move a part of what
 * it holds; how much that is does not depend on how fast others are. */
#include "server/stall.h"

#include "server/connection.h"
#include "server/request.h"
#include "server/worker.h"

#include "base/log.h"

/* Less than this need not be held to be expected to move. */
#define LEAST_HELD (UINT64_C(64) * 1024)

void pace_begin(struct pace *pace)
{
    pace->since_ns = abd_loop_now_ns();
    pace->moved = 0;
    pace->unsent = PACE_UNKNOWN;
}

/* Has less than its part been moved in a whole window?  Otherwise a new window
 * begins when one is over. */
static bool is_slow(struct pace *pace, uint64_t moved, uint64_t held)
{
    if (held < LEAST_HELD)
        held = LEAST_HELD;
    if (abd_loop_now_ns() - pace->since_ns < LIMIT_STALL_NS)
        return false;
    if (moved < held / LIMIT_STALL_PART)
        return true;
    pace_begin(pace);
    return false;
}

static bool is_inside_payload(const struct connection *connection)
{
    const struct command *command = &connection->receive.command;

    return command->state == COMMAND_RECEIVE ||
           command->state == COMMAND_DROP || command->state == COMMAND_PAYLOAD;
}

/* What the payload under way holds. */
static uint64_t payload_held(const struct connection *connection)
{
    const struct command *command = &connection->receive.command;

    return command->part ? command->part->part.buffer_size : 0;
}

/* What the replies hold that it is to read. */
static uint64_t replies_held(const struct connection *connection)
{
    uint64_t bytes = 0;

    list_for_each (link, &connection->send.queue)
        bytes += container_of(link, struct request, part.reply_link)
                     ->part.buffer_size;
    return bytes;
}

/* The socket takes more only when much of what it has is read, so what has been
 * read is what has left it, not what has come into it. */
static bool reads_slowly(struct connection *connection)
{
    struct pace *pace = &connection->send.pace;
    uint64_t unsent = stream_unsent(&connection->stream);
    uint64_t had = pace->moved + pace->unsent;
    bool slow = false;

    if (pace->unsent == PACE_UNKNOWN)
        pace_begin(pace);
    else
        slow = is_slow(pace, had > unsent ? had - unsent : 0,
                       replies_held(connection));
    if (pace->unsent == PACE_UNKNOWN) /* a new window */
        pace->unsent = unsent;
    return slow;
}

/* What it does wrong, or NULL. */
static const char *find_fault(struct connection *connection)
{
    struct pace *pace = &connection->receive.pace;

    if (connection->send.blocked && reads_slowly(connection))
        return "does not read its replies";
    if (is_inside_payload(connection) &&
        is_slow(pace, pace->moved, payload_held(connection)))
        return "stalls inside a payload";
    return NULL;
}

static void check(struct connection *connection, const char *why)
{
    const char *fault;

    if (connection->state != CONNECTION_TRANSMISSION)
        return;
    fault = find_fault(connection);
    if (!fault)
        return;
    log_write(ABD_WARNING, connection->address, "dropped: it %s, and %s", fault,
              why);
    connection_close(connection);
}

void stall_check(struct worker *worker)
{
    bool is_short =
        memory_is_short(worker->memory) || !list_is_empty(&worker->starved);

    if (!is_short && !worker->draining)
        return;
    list_for_each_safe (link, &worker->connections) {
        struct connection *connection =
            container_of(link, struct connection, link);

        if (worker->draining)
            check(connection, "the server ends");
        else if (connection->held || connection->requests_held)
            check(connection, "others wait for the memory that it holds");
    }
}
