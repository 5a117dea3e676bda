/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The transmission phase: receiving commands.  See transmission.h. */
#include "server/transmission.h"

#include "server/border.h"
#include "server/connection.h"
#include "server/job.h"
#include "server/request.h"
#include "server/worker.h"

#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* Bytes that have been received and are to be parsed. */
struct cursor {
    uint8_t *at, *end;
};

static size_t left_in(const struct cursor *cursor)
{
    return (size_t)(cursor->end - cursor->at);
}

static unsigned header_size(const struct connection *connection)
{
    return connection->negotiated.style == NBD_EXTENDED
               ? NBD_EXTENDED_REQUEST_SIZE
               : NBD_REQUEST_SIZE;
}

/* Copies up to n bytes; returns how many there were. */
static size_t take_bytes(struct cursor *cursor, void *to, uint64_t n)
{
    size_t taken = left_in(cursor);

    if (taken > n)
        taken = (size_t)n;
    if (taken == 0)
        return 0; /* there may be no bytes to point to */
    memcpy(to, cursor->at, taken);
    cursor->at += taken;
    return taken;
}

/* NBD_CMD_DISC, or the end of the stream: nothing more is received, and what is
 * under way is carried out and answered. */
static void finish(struct connection *connection)
{
    connection->disconnecting = true;
    connection->receive.stopped = true;
    connection_update_watches(connection);
    if (connection->jobs == 0)
        connection_close(connection);
}

/* --- one step of parsing; false: it can't go on now --- */

static bool step_header(struct connection *connection, struct cursor *cursor)
{
    unsigned size = header_size(connection);
    const uint8_t *from = cursor->at;
    struct nbd_request header;

    if (connection->receive.head_n > 0 || left_in(cursor) < size) {
        connection->receive.head_n += (unsigned)take_bytes(
            cursor, connection->receive.head + connection->receive.head_n,
            size - connection->receive.head_n);
        if (connection->receive.head_n < size)
            return false;
        from = connection->receive.head;
        connection->receive.head_n = 0;
    } else {
        cursor->at += size;
    }
    if (!nbd_request_decode(from, size == NBD_EXTENDED_REQUEST_SIZE, &header)) {
        log_write(ABD_DEBUG, connection->address,
                  "wrong magic 0x%08x in a request: disconnecting",
                  load_be32(from));
        connection_close(connection);
        return false;
    }
    if (header.type == NBD_CMD_DISC) {
        cursor->at = cursor->end;
        finish(connection);
        return false;
    }
    /* The next header lies behind the payload, and would be waited for. */
    if (header.type == NBD_CMD_WRITE && header.length < left_in(cursor))
        __builtin_prefetch(cursor->at + header.length);
    if (!command_begin(connection, &header)) {
        log_write(ABD_DEBUG, connection->address,
                  "a payload of %llu bytes is too long: disconnecting",
                  (unsigned long long)header.length);
        connection_close(connection);
        return false;
    }
    return true;
}

static bool step_issue(struct connection *connection, struct cursor *cursor)
{
    struct command *command = &connection->receive.command;
    uint64_t length;

    command->at_hand = left_in(cursor);
    if (!command_take(connection))
        return false;
    if (command->error) {
        command_answer_error(connection);
        return true;
    }
    if (command->header.type != NBD_CMD_WRITE) {
        command_submit(connection, NULL);
        return true;
    }
    if (command->part->part.buffer) {
        command->state = COMMAND_RECEIVE;
        pace_begin(&connection->receive.pace);
        return true;
    }
    length = command->part->part.length;
    cursor->at += length;
    command_submit(connection, cursor->at - length);
    return true;
}

static bool step_receive(struct connection *connection, struct cursor *cursor)
{
    struct command *command = &connection->receive.command;
    const struct part *part = &command->part->part;

    command->received +=
        take_bytes(cursor, (char *)part->buffer + command->received,
                   part->length - command->received);
    if (command->received < part->length)
        return false;
    command_submit(connection, NULL);
    return true;
}

static bool step_payload(struct connection *connection, struct cursor *cursor)
{
    struct command *command = &connection->receive.command;
    uint64_t length = command->header.length;

    command->payload_n +=
        (unsigned)take_bytes(cursor, command->payload + command->payload_n,
                             length - command->payload_n);
    if (command->payload_n < length)
        return false;
    command_payload_complete(connection);
    return true;
}

static bool step_drop(struct connection *connection, struct cursor *cursor)
{
    struct command *command = &connection->receive.command;
    size_t n = left_in(cursor);

    if (n > command->drop)
        n = (size_t)command->drop;
    cursor->at += n;
    command->drop -= n;
    if (command->drop)
        return false;
    command_dropped(connection);
    return true;
}

static bool step(struct connection *connection, struct cursor *cursor)
{
    switch (connection->receive.command.state) {
    case COMMAND_NONE:
        return step_header(connection, cursor);
    case COMMAND_ISSUE:
        return step_issue(connection, cursor);
    case COMMAND_RECEIVE:
        return step_receive(connection, cursor);
    case COMMAND_PAYLOAD:
        return step_payload(connection, cursor);
    default:
        return step_drop(connection, cursor);
    }
}

/* A client that does not read its replies is not read from either, past a
 * number that lets others go on. */
static bool must_wait_for_replies(struct connection *connection)
{
    unsigned limit =
        connection->send.blocked ? LIMIT_UNREAD_REPLIES : LIMIT_REQUESTS;

    if (connection->receive.command.state != COMMAND_NONE ||
        connection->jobs < limit)
        return false;
    connection->receive.waits = RECEIVE_WAITS_REPLIES;
    return true;
}

static void be_ready(struct connection *connection)
{
    if (!list_is_linked(&connection->receive.ready_link))
        list_append(&connection->worker->ready,
                    &connection->receive.ready_link);
}

static void parse(struct connection *connection, struct cursor *cursor)
{
    uint64_t held = connection->held;
    unsigned batch = 0;

    for (;;) {
        enum command_state state = connection->receive.command.state;

        if (state == COMMAND_NONE) {
            if ((cursor->at == cursor->end &&
                 connection->receive.head_n < header_size(connection)) ||
                must_wait_for_replies(connection))
                return;
            if (++batch > LIMIT_BATCH ||
                connection->held > held + LIMIT_BATCH_BYTES) {
                be_ready(connection); /* the others first */
                return;
            }
        }
        if (!step(connection, cursor))
            return;
        if (connection->receive.stopped)
            return;
    }
}

/* --- the receive buffer: the worker's, or held by a connection --- */

static void keep_rest(struct connection *connection,
                      const struct cursor *cursor)
{
    struct worker *worker = connection->worker;

    if (cursor->at == cursor->end || connection->receive.stopped)
        return;
    if (!worker->receive_buffer) { /* what was received alone: a header */
        assert(connection->receive.command.state == COMMAND_NONE);
        memcpy(connection->receive.head, cursor->at, left_in(cursor));
        connection->receive.head_n = (unsigned)left_in(cursor);
        return;
    }
    connection->receive.buffer = worker->receive_buffer;
    connection->receive.start = (unsigned)(cursor->at - worker->receive_buffer);
    connection->receive.end = (unsigned)(cursor->end - worker->receive_buffer);
    worker->receive_buffer = worker_take_receive_buffer(worker);
}

static void give_back_rest(struct connection *connection)
{
    struct worker *worker = connection->worker;

    if (!connection->receive.buffer)
        return;
    if (worker->receive_buffer)
        worker_give_receive_buffer(worker, connection->receive.buffer);
    else
        worker->receive_buffer = connection->receive.buffer;
    connection->receive.buffer = NULL;
}

static void parse_rest(struct connection *connection)
{
    struct cursor cursor = {
        connection->receive.buffer + connection->receive.start,
        connection->receive.buffer + connection->receive.end,
    };

    parse(connection, &cursor);
    /* After NBD_CMD_DISC nobody reads what may have come behind it. */
    if (connection->receive.stopped || cursor.at == cursor.end)
        give_back_rest(connection);
    else
        connection->receive.start =
            (unsigned)(cursor.at - connection->receive.buffer);
}

/* --- receiving --- */

static void on_end_of_stream(struct connection *connection, bool error)
{
    bool between = connection->receive.command.state == COMMAND_NONE &&
                   connection->receive.head_n == 0;

    log_write(ABD_DEBUG, connection->address,
              "the client has gone without NBD_CMD_DISC");
    /* Half closed: it may still read.  Closed: nobody waits for answers. */
    if (between && !error)
        finish(connection);
    else
        connection_close(connection);
}

/* Where the next bytes go.  Without a receive buffer (connections that wait
 * hold them all) exactly what the command needs is received, and nothing else.
 */
static unsigned choose_places(struct connection *connection,
                              struct iovec places[2], uint8_t *spill,
                              size_t spill_size)
{
    struct worker *worker = connection->worker;
    struct command *command = &connection->receive.command;
    unsigned n = 0;

    if (command->state == COMMAND_RECEIVE) {
        const struct part *part = &command->part->part;

        places[n].iov_base = (char *)part->buffer + command->received;
        places[n++].iov_len = part->length - command->received;
    }
    if (worker->receive_buffer) {
        places[n].iov_base = worker->receive_buffer;
        places[n++].iov_len = worker->receive_size;
    } else if (n == 0) {
        size_t size = header_size(connection) - connection->receive.head_n;

        if (command->state == COMMAND_PAYLOAD)
            size = command->header.length - command->payload_n;
        else if (command->state == COMMAND_DROP)
            size = command->drop;
        places[n].iov_base = spill;
        places[n++].iov_len = size < spill_size ? size : spill_size;
    }
    return n;
}

/* The bytes that went straight to the payload's place are accounted for; what
 * is left lies in the second place. */
static size_t account_payload(struct connection *connection, size_t got,
                              const struct iovec *place)
{
    struct command *command = &connection->receive.command;
    size_t n = got < place->iov_len ? got : place->iov_len;

    command->received += n;
    if (command->received == command->part->part.length)
        command_submit(connection, NULL);
    return got - n;
}

static void receive(struct connection *connection, bool error)
{
    struct worker *worker = connection->worker;
    struct iovec places[2];
    uint8_t spill[4096];
    unsigned n = choose_places(connection, places, spill, sizeof spill);
    struct cursor cursor;
    size_t got = 0;
    int err = stream_receive(&connection->stream, places, n, &got);

    if (err == EAGAIN)
        return;
    if (err || got == 0) {
        on_end_of_stream(connection, error || err);
        return;
    }
    counter_add(&worker->counters.receives, 1);
    connection->receive.pace.moved += got;
    cursor.at = places[n - 1].iov_base;
    if (connection->receive.command.state == COMMAND_RECEIVE)
        got = account_payload(connection, got, &places[0]);
    cursor.end = cursor.at + got;
    parse(connection, &cursor);
    if (connection->receive.stopped)
        return;
    keep_rest(connection, &cursor);
}

void transmission_on_writable(void *arg, uint32_t ready)
{
    (void)ready; /* an error is found by sending */
    transmission_on_ready(arg, ABD_WRITABLE);
}

void transmission_on_ready(void *arg, uint32_t ready)
{
    struct connection *connection = arg;

    /* Who is gone is met by sending, too. */
    if (ready & ABD_WRITABLE ||
        (ready & ABD_EVENT_ERROR && connection->send.blocked)) {
        /* The watch stays as it is until it is seen not to be wanted: a socket
         * that was full once is full again soon. */
        if (!connection->send.blocked)
            connection_update_watches(connection);
        connection->send.blocked = false;
        if (!list_is_linked(&connection->send.link))
            list_append(&connection->worker->sending, &connection->send.link);
    }
    if (!(ready & (ABD_READABLE | ABD_EVENT_ERROR)) ||
        connection->receive.stopped)
        return;
    if (list_is_linked(&connection->receive.ready_link))
        return; /* it goes on with what it has in this turn, and then reads */
    if (connection->receive.waits != RECEIVE_READY ||
        connection->receive.buffer) {
        /* Not now.  Who hangs up with so many requests unanswered does not
         * wait for them.  Otherwise what it has sent still counts (it may
         * end with NBD_CMD_DISC); that is not watched until it is read, or the
         * hang-up would be reported over and over. */
        connection->receive.hung_up |= (ready & ABD_EVENT_ERROR) != 0;
        if (connection->receive.hung_up &&
            (connection->receive.waits == RECEIVE_WAITS_ROOM ||
             connection->receive.waits == RECEIVE_WAITS_REPLIES))
            connection_close(connection);
        else
            connection_update_watches(connection);
        return;
    }
    /* The other end of a pipe may close it, and read answers from another. */
    receive(connection,
            ready & ABD_EVENT_ERROR && connection->stream.in_socket);
}

void transmission_begin(struct connection *connection)
{
    connection_update_watches(connection);
    if (connection->receive.always)
        be_ready(connection);
}

void transmission_stop(struct connection *connection)
{
    connection->receive.stopped = true;
    command_abandon(connection);
    give_back_rest(connection);
    list_remove(&connection->receive.ready_link);
    list_remove(&connection->receive.room_link);
    list_remove(&connection->receive.request_waiter.link);
    connection->receive.waits = RECEIVE_READY;
    /* It may have been told of something that others wait for, too. */
    lane_offer_room(connection->lane);
    request_feed(connection->worker);
}

void transmission_resume(struct connection *connection)
{
    list_remove(&connection->receive.room_link);
    connection->receive.waits = RECEIVE_READY;
    be_ready(connection);
}

/* It has waited, or had its turn: on with what it has, then with the socket. */
static void go_on(struct connection *connection)
{
    if (connection->receive.stopped ||
        connection->receive.waits != RECEIVE_READY)
        return;
    if (connection->receive.buffer) {
        parse_rest(connection);
    } else if (connection->receive.command.state == COMMAND_ISSUE ||
               connection->receive.head_n == header_size(connection)) {
        struct cursor none = {NULL, NULL};

        parse(connection, &none);
    } else if (connection->receive.always) {
        receive(connection, false);
    }
    if (connection->receive.stopped ||
        connection->receive.waits != RECEIVE_READY)
        return;
    if (connection->receive.always)
        be_ready(connection);
    else
        connection_update_watches(connection);
}

void transmission_run_ready(struct worker *worker)
{
    struct list batch, *link;

    list_init(&batch);
    list_append_all(&batch, &worker->ready);
    while ((link = list_take_first(&batch))) {
        struct connection *connection =
            container_of(link, struct connection, receive.ready_link);
        struct lane *lane = connection->lane;

        go_on(connection);
        lane_offer_room(lane);
    }
}
