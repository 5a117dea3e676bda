/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Who is connected: a number, and the unfinished handshakes from the oldest on.
 *
 * The lock is held for a few instructions; nothing is called with it.  Nobody
 * but a connection's own thread may touch it, so eviction knows it by its
 * number only: every worker is asked to close the client of that number if it
 * has it and it still is in its handshake.  So a client that was served in the
 * meantime is not dropped, and one that has gone is not missed. */
#include "server/registry.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/log.h"
#include "server/connection.h"
#include "server/listener.h"
#include "server/settings.h"
#include "server/worker.h"

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;

/* Under the lock. */
static struct list handshakes = {&handshakes, &handshakes};
static unsigned count;                /* clients */
static unsigned reserved;             /* accepted, but not added yet */
static struct loop_message *awaiting; /* NULL: nobody */
static bool message_sent;

/* Eviction, one at a time. */
static struct eviction {
    struct loop_message message;
    struct worker *worker;
} evictions[LOOPS_MAX];
static uint64_t evicted_id;        /* set by loop 0 while nobody looks */
static atomic_uint evictions_left; /* workers that have not looked yet */

static bool is_full_locked(void)
{
    return count + reserved >= settings.max_connections;
}

bool registry_reserve(void)
{
    bool room;

    pthread_mutex_lock(&registry_lock);
    room = !is_full_locked();
    reserved += room;
    pthread_mutex_unlock(&registry_lock);
    return room;
}

void registry_unreserve(void)
{
    pthread_mutex_lock(&registry_lock);
    reserved--;
    pthread_mutex_unlock(&registry_lock);
}

bool registry_await_room(struct loop_message *message)
{
    bool full;

    pthread_mutex_lock(&registry_lock);
    full = is_full_locked();
    if (full)
        awaiting = message;
    pthread_mutex_unlock(&registry_lock);
    return full;
}

void registry_await_leaver(struct loop_message *message)
{
    pthread_mutex_lock(&registry_lock);
    awaiting = message;
    pthread_mutex_unlock(&registry_lock);
}

void registry_took_message(void)
{
    pthread_mutex_lock(&registry_lock);
    message_sent = false;
    pthread_mutex_unlock(&registry_lock);
}

/* A client that nobody reserved room for (-s) counts all the same. */
void registry_add(struct connection *connection)
{
    pthread_mutex_lock(&registry_lock);
    if (reserved > 0)
        reserved--;
    count++;
    list_append(&handshakes, &connection->registry_link);
    pthread_mutex_unlock(&registry_lock);
}

void registry_served(struct connection *connection)
{
    pthread_mutex_lock(&registry_lock);
    list_remove(&connection->registry_link);
    pthread_mutex_unlock(&registry_lock);
}

void registry_remove(struct connection *connection)
{
    struct loop_message *message = NULL;

    pthread_mutex_lock(&registry_lock);
    list_remove(&connection->registry_link);
    count--;
    if (!message_sent && awaiting) {
        message = awaiting;
        awaiting = NULL;
        message_sent = true;
    }
    pthread_mutex_unlock(&registry_lock);
    if (message)
        loop_send(abd_loop_at(0), message);
}

unsigned registry_count(void)
{
    unsigned n;

    pthread_mutex_lock(&registry_lock);
    n = count;
    pthread_mutex_unlock(&registry_lock);
    return n;
}

static struct connection *find(const struct worker *worker, uint64_t id)
{
    list_for_each (link, &worker->connections) {
        struct connection *connection =
            container_of(link, struct connection, link);

        if (connection->client.id == id)
            return connection;
    }
    return NULL;
}

/* On each worker's loop. */
static void on_evict(struct loop_message *message)
{
    struct eviction *eviction = container_of(message, struct eviction, message);
    struct connection *connection = find(eviction->worker, evicted_id);

    if (connection && connection->state != CONNECTION_TRANSMISSION) {
        /* It is chosen once only, however long its end takes. */
        registry_served(connection);
        log_write(ABD_DEBUG, connection->address,
                  "its handshake gives way: there are %u clients",
                  settings.max_connections);
        connection_close(connection);
    }
    /* Pairs with the acquire below: loop 0 may now choose another. */
    atomic_fetch_sub_explicit(&evictions_left, 1, memory_order_release);
}

bool registry_evict_oldest(void)
{
    const struct connection *oldest;
    bool expected;

    if (atomic_load_explicit(&evictions_left, memory_order_acquire) > 0)
        return true;
    pthread_mutex_lock(&registry_lock);
    oldest = list_first(&handshakes, struct connection, registry_link);
    /* Its number was set before it was added. */
    if (oldest)
        evicted_id = oldest->client.id;
    expected = reserved > 0;
    pthread_mutex_unlock(&registry_lock);
    if (!oldest)
        return expected;
    atomic_store_explicit(&evictions_left, workers_n, memory_order_relaxed);
    for (unsigned i = 0; i < workers_n; i++) {
        evictions[i].worker = &workers[i];
        evictions[i].message.fn = on_evict;
        loop_send(workers[i].loop, &evictions[i].message);
    }
    return true;
}
