/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Sending replies.  See reply.h. */
#include "server/reply.h"

#include "server/connection.h"
#include "server/emit.h"
#include "server/job.h"
#include "server/request.h"
#include "server/worker.h"

#include <errno.h>
#include <unistd.h>

/* More than a socket buffer takes at once is not worth collecting. */
#define COLLECT (1 * MIB)
/* What one connection may send before the others have their turn. */
#define TURN (4 * MIB)

static void want_to_send(struct connection *connection)
{
    if (!connection->send.blocked && !list_is_linked(&connection->send.link))
        list_append(&connection->worker->sending, &connection->send.link);
}

void reply_queue(struct connection *connection, struct request *part)
{
    part->part.job->unsent++;
    if (connection->broken) {
        part_sent(part);
        return;
    }
    if (part->part.job->type == NBD_CMD_BLOCK_STATUS && !part->part.job->error)
        emit_prepare_extents(connection, part);
    if (list_is_empty(&connection->send.queue))
        pace_begin(&connection->send.pace);
    list_append(&connection->send.queue, &part->part.reply_link);
    want_to_send(connection);
}

void reply_discard(struct connection *connection)
{
    struct list *link;

    list_remove(&connection->send.link);
    connection->send.sent = 0;
    while ((link = list_take_first(&connection->send.queue)))
        part_sent(container_of(link, struct request, part.reply_link));
}

/* n more bytes have left: replies that are complete are given back. */
static void advance(struct connection *connection, uint64_t n)
{
    connection->send.sent += n;
    connection->send.pace.moved += n;
    while (!list_is_empty(&connection->send.queue)) {
        struct request *part = container_of(connection->send.queue.next,
                                            struct request, part.reply_link);

        if (connection->send.sent < part->part.reply_length)
            return;
        connection->send.sent -= part->part.reply_length;
        list_remove(&part->part.reply_link);
        connection->worker->sent++;
        part_sent(part);
    }
}

static void collect(struct connection *connection, struct emitter *emitter)
{
    struct worker *worker = connection->worker;

    *emitter = (struct emitter){
        .iovecs = worker->iovecs,
        .heads = worker->heads,
        .skip = connection->send.sent,
    };
    list_for_each (link, &connection->send.queue) {
        emit_part(emitter, connection,
                  container_of(link, struct request, part.reply_link));
        if (emitter->full || emitter->bytes >= COLLECT)
            return;
    }
}

/* --- ranges of files --- */

/* A file has become shorter, or can't be read, since a range of it was lent.
 * With chunks the client gets zeroes and then an error; with a simple reply the
 * header has promised data, so there is nothing but to disconnect. */
static int on_file_failed(struct connection *connection,
                          const struct emitter *emitter, int error)
{
    struct request *part = container_of(connection->send.queue.next,
                                        struct request, part.reply_link);
    struct job *job = part->part.job;

    if (connection->negotiated.style == NBD_SIMPLE)
        return EPIPE;
    job_file_failed(job, part, emitter->fd, emitter->fd_offset, error);
    return 0;
}

/* Where the stream can't take a file (a pipe): through a small buffer. */
static int send_file_copied(struct connection *connection,
                            const struct emitter *emitter, size_t *ret_sent)
{
    uint8_t buf[16 * 1024];
    size_t size = emitter->fd_length < sizeof buf ? (size_t)emitter->fd_length
                                                  : sizeof buf;
    ssize_t got = pread(emitter->fd, buf, size, (off_t)emitter->fd_offset);
    struct iovec iovec = {buf, got > 0 ? (size_t)got : 0};

    *ret_sent = 0;
    if (got <= 0)
        return got < 0 ? EIO : 0;
    return stream_send(&connection->stream, &iovec, 1, false, ret_sent);
}

/* 0: something was sent, or the failure is dealt with. */
static int send_file(struct connection *connection,
                     const struct emitter *emitter, size_t *ret_sent)
{
    size_t sent = 0;
    int err;

    if (connection->stream.can_send_file)
        err = stream_send_file(&connection->stream, emitter->fd,
                               emitter->fd_offset, emitter->fd_length, false,
                               &sent);
    else
        err = send_file_copied(connection, emitter, &sent);
    if (err == EAGAIN)
        return EAGAIN;
    if (err == EPIPE || err == ECONNRESET)
        return err;
    if (err || sent == 0)
        return on_file_failed(connection, emitter, err ? err : EIO);
    *ret_sent = sent;
    advance(connection, sent);
    return 0;
}

/* --- the connection --- */

static void block(struct connection *connection)
{
    connection->send.blocked = true;
    connection_update_watches(connection);
}

/* Sends one batch; *ret_sent: its bytes.  EAGAIN: the socket is full. */
static int send_batch(struct connection *connection, size_t *ret_sent)
{
    struct emitter emitter;
    size_t sent = 0;
    int err;

    *ret_sent = 0;
    collect(connection, &emitter);
    if (emitter.n == 0)
        return send_file(connection, &emitter, ret_sent);
    err = stream_send(&connection->stream, emitter.iovecs, emitter.n,
                      emitter.file, &sent);
    if (err)
        return err;
    counter_add(&connection->worker->counters.sends, 1);
    *ret_sent = sent;
    advance(connection, sent);
    return sent < emitter.bytes ? EAGAIN : 0;
}

static void send_replies(struct connection *connection)
{
    uint64_t total = 0;

    while (!connection->broken && !list_is_empty(&connection->send.queue)) {
        size_t sent;
        int err = send_batch(connection, &sent);

        total += sent;
        if (err == EAGAIN) {
            if (!connection->broken)
                block(connection);
            return;
        }
        if (err) {
            connection_send_failed(connection);
            return;
        }
        if (total >= TURN) {
            want_to_send(connection);
            return;
        }
    }
}

unsigned reply_send_all(struct worker *worker)
{
    struct list batch, *link;

    worker->sent = 0;
    list_init(&batch);
    list_append_all(&batch, &worker->sending);
    while ((link = list_take_first(&batch)))
        send_replies(container_of(link, struct connection, send.link));
    return worker->sent;
}
