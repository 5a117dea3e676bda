/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* See handshake_world.h. */
#include "tests/fuzz/handshake_world.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "loop/loop.h"
#include "server/exports.h"
#include "server/handshake.h"
#include "server/layer.h"
#include "server/request.h"
#include "server/settings.h"
#include "server/worker.h"

#define IN_FD  10
#define OUT_FD 11

/* A loop is a queue of messages. */
struct abd_loop {
    unsigned index;
    struct loop_message *first, **last;
};

struct watch {
    int fd;
    uint32_t events;
    void (*fn)(void *arg, uint32_t ready);
    void *arg;
    const struct abd_watch *place; /* NULL: not started */
    struct abd_loop *loop;
};

struct world world;
static struct abd_loop loops[2];
static struct watch watches[2]; /* of the two descriptors */
static struct {
    const struct abd_timer *place; /* NULL: none is started */
    void (*fn)(void *arg);
    void *arg;
    struct abd_loop *loop;
} timer;
static uint64_t now_ns;

/* The globals of other modules. */
struct settings settings;
struct chain chain;
static struct worker two_workers[2];
struct worker *workers = two_workers;
unsigned workers_n = 2;
_Thread_local struct abd_loop *loop_self;

static void list_exports(struct abd_exports *exports);

static struct abd_plugin plugin = {.name = "fuzzed"};
static struct layer layer = {.plugin = &plugin, .instance = {.name = "fuzzed"}};

/* --- loops --- */

struct abd_loop *abd_loop_current(void)
{
    return loop_self;
}

void *loop_context(const struct abd_loop *loop)
{
    return &two_workers[loop->index];
}

void loop_set_busy_with(struct abd_loop *loop, const char *name)
{
    (void)name;
    assert(loop == loop_self);
}

uint64_t abd_loop_now_ns(void)
{
    assert(loop_self);
    return now_ns;
}

void loop_send(struct abd_loop *loop, struct loop_message *message)
{
    assert(message->fn);
    message->next = NULL;
    *loop->last = message;
    loop->last = &message->next;
}

bool world_has_message(unsigned index)
{
    return loops[index].first != NULL;
}

void world_message(unsigned index)
{
    struct abd_loop *loop = &loops[index];
    struct loop_message *message = loop->first;

    loop->first = message->next;
    if (!loop->first)
        loop->last = &loop->first;
    loop_self = loop;
    message->fn(message);
    loop_self = NULL;
}

/* --- timers: the handshake has one --- */

void abd_timer_start(struct abd_timer *place, uint64_t delay_ns,
                     uint64_t repeat_ns, void (*fn)(void *arg), void *arg)
{
    (void)delay_ns;
    assert(!timer.place && repeat_ns == 0 && loop_self);
    timer.place = place;
    timer.fn = fn;
    timer.arg = arg;
    timer.loop = loop_self;
}

void abd_timer_stop(struct abd_timer *place)
{
    if (!timer.place)
        return;
    assert(timer.place == place && timer.loop == loop_self);
    timer.place = NULL;
}

bool world_has_timer(void)
{
    return timer.place != NULL;
}

void world_timer(void)
{
    assert(timer.loop == world.connection.worker->loop);
    timer.place = NULL;
    world.excused = true;
    now_ns += settings.handshake_timeout_ns;
    loop_self = timer.loop;
    timer.fn(timer.arg);
    loop_self = NULL;
}

/* --- readiness --- */

static struct watch *watch_of(const struct abd_watch *place)
{
    for (unsigned i = 0; i < 2; i++)
        if (watches[i].place == place)
            return &watches[i];
    return NULL;
}

static void check_watch(int fd, uint32_t events)
{
    uint32_t allowed = ABD_READABLE | ABD_WRITABLE;

    if (world.plan->two_fds)
        allowed = fd == IN_FD ? ABD_READABLE : ABD_WRITABLE;
    assert((events & ~allowed) == 0);
}

int abd_watch_start(struct abd_watch *place, int fd, uint32_t events,
                    void (*fn)(void *arg, uint32_t ready), void *arg)
{
    struct watch *watch = &watches[fd - IN_FD];

    assert(fd == IN_FD || fd == OUT_FD);
    assert(!watch->place && !watch_of(place) && loop_self);
    check_watch(fd, events);
    if (world.plan->file)
        return EPERM;
    *watch = (struct watch){.fd = fd,
                            .events = events,
                            .fn = fn,
                            .arg = arg,
                            .place = place,
                            .loop = loop_self};
    return 0;
}

int abd_watch_change(struct abd_watch *place, uint32_t events)
{
    struct watch *watch = watch_of(place);

    assert(watch && watch->loop == loop_self);
    check_watch(watch->fd, events);
    watch->events = events;
    return 0;
}

void abd_watch_stop(struct abd_watch *place)
{
    struct watch *watch = watch_of(place);

    if (!watch)
        return;
    assert(watch->loop == loop_self);
    watch->place = NULL;
}

static bool is_readable(void)
{
    return world.client.arrived > world.client.taken ||
           world.client.arrived == world.client.size;
}

static uint32_t ready_events(const struct watch *watch)
{
    uint32_t ready = 0;

    if (!watch->place)
        return 0;
    if ((watch->events & ABD_READABLE) && is_readable())
        ready |= ABD_READABLE;
    if ((watch->events & ABD_WRITABLE) && (world.room > 0 || world.gone))
        ready |= ABD_WRITABLE;
    /* The end of one of two says nothing about the other. */
    if (world.gone && !world.plan->two_fds)
        ready |= ABD_EVENT_ERROR;
    return ready;
}

bool world_is_ready(void)
{
    return ready_events(&watches[0]) || ready_events(&watches[1]);
}

void world_ready(void)
{
    struct watch *watch = &watches[ready_events(&watches[0]) ? 0 : 1];

    loop_self = watch->loop;
    assert(loop_self == world.connection.worker->loop);
    watch->fn(watch->arg, ready_events(watch));
    loop_self = NULL;
}

/* --- bytes --- */

int stream_receive(struct stream *stream, struct iovec *places, unsigned n,
                   size_t *ret_got)
{
    struct client *client = &world.client;
    size_t got = client->arrived - client->taken;

    assert(stream == &world.connection.stream && n == 1 && !world.over);
    client_check_wish(client, places->iov_len);
    if (got > places->iov_len)
        got = places->iov_len;
    if (got == 0 && client->arrived < client->size)
        return EAGAIN;
    client->ended = got == 0;
    if (got > 0) {
        memcpy(places->iov_base, client->input + client->taken, got);
        client_take(client, got);
    }
    *ret_got = got;
    return 0;
}

int stream_send(struct stream *stream, struct iovec *pieces, unsigned n,
                bool more, size_t *ret_sent)
{
    size_t sent = pieces->iov_len;

    assert(stream == &world.connection.stream && n == 1 && !more);
    assert(sent > 0 && !world.over);
    if (world.gone)
        return EPIPE;
    if (!world.plan->file) {
        if (world.room == 0)
            return EAGAIN;
        if (sent > world.room)
            sent = world.room;
        world.room -= sent;
    }
    client_hear(&world.client, pieces->iov_base, sent);
    *ret_sent = sent;
    return 0;
}

/* --- memory and requests --- */

unsigned request_unit(void)
{
    return 1;
}

unsigned request_pool_max(const struct worker *worker)
{
    assert(worker == world.connection.worker);
    return 100000;
}

bool memory_fits(const struct memory *memory, enum memory_use use,
                 const uint64_t *sizes, unsigned n)
{
    uint64_t all = 0;

    (void)memory;
    assert(n > 0 && n <= LIMIT_PAYLOAD_PIECES);
    for (unsigned i = 0; i < n; i++)
        all += sizes[i];
    return all <= world.plan->memory / (use == MEMORY_WRITE ? 2 : 1);
}

/* --- the connection --- */

static void end_connection(void)
{
    assert(!world.over && !world.connection.handshake);
    assert(!watches[0].place && !watches[1].place && !timer.place);
    assert(!world.opening && !world.listing);
    assert(!world.putting && !world.moving);
    world.over = true;
}

/* What the connection would do when it has no requests left. */
static void leave_disk(void)
{
    struct connection *connection = &world.connection;

    loop_self = connection->worker->loop;
    assert(connection->admitted && connection->disk == world.disk);
    assert(connection->lane ==
           &connection->disk->lanes[connection->worker->index]);
    assert(world.disk->parallel || world.disk->pub.loop == loop_self);
    disk_leave(connection->disk, &connection->client);
    disk_put(connection->disk, NULL);
    loop_self = NULL;
}

void connection_begin_transmission(struct connection *connection)
{
    client_check_choice(&world.client, &connection->negotiated);
    end_connection();
    world.served = true;
}

void connection_check_end(struct connection *connection)
{
    assert(connection == &world.connection && world.closing);
    client_check_end(&world.client, world.excused);
    end_connection();
}

void connection_close(struct connection *connection)
{
    if (world.closing)
        return;
    world.closing = true;
    connection->state = CONNECTION_ENDING;
    if (handshake_stop(connection))
        connection_check_end(connection);
}

static void on_arrived(struct loop_message *message)
{
    struct connection *connection =
        container_of(message, struct connection, message);

    assert(world.moving && connection->worker->loop == loop_self);
    world.moving = false;
    connection->arrived(connection);
}

void connection_move(struct connection *connection, struct worker *to,
                     void (*arrived)(struct connection *connection))
{
    assert(connection->worker->loop == loop_self && connection->worker != to);
    assert(!watches[0].place && !watches[1].place && !timer.place);
    assert(!world.moving && !world.closing);
    world.moving = true;
    connection->worker = to;
    connection->arrived = arrived;
    connection->message.fn = on_arrived;
    loop_send(to->loop, &connection->message);
}

void world_begin(void)
{
    loop_self = world.connection.worker->loop;
    handshake_begin(&world.connection);
    loop_self = NULL;
}

void world_drain(void)
{
    world.client.draining = world.excused = true;
    two_workers[0].draining = two_workers[1].draining = true;
    /* One that is on its way looks when it arrives, one that is ending is left
     * alone. */
    if (world.moving || world.closing)
        return;
    loop_self = world.connection.worker->loop;
    handshake_drain(&world.connection);
    loop_self = NULL;
}

void world_go(void)
{
    world.gone = world.excused = true;
}

void world_close(void)
{
    world.excused = true;
    loop_self = world.connection.worker->loop;
    connection_close(&world.connection);
    loop_self = NULL;
}

/* --- disks --- */

void disk_get(struct layer *of, const char *name, bool read_only,
              const struct abd_client *client, struct abd_loop *loop,
              struct disk_request *request)
{
    struct nbd_string allowed;

    assert(of == &layer && !loop && request->loop == loop_self);
    assert(client == &world.connection.client);
    assert(read_only == settings.read_only);
    assert(!world.disk && !world.opening && !world.closing && !world.putting);
    /* No plugin code runs for a client that has not named an export. */
    assert(client_may_open(&world.client, &allowed));
    assert(strlen(name) == allowed.length &&
           memcmp(name, allowed.text, allowed.length) == 0);
    world.opening = request;
    world.opening_name = allowed;
}

static void on_got(struct loop_message *message)
{
    struct disk_request *request =
        container_of(message, struct disk_request, message);

    assert(request->loop == loop_self);
    request->got(request, request->disk, request->error);
}

void world_open_ends(void)
{
    struct disk_request *request = world.opening;

    world.opening = NULL;
    request->error = world.plan->view.open_error(world.opening_name);
    request->disk = NULL;
    if (!request->error) {
        struct disk *disk = calloc(1, sizeof *disk);

        assert(disk);
        disk->pub = world.plan->disk;
        disk->pub.loop = &loops[world.plan->home];
        disk->layer = &layer;
        disk->shared = world.plan->shared;
        disk->parallel = world.plan->parallel;
        disk->transfer =
            disk->pub.max_transfer ? disk->pub.max_transfer : LIMIT_TRANSFER;
        disk->lend_max = disk->transfer;
        disk->block_min = disk->pub.block_min ? disk->pub.block_min : 1;
        for (disk->piece = 4096; disk->piece * 2 <= disk->transfer;)
            disk->piece *= 2;
        disk->lanes = calloc(2, sizeof *disk->lanes);
        assert(disk->lanes);
        world.disk = request->disk = disk;
    }
    request->message.fn = on_got;
    loop_send(request->loop, &request->message);
}

static void on_put(struct loop_message *message)
{
    assert(world.putting);
    world.putting = false;
    message->fn = world.put_fn;
    message->fn(message);
}

void disk_put(struct disk *disk, struct disk_put *gone)
{
    assert(disk && disk == world.disk && !world.admitted);
    /* Whoever looks at it from here on looks at freed memory. */
    free(disk->lanes);
    free(disk);
    world.disk = NULL;
    if (!gone)
        return;
    assert(gone->loop == loop_self && !world.putting);
    world.putting = true;
    world.put_fn = gone->message.fn;
    gone->message.fn = on_put;
    loop_send(gone->loop, &gone->message);
}

static void check_disk(const struct disk *disk, const struct abd_client *client)
{
    assert(disk == world.disk && client == &world.connection.client);
    assert(disk->parallel || disk->pub.loop == loop_self);
}

int disk_admit(struct disk *disk, const struct abd_client *client)
{
    struct nbd_string name;
    int err;

    check_disk(disk, client);
    assert(!world.admitted && client_may_open(&world.client, &name));
    err = world.plan->view.admit_error(name);
    world.admitted = err == 0;
    return err;
}

void disk_leave(struct disk *disk, const struct abd_client *client)
{
    check_disk(disk, client);
    assert(world.admitted);
    world.admitted = false;
}

/* --- exports --- */

static void list_exports(struct abd_exports *exports)
{
    assert(client_may_list(&world.client) && !world.listing);
    assert(exports->client == &world.connection.client);
    assert(exports->instance == &layer.instance);
    world.listing = exports;
}

/* Names and descriptions of any length, and some that must be left out. */
static char listed_text[NBD_MAX_STRING + 1];

static const char *listed(unsigned index, const char **ret_description)
{
    static const char *const descriptions[] = {listed_text, NULL, "\xff"};
    size_t length = (size_t)index * index * 61 % (NBD_MAX_STRING + 1);

    memset(listed_text, 'a' + (int)(index % 26), length);
    listed_text[length] = '\0';
    *ret_description = descriptions[index % 3];
    return listed_text;
}

bool world_is_listed(unsigned index, struct nbd_string name,
                     struct nbd_string description)
{
    const char *shown;
    const char *expected = world.plan->lists ? listed(index, &shown) : "";

    if (!world.plan->lists || index % 3 != 0)
        shown = "";
    return name.length == strlen(expected) &&
           memcmp(name.text, expected, name.length) == 0 &&
           description.length == strlen(shown) &&
           memcmp(description.text, shown, description.length) == 0;
}

void world_list_ends(void)
{
    struct abd_exports *exports = world.listing;

    world.listing = NULL;
    for (unsigned i = 0; i < world.plan->view.exports; i++) {
        const char *description;
        const char *name = listed(i, &description);

        abd_add_export(exports, name, description);
        abd_add_export(exports, "\xff", name);
    }
    abd_exports_done(exports, world.plan->view.list_error);
}

/* --- all of it --- */

void world_init(const struct world_plan *plan, const uint8_t *input,
                size_t size)
{
    world = (struct world){.plan = plan};
    client_init(&world.client, &plan->view, input, size);
    for (unsigned i = 0; i < 2; i++) {
        loops[i] = (struct abd_loop){.index = i, .last = &loops[i].first};
        two_workers[i] = (struct worker){.index = i, .loop = &loops[i]};
        watches[i].place = NULL;
    }
    timer.place = NULL;
    now_ns = 1;
    plugin.exports = plan->lists ? list_exports : NULL;
    chain.layers[0] = &layer;
    chain.n = 1;
    settings = (struct settings){
        .mask_handshake = plan->view.offered,
        .oldstyle = plan->view.oldstyle,
        .no_structured = plan->view.no_structured,
        .read_only = plan->disk.read_only,
        .handshake_timeout_ns = plan->timeout_ns,
    };
    world.connection.worker = &two_workers[0];
    world.connection.client.address = world.connection.address;
    strcpy(world.connection.address, "fuzzer");
    world.connection.stream = (struct stream){
        .in = IN_FD,
        .out = plan->two_fds ? OUT_FD : IN_FD,
    };
}

void world_finish(void)
{
    assert(world.over);
    if (world.served)
        leave_disk();
    assert(!world.disk && !world.admitted);
    assert(!loops[0].first && !loops[1].first);
    client_finish(&world.client);
}
