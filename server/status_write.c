/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Writing the status: each part of the object is one function.  Keys are part
 * of the interface: docs/abdkit-status.pod has them all.  Loop 0. */
#include "server/status_write.h"

#include "base/json.h"
#include "server/layer.h"
#include "server/settings.h"
#include "server/status_collect.h"
#include "server/worker.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const command_names[STATUS_COMMANDS] = {
    [NBD_CMD_READ] = "read",
    [NBD_CMD_WRITE] = "write",
    [NBD_CMD_FLUSH] = "flush",
    [NBD_CMD_TRIM] = "trim",
    [NBD_CMD_CACHE] = "cache",
    [NBD_CMD_WRITE_ZEROES] = "write_zeroes",
    [NBD_CMD_BLOCK_STATUS] = "block_status",
};

struct bit_name {
    uint32_t bit;
    const char *name;
};

static const struct bit_name operation_names[] = {
    {1U << ABD_OP_READ, "read"},       {1U << ABD_OP_WRITE, "write"},
    {1U << ABD_OP_ZERO, "zero"},       {1U << ABD_OP_TRIM, "trim"},
    {1U << ABD_OP_FLUSH, "flush"},     {1U << ABD_OP_CACHE, "cache"},
    {1U << ABD_OP_EXTENTS, "extents"}, {0, NULL},
};

static const struct bit_name flag_names[] = {
    {ABD_DISK_PARALLEL, "parallel"},
    {ABD_DISK_INLINE, "inline"},
    {ABD_DISK_LENDS, "lends"},
    {ABD_DISK_ROTATIONAL, "rotational"},
    {ABD_DISK_FAST_ZERO, "fast_zero"},
    {ABD_DISK_MULTI_CONN, "multi_conn"},
    {0, NULL},
};

static void write_bits(struct json *json, const char *key,
                       const struct bit_name *names, uint32_t bits)
{
    json_open_array(json, key);
    for (const struct bit_name *name = names; name->name; name++)
        if (bits & name->bit)
            json_string(json, NULL, name->name);
    json_close_array(json);
}

/* null: not known, or not there */
static void write_optional(struct json *json, const char *key, bool known,
                           uint64_t value)
{
    if (known)
        json_number(json, key, value);
    else
        json_string(json, key, NULL);
}

static void write_traffic(struct json *json, const struct traffic *traffic)
{
    json_number(json, "requests", traffic->requests);
    json_number(json, "errors", traffic->errors);
    json_number(json, "bytes_read", traffic->bytes_read);
    json_number(json, "bytes_written", traffic->bytes_written);
}

static void write_flight(struct json *json, const struct status_flight *flight)
{
    json_number(json, "requests_in_flight", flight->requests);
    write_optional(json, "oldest_ns", flight->requests > 0, flight->oldest_ns);
}

static void write_memory(struct json *json, const struct arena_counters *memory)
{
    json_open_object(json, "memory");
    json_number(json, "budget", memory->total);
    json_number(json, "in_use", memory->in_use);
    json_number(json, "charged", memory->charged);
    json_number(json, "waiting", memory->waiters);
    json_close_object(json);
}

static void write_latency(struct json *json, const char *name,
                          const struct histogram *latency)
{
    uint64_t n = atomic_load_explicit(&latency->total, memory_order_relaxed);
    uint64_t sum = atomic_load_explicit(&latency->sum_ns, memory_order_relaxed);

    json_open_object(json, name);
    json_number(json, "count", n);
    json_number(json, "mean_ns", n ? sum / n : 0);
    json_number(json, "p50_ns", histogram_percentile(latency, 0.5));
    json_number(json, "p90_ns", histogram_percentile(latency, 0.9));
    json_number(json, "p99_ns", histogram_percentile(latency, 0.99));
    json_number(json, "p99_9_ns", histogram_percentile(latency, 0.999));
    json_number(json, "max_ns",
                atomic_load_explicit(&latency->max_ns, memory_order_relaxed));
    json_close_object(json);
}

static void write_lanes(struct json *json, const struct status_disk *disk)
{
    json_open_array(json, "lanes");
    for (unsigned i = 0; i < workers_n; i++) {
        const struct status_lane *lane = &disk->lanes[i];

        if (!disk->parallel && i != disk->loop)
            continue;
        json_open_object(json, NULL);
        json_number(json, "loop", i);
        json_number(json, "in_flight", lane->in_flight);
        json_number(json, "max_requests", lane->max_requests);
        json_number(json, "waiting", lane->waiting);
        json_number(json, "lent", lane->lent);
        json_number(json, "held_up_connections", lane->held_up);
        json_close_object(json);
    }
    json_close_array(json);
}

static const char *disk_state_name(enum disk_state state)
{
    switch (state) {
    case DISK_NEW:
        return "new";
    case DISK_OPENING:
        return "opening";
    case DISK_OPEN:
        return "open";
    case DISK_CLOSING:
        return "closing";
    }
    return NULL;
}

/* An export is the disk of the outermost layer: only clients come there. */
static void write_disk(struct json *json, const struct status_disk *disk)
{
    bool open = disk->state == DISK_OPEN;

    json_open_object(json, NULL);
    json_number(json, "id", disk->id);
    json_string(json, "name", disk->name);
    json_string(json, "layer", disk->layer->instance.name);
    json_string(json, "state", disk_state_name(disk->state));
    json_number(json, "loop", disk->loop);
    json_bool(json, "shared", disk->shared);
    json_bool(json, "read_only", disk->read_only);
    json_number(json, "users", disk->users);
    write_optional(json, "size", open, disk->size);
    if (disk->layer->index == 0) {
        write_traffic(json, &disk->traffic);
        write_flight(json, &disk->flight);
    }
    if (open) {
        json_bool(json, "parallel", disk->parallel);
        write_bits(json, "operations", operation_names, disk->ops);
        write_bits(json, "flags", flag_names, disk->flags);
        write_lanes(json, disk);
    }
    if (disk->details)
        json_raw(json, "details", disk->details);
    json_close_object(json);
}

static void write_disks(struct json *json, const char *key,
                        const struct status *status, bool exports)
{
    json_open_array(json, key);
    for (unsigned i = 0; i < status->disks_n; i++)
        if ((status->disks[i].layer->index == 0) == exports)
            write_disk(json, &status->disks[i]);
    json_close_array(json);
}

static const char *connection_state_name(enum connection_state state)
{
    switch (state) {
    case CONNECTION_HANDSHAKE:
        return "handshake";
    case CONNECTION_TRANSMISSION:
        return "transmission";
    case CONNECTION_ENDING:
        return "ending";
    }
    return NULL;
}

static const char *style_name(enum nbd_reply_style style)
{
    switch (style) {
    case NBD_SIMPLE:
        return "simple";
    case NBD_STRUCTURED:
        return "structured";
    case NBD_EXTENDED:
        return "extended";
    }
    return NULL;
}

static void write_connection(struct json *json, const struct status *status,
                             const struct status_connection *connection)
{
    const struct status_disk *disk =
        status_find_disk(status, connection->disk_id);

    json_open_object(json, NULL);
    json_number(json, "id", connection->id);
    json_string(json, "address", connection->address);
    write_optional(json, "pid", connection->pid >= 0,
                   (uint64_t)connection->pid);
    write_optional(json, "uid", connection->uid >= 0,
                   (uint64_t)connection->uid);
    json_string(json, "export", disk ? disk->name : NULL);
    write_optional(json, "export_id", connection->disk_id, connection->disk_id);
    json_number(json, "loop", connection->loop);
    json_string(json, "state", connection_state_name(connection->state));
    json_string(json, "replies", style_name(connection->style));
    json_number(json, "age_ns", connection->age_ns);
    write_traffic(json, &connection->traffic);
    write_flight(json, &connection->flight);
    json_number(json, "memory", connection->memory);
    json_string(json, "waits_for", connection->waits_for);
    json_bool(json, "unread_replies", connection->unread);
    json_close_object(json);
}

static void write_loops(struct json *json, const struct status *status)
{
    json_open_array(json, "loops");
    for (unsigned i = 0; i < workers_n; i++) {
        const struct status_loop *loop = &status->loops[i];

        json_open_object(json, NULL);
        json_number(json, "loop", i);
        json_number(json, "connections", loop->connections);
        json_number(json, "accepted", loop->accepted);
        json_number(json, "turns", loop->counters.turns);
        json_number(json, "sleeps", loop->counters.sleeps);
        json_number(json, "wakeups", loop->counters.wakeups);
        json_number(json, "receives", loop->receives);
        json_number(json, "sends", loop->sends);
        json_close_object(json);
    }
    json_close_array(json);
}

char *status_write(const struct status *status, uint64_t uptime_ns)
{
    struct json json = {0};
    char *text, *line;
    size_t length;

    json_open_object(&json, NULL);
    json_string(&json, "abdkit", ABDKIT_VERSION);
    json_number(&json, "pid", (uint64_t)getpid());
    json_number(&json, "uptime_ns", uptime_ns);
    json_string(&json, "state", status->draining ? "draining" : "serving");
    json_number(&json, "clients", status->clients);
    json_number(&json, "max_connections", settings.max_connections);
    write_traffic(&json, &status->traffic);
    write_flight(&json, &status->flight);
    write_memory(&json, &status->memory);
    json_open_object(&json, "latency");
    for (unsigned i = 0; i < STATUS_COMMANDS; i++)
        if (command_names[i])
            write_latency(&json, command_names[i], &status->latency[i]);
    json_close_object(&json);
    write_disks(&json, "exports", status, true);
    write_disks(&json, "disks", status, false);
    json_open_array(&json, "connections");
    for (unsigned i = 0; i < status->connections_n; i++)
        write_connection(&json, status, &status->connections[i]);
    json_close_array(&json);
    write_loops(&json, status);
    json_close_object(&json);
    text = json_finish(&json);
    if (!text)
        return NULL;
    length = strlen(text);
    line = realloc(text, length + 2);
    if (!line) {
        free(text);
        return NULL;
    }
    memcpy(line + length, "\n", 2);
    return line;
}
