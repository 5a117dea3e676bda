/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Collecting: one message that goes from loop to loop and back to loop 0.
 *
 * What it gathers belongs to whoever has the message, so nothing here is
 * locked, but the table of disks.  A connection may move while the message is
 * under way and be seen twice; then what was seen last counts. */
#include "server/status_collect.h"

#include "base/list.h"
#include "loop/details.h"
#include "server/layer.h"
#include "server/listener.h"
#include "server/request.h"
#include "server/worker.h"

#include <stdlib.h>
#include <string.h>

/* The one that is under way. */
static struct collection {
    struct loop_message message;
    struct worker *worker; /* where it is */
    unsigned cursor;       /* behind the disk found last */
    struct status status;
    void (*done)(const struct status *status);
} collection;

/* Room for one more element; false: no memory. */
static bool grow(void **array, unsigned n, unsigned *room, size_t size)
{
    unsigned larger_room = *room ? 2 * *room : 16;
    void *larger;

    if (n < *room)
        return true;
    larger = reallocarray(*array, larger_room, size);
    if (!larger)
        return false;
    *array = larger;
    *room = larger_room;
    return true;
}

static unsigned list_length(const struct list *head)
{
    unsigned n = 0;

    list_for_each (link, head)
        n++;
    return n;
}

static void add_flight(struct status_flight *to,
                       const struct status_flight *from)
{
    to->requests += from->requests;
    if (from->oldest_ns > to->oldest_ns)
        to->oldest_ns = from->oldest_ns;
}

static void add_traffic(struct traffic *to, const struct traffic *from)
{
    to->requests += from->requests;
    to->errors += from->errors;
    to->bytes_read += from->bytes_read;
    to->bytes_written += from->bytes_written;
}

/* --- disks --- */

/* The loops meet the disks in the same order, so the next is a good guess. */
static struct status_disk *find_from_cursor(uint64_t id)
{
    struct status *status = &collection.status;

    for (unsigned i = 0; i < status->disks_n; i++) {
        unsigned at = (collection.cursor + i) % status->disks_n;

        if (status->disks[at].id == id) {
            collection.cursor = at + 1;
            return &status->disks[at];
        }
    }
    return NULL;
}

static struct status_disk *add_disk(const struct disk *disk)
{
    struct status *status = &collection.status;
    struct status_disk *seen;
    void *disks = status->disks;

    if (!grow(&disks, status->disks_n, &status->disks_room, sizeof *seen))
        return NULL;
    status->disks = disks;
    seen = &status->disks[status->disks_n];
    *seen = (struct status_disk){.id = disk->id, .layer = disk->layer};
    seen->name = strdup(disk->name);
    seen->lanes = calloc(workers_n, sizeof *seen->lanes);
    if (!seen->name || !seen->lanes) {
        free(seen->name);
        free(seen->lanes);
        return NULL;
    }
    status->disks_n++;
    return seen;
}

static void look_at_lane(struct status_disk *seen, const struct lane *lane)
{
    seen->lanes[collection.worker->index] = (struct status_lane){
        .in_flight = lane->in_flight,
        .waiting = list_length(&lane->waiting),
        .lent = lane->lent,
        .held_up = list_length(&lane->connections),
        .max_requests = lane->max_requests,
    };
    add_traffic(&seen->traffic, &lane->traffic);
}

/* Under the table's lock: whoever sees OPEN there sees all that was set before,
 * and the lane of this loop is touched by nobody else. */
static void look_at_disk(struct disk *disk, void *arg)
{
    struct status_disk *seen = find_from_cursor(disk->id);

    (void)arg;
    if (!seen)
        seen = add_disk(disk);
    if (!seen) {
        collection.status.failed = true;
        return;
    }
    seen->state = disk->state;
    seen->shared = disk->shared;
    seen->read_only = disk->pub.read_only;
    seen->loop = abd_loop_index(disk->pub.loop);
    seen->users = atomic_load_explicit(&disk->users, memory_order_relaxed);
    if (disk->state != DISK_OPEN)
        return;
    seen->parallel = disk->parallel;
    seen->size = disk->pub.size;
    seen->ops = disk->pub.ops;
    seen->flags = disk->pub.flags;
    look_at_lane(seen, &disk->lanes[collection.worker->index]);
    if (disk->layer->plugin->status && !seen->details &&
        disk->pub.loop == abd_loop_current())
        seen->to_ask = disk;
}

/* Plugins' code runs under no lock: a disk of this loop stays open until we
 * return to it. */
static void ask_plugins(void)
{
    struct status *status = &collection.status;

    for (unsigned i = 0; i < status->disks_n; i++) {
        struct disk *disk = status->disks[i].to_ask;
        struct abd_status details;

        if (!disk)
            continue;
        status->disks[i].to_ask = NULL;
        details_begin(&details);
        loop_set_busy_with(disk->pub.loop, disk->layer->instance.name);
        disk->layer->plugin->status(&disk->pub, &details);
        loop_set_busy_with(disk->pub.loop, NULL);
        status->disks[i].details = details_finish(&details);
        if (!status->disks[i].details)
            status->failed = true;
    }
}

/* --- connections --- */

static uint64_t age_of(const struct job *job)
{
    return abd_loop_now_ns() - job->started_ns;
}

/* A command that is not answered has parts in the disk, or something that waits
 * to be sent, or is still being received. */
static uint64_t find_oldest(const struct connection *connection)
{
    const struct request *first =
        list_first(&connection->parts, struct request, part.link);
    const struct job *receiving = connection->receive.command.job;
    uint64_t oldest = first ? age_of(first->part.job) : 0;

    if (receiving && age_of(receiving) > oldest)
        oldest = age_of(receiving);
    list_for_each (link, &connection->send.queue) {
        uint64_t age = age_of(
            container_of(link, struct request, part.reply_link)->part.job);

        if (age > oldest)
            oldest = age;
    }
    return oldest;
}

static const char *what_it_waits_for(const struct connection *connection)
{
    if (connection->state != CONNECTION_TRANSMISSION)
        return NULL;
    switch (connection->receive.waits) {
    case RECEIVE_WAITS_ROOM:
        return "disk";
    case RECEIVE_WAITS_REQUEST:
        return "requests";
    case RECEIVE_WAITS_MEMORY:
        return "memory";
    case RECEIVE_WAITS_REPLIES:
        return "replies";
    case RECEIVE_READY:
        break;
    }
    return NULL;
}

static void look_at_connection(const struct connection *connection)
{
    struct status *status = &collection.status;
    struct status_connection *seen;
    void *connections = status->connections;

    if (!grow(&connections, status->connections_n, &status->connections_room,
              sizeof *seen)) {
        status->failed = true;
        return;
    }
    status->connections = connections;
    seen = &status->connections[status->connections_n++];
    *seen = (struct status_connection){
        .id = connection->client.id,
        .disk_id = connection->disk ? connection->disk->id : 0,
        .pid = connection->client.pid,
        .uid = connection->client.uid,
        .loop = connection->worker->index,
        .state = connection->state,
        .style = connection->negotiated.style,
        .age_ns = abd_loop_now_ns() - connection->since_ns,
        .traffic = connection->traffic,
        .flight.requests = connection->jobs,
        .flight.oldest_ns = connection->jobs ? find_oldest(connection) : 0,
        .memory = connection->held,
        .waits_for = what_it_waits_for(connection),
        .unread = connection->send.blocked,
    };
    memcpy(seen->address, connection->address, sizeof seen->address);
}

/* --- the whole --- */

static int compare_connections(const void *left, const void *right)
{
    const struct status_connection *a = left, *b = right;

    if (a->id != b->id)
        return a->id < b->id ? -1 : 1;
    /* Seen twice: the loops are visited in order. */
    return a->loop < b->loop ? -1 : a->loop > b->loop;
}

static int compare_disks(const void *left, const void *right)
{
    const struct status_disk *a = left, *b = right;

    if (a->layer->index != b->layer->index)
        return a->layer->index < b->layer->index ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

static void sort(struct status *status)
{
    unsigned n = 0;

    if (status->disks_n)
        qsort(status->disks, status->disks_n, sizeof *status->disks,
              compare_disks);
    if (status->connections_n)
        qsort(status->connections, status->connections_n,
              sizeof *status->connections, compare_connections);
    for (unsigned i = 0; i < status->connections_n; i++) {
        if (n > 0 && status->connections[n - 1].id == status->connections[i].id)
            n--;
        status->connections[n++] = status->connections[i];
    }
    status->connections_n = n;
}

/* Clients use disks of the outermost layer, which come first. */
static struct status_disk *find_disk(const struct status *status, uint64_t id)
{
    unsigned from = 0, to = status->disks_n;

    while (from < to) {
        unsigned middle = from + (to - from) / 2;
        struct status_disk *disk = &status->disks[middle];

        if (disk->layer->index == 0 && disk->id == id)
            return disk;
        if (disk->layer->index == 0 && disk->id < id)
            from = middle + 1;
        else
            to = middle;
    }
    return NULL;
}

const struct status_disk *status_find_disk(const struct status *status,
                                           uint64_t id)
{
    return find_disk(status, id);
}

static void sum_up(struct status *status)
{
    for (unsigned i = 0; i < status->connections_n; i++) {
        const struct status_connection *connection = &status->connections[i];
        struct status_disk *disk = find_disk(status, connection->disk_id);

        add_flight(&status->flight, &connection->flight);
        if (disk)
            add_flight(&disk->flight, &connection->flight);
    }
}

static void forget(struct status *status)
{
    for (unsigned i = 0; i < status->disks_n; i++) {
        free(status->disks[i].name);
        free(status->disks[i].lanes);
        free(status->disks[i].details);
    }
    free(status->disks);
    free(status->connections);
}

static void on_back(struct loop_message *message)
{
    struct status *status = &collection.status;
    void (*done)(const struct status *) = collection.done;

    (void)message;
    status->clients = registry_count();
    arena_read_counters(server_arena, &status->memory);
    sort(status);
    sum_up(status);
    done(status);
    forget(status);
}

static uint64_t load(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void look_at_worker(const struct worker *worker)
{
    struct status *status = &collection.status;
    const struct worker_counters *counters = &worker->counters;
    struct status_loop *seen = &status->loops[worker->index];

    loop_read_counters(worker->loop, &seen->counters);
    seen->connections =
        atomic_load_explicit(&worker->connections_n, memory_order_relaxed);
    seen->accepted = load(&counters->connections_accepted);
    seen->receives = load(&counters->receives);
    seen->sends = load(&counters->sends);
    status->draining |= worker->draining;
    status->traffic.requests += load(&counters->requests);
    status->traffic.errors += load(&counters->errors);
    status->traffic.bytes_read += load(&counters->bytes_read);
    status->traffic.bytes_written += load(&counters->bytes_written);
    for (unsigned i = 0; i < STATUS_COMMANDS; i++)
        histogram_merge(&status->latency[i], &counters->latency[i]);
}

static void on_visit(struct loop_message *message)
{
    struct worker *worker = collection.worker;

    if (worker == workers)
        memset(&collection.status, 0, sizeof collection.status);
    look_at_worker(worker);
    list_for_each (link, &worker->connections)
        look_at_connection(container_of(link, struct connection, link));
    collection.cursor = 0;
    disks_for_each(look_at_disk, NULL);
    ask_plugins();
    if (worker->index + 1 < workers_n) {
        collection.worker = worker + 1;
    } else {
        collection.worker = workers;
        message->fn = on_back;
    }
    loop_send(collection.worker->loop, message);
}

void status_collect(void (*done)(const struct status *status))
{
    collection.done = done;
    collection.worker = workers;
    collection.message.fn = on_visit;
    loop_send(workers[0].loop, &collection.message);
}
