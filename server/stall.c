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

/* Has it moved less than its part in a whole window?  Otherwise a new window
 * begins when one is over. */
static bool is_slow(struct pace *pace, uint64_t held, uint64_t window_ns)
{
    if (held < LEAST_HELD)
        held = LEAST_HELD;
    if (abd_loop_now_ns() - pace->since_ns < window_ns)
        return false;
    if (pace->moved < held / LIMIT_STALL_PART)
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
static bool reads_slowly(struct connection *connection, uint64_t window_ns)
{
    struct pace *pace = &connection->send.pace;
    uint64_t unsent = stream_unsent(&connection->stream);
    uint64_t sent = pace->moved;
    bool slow;

    if (pace->unsent == PACE_UNKNOWN) {
        pace_begin(pace);
        pace->unsent = unsent;
        return false;
    }
    pace->moved =
        sent + pace->unsent > unsent ? sent + pace->unsent - unsent : 0;
    slow = is_slow(pace, replies_held(connection), window_ns);
    if (pace->unsent == PACE_UNKNOWN) /* a new window */
        pace->unsent = unsent;
    else
        pace->moved = sent;
    return slow;
}

/* What it does wrong, or NULL. */
static const char *find_fault(struct connection *connection, uint64_t window_ns)
{
    if (connection->send.blocked && reads_slowly(connection, window_ns))
        return "does not read its replies";
    if (is_inside_payload(connection) &&
        is_slow(&connection->receive.pace, payload_held(connection), window_ns))
        return "stalls inside a payload";
    return NULL;
}

static void check(struct connection *connection, uint64_t window_ns,
                  const char *why)
{
    const char *fault;

    if (connection->state != CONNECTION_TRANSMISSION)
        return;
    fault = find_fault(connection, window_ns);
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
            check(connection, LIMIT_STALL_NS, "the server ends");
        else if (connection->held || connection->requests_held)
            check(connection, LIMIT_STALL_NS,
                  "others wait for the memory that it holds");
    }
}
