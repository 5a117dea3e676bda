/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* One client, from accept to close.  See connection.h. */
#include "server/connection.h"

#include "server/handshake.h"
#include "server/listener.h"
#include "server/reply.h"
#include "server/request.h"
#include "server/server.h"
#include "server/transmission.h"
#include "server/worker.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static _Atomic uint64_t next_id = 1;

/* --- beginning --- */

static void enter(struct connection *connection, struct worker *worker)
{
    connection->worker = worker;
    list_append(&worker->connections, &connection->link);
    atomic_fetch_add_explicit(&worker->connections_n, 1, memory_order_relaxed);
}

static void leave(struct connection *connection)
{
    list_remove(&connection->link);
    atomic_fetch_sub_explicit(&connection->worker->connections_n, 1,
                              memory_order_relaxed);
}

static void on_created(struct loop_message *message)
{
    struct connection *connection =
        container_of(message, struct connection, message);

    enter(connection, connection->worker);
    connection->since_ns = abd_loop_now_ns();
    counter_add(&connection->worker->counters.connections_accepted, 1);
    handshake_begin(connection);
}

static void identify(struct connection *connection)
{
    struct ucred peer;
    socklen_t size = sizeof peer;

    connection->client.pid = connection->client.uid = connection->client.gid =
        -1;
    if (connection->stream.in_socket &&
        getsockopt(connection->stream.in, SOL_SOCKET, SO_PEERCRED, &peer,
                   &size) == 0 &&
        peer.pid > 0) {
        connection->client.pid = peer.pid;
        connection->client.uid = peer.uid;
        connection->client.gid = peer.gid;
    }
}

int connection_create(struct worker *worker, int in, int out,
                      const char *address)
{
    struct connection *connection = calloc(1, sizeof *connection);
    struct stream stream;
    int err = stream_init(&stream, in, out);

    if (!connection || err) {
        if (!err)
            stream_finish(&stream);
        free(connection);
        return err ? err : ENOMEM;
    }
    connection->worker = worker;
    connection->stream = stream;
    connection->state = CONNECTION_HANDSHAKE;
    snprintf(connection->address, sizeof connection->address, "%s", address);
    connection->client.id =
        atomic_fetch_add_explicit(&next_id, 1, memory_order_relaxed);
    connection->client.address = connection->address;
    identify(connection);
    list_init(&connection->send.queue);
    list_init(&connection->parts);
    registry_add(connection);
    atomic_store(&connection->home, worker->loop);
    connection->message.fn = on_created;
    loop_send(worker->loop, &connection->message);
    return 0;
}

static void on_moved(struct loop_message *message)
{
    struct connection *connection =
        container_of(message, struct connection, message);

    enter(connection, connection->worker);
    atomic_store(&connection->moving, false);
    connection->arrived(connection);
}

void connection_move(struct connection *connection, struct worker *to,
                     void (*arrived)(struct connection *connection))
{
    assert(connection->state == CONNECTION_HANDSHAKE && connection->jobs == 0);
    leave(connection);
    atomic_store(&connection->moving, true);
    atomic_store(&connection->home, to->loop);
    connection->worker = to;
    connection->arrived = arrived;
    connection->message.fn = on_moved;
    loop_send(to->loop, &connection->message);
}

void connection_begin_transmission(struct connection *connection)
{
    assert(connection->state == CONNECTION_HANDSHAKE);
    assert(connection->disk && connection->lane && connection->admitted);
    connection->state = CONNECTION_TRANSMISSION;
    registry_served(connection);
    transmission_begin(connection);
    if (connection->worker->draining)
        connection_drain(connection);
}

/* --- watching --- */

/* Beside enum abd_event: nothing is asked for, but a hang-up is reported. */
#define WATCH_HANG_UP 0x100

static void watch(struct connection *connection, struct abd_watch *watch,
                  int fd, uint32_t *now, uint32_t wanted)
{
    int err = 0;

    if (*now == wanted)
        return;
    if (wanted == 0)
        abd_watch_stop(watch);
    else if (*now == 0)
        err = abd_watch_start(watch, fd, wanted & ~(uint32_t)WATCH_HANG_UP,
                              watch == &connection->out_watch
                                  ? transmission_on_writable
                                  : transmission_on_ready,
                              connection);
    else
        err = abd_watch_change(watch, wanted & ~(uint32_t)WATCH_HANG_UP);
    *now = wanted;
    if (err == EPERM) { /* a regular file: always ready */
        *now = 0;
        connection->receive.always |= watch == &connection->in_watch;
    } else if (err) {
        *now = 0;
        connection_close(connection);
    }
}

void connection_update_watches(struct connection *connection)
{
    bool may_read = !connection->receive.stopped && !connection->receive.always;
    uint32_t in = 0, out = 0;

    if (connection->state != CONNECTION_TRANSMISSION)
        return;
    if (may_read && connection->receive.waits == RECEIVE_READY &&
        !connection->receive.buffer)
        in = ABD_READABLE;
    else if (may_read && !connection->receive.hung_up)
        in = WATCH_HANG_UP;
    if (connection->send.blocked && !connection->broken)
        out = ABD_WRITABLE;
    if (connection->stream.in == connection->stream.out) {
        watch(connection, &connection->in_watch, connection->stream.in,
              &connection->in_events, in | out);
        return;
    }
    watch(connection, &connection->in_watch, connection->stream.in,
          &connection->in_events, in);
    watch(connection, &connection->out_watch, connection->stream.out,
          &connection->out_events, out);
}

static void stop_watches(struct connection *connection)
{
    if (connection->in_events)
        abd_watch_stop(&connection->in_watch);
    if (connection->out_events)
        abd_watch_stop(&connection->out_watch);
    connection->in_events = connection->out_events = 0;
}

/* --- ending --- */

static void on_gone(struct loop_message *message)
{
    struct connection *connection =
        container_of(message, struct connection, message);

    leave(connection);
    registry_remove(connection);
    if (registry_count() == 0)
        server_notify_last_left();
    free(connection);
}

/* The last step is a message of its own, since whoever noticed the end may
 * still be inside the connection. */
static void vanish(struct connection *connection)
{
    connection->message.fn = on_gone;
    loop_send(connection->worker->loop, &connection->message);
}

static void on_put(struct loop_message *message)
{
    vanish(container_of(message, struct connection, put.message));
}

void connection_check_end(struct connection *connection)
{
    if (connection->state != CONNECTION_ENDING || connection->jobs > 0 ||
        connection->ending)
        return;
    if (connection->handshake && !handshake_stop(connection))
        return;
    if (atomic_load_explicit(&connection->disconnect_asked,
                             memory_order_acquire) &&
        !connection->disconnect_arrived)
        return;
    connection->ending = true;
    if (connection->admitted)
        disk_leave(connection->disk, &connection->client);
    connection->admitted = false;
    if (!connection->disk) {
        vanish(connection);
        return;
    }
    connection->put.loop = connection->worker->loop;
    connection->put.message.fn = on_put;
    disk_put(connection->disk, &connection->put);
    connection->disk = NULL;
}

static void end(struct connection *connection, bool cancel)
{
    bool was_transmission = connection->state == CONNECTION_TRANSMISSION;

    connection->state = CONNECTION_ENDING;
    connection->broken = true;
    if (was_transmission) {
        stop_watches(connection);
        reply_discard(connection);
        transmission_stop(connection);
        if (cancel) {
            list_for_each_safe (link, &connection->parts)
                request_cancel(container_of(link, struct request, part.link));
        }
    } else if (connection->handshake) {
        handshake_stop(connection);
    }
    stream_finish(&connection->stream);
    connection_check_end(connection);
}

void connection_close(struct connection *connection)
{
    if (connection->state != CONNECTION_ENDING)
        end(connection, true);
}

void connection_send_failed(struct connection *connection)
{
    /* After NBD_CMD_DISC the client does not wait, but its commands count. */
    if (connection->state != CONNECTION_ENDING)
        end(connection, !connection->disconnecting);
}

void connection_job_ended(struct connection *connection)
{
    if (connection->state == CONNECTION_ENDING) {
        connection_check_end(connection);
        return;
    }
    if (connection->receive.waits == RECEIVE_WAITS_REPLIES)
        transmission_resume(connection);
    if (connection->jobs == 0 &&
        (connection->disconnecting || connection->worker->draining))
        connection_close(connection);
}

void connection_drain(struct connection *connection)
{
    if (connection->state == CONNECTION_HANDSHAKE && connection->handshake)
        handshake_drain(connection);
    else if (connection->state == CONNECTION_TRANSMISSION &&
             connection->jobs == 0)
        connection_close(connection);
}

/* --- abd_disconnect() --- */

static void on_disconnect(struct loop_message *message)
{
    struct connection *connection =
        container_of(message, struct connection, disconnect_message);

    /* It may have moved, or be moving, since this was sent. */
    if (atomic_load(&connection->moving) ||
        !loop_is_current(atomic_load(&connection->home))) {
        loop_send(atomic_load(&connection->home), message);
        return;
    }
    connection->disconnect_arrived = true;
    if (connection->state == CONNECTION_ENDING)
        connection_check_end(connection);
    else
        connection_close(connection);
}

__attribute__((visibility("default"))) void abd_disconnect(
    const struct abd_client *client)
{
    struct connection *connection = container_of(
        (struct abd_client *)(uintptr_t)client, struct connection, client);

    /* Pairs with the acquire in connection_check_end(): who sees it waits for
     * the message. */
    if (atomic_exchange_explicit(&connection->disconnect_asked, true,
                                 memory_order_release))
        return;
    connection->disconnect_message.fn = on_disconnect;
    loop_send(atomic_load(&connection->home), &connection->disconnect_message);
}
