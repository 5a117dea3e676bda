/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* See handshake_harness.h.  Loops, stream and wire are the real ones; what the
 * handshake calls of connections and disks is here. */
#include "handshake_harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "server/request.h"
#include "wire/nbd.h"
#include "wire/option.h"

#define PATIENCE_S 20

struct disk_notes notes;
struct disk test_disk;
void (*test_exports)(struct abd_exports *exports);
uint8_t client_payload[8192];
uint32_t client_payload_length;

/* The globals of other modules. */
struct settings settings;
struct chain chain;
static struct worker two_workers[2];
struct worker *workers = two_workers;
unsigned workers_n = 2;

/* More than any payload needs. */
unsigned request_unit(void)
{
    return 1;
}

unsigned request_pool_max(const struct worker *worker)
{
    (void)worker;
    return 100000;
}

static struct arena *arena;
static struct lane lanes[2];
static struct abd_plugin plugin = {.name = "test"};
static struct layer test_layer = {.plugin = &plugin,
                                  .instance = {.name = "test"}};

/* --- allocations that fail --- */

static atomic_uint fail_at, allocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strndup(const char *text, size_t length);
char *__wrap_strdup(const char *text);

static bool fails(void)
{
    return atomic_load(&fail_at) > 0 && abd_loop_current() &&
           atomic_fetch_add(&allocations, 1) + 1 == atomic_load(&fail_at);
}

bool fail_allocation(unsigned n)
{
    bool reached = atomic_load(&allocations) >= atomic_load(&fail_at);

    atomic_store(&fail_at, n);
    atomic_store(&allocations, 0);
    return reached;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

char *__wrap_strndup(const char *text, size_t length)
{
    const char *end = memchr(text, 0, length);
    char *copy;

    if (end)
        length = (size_t)(end - text);
    copy = __wrap_malloc(length + 1);
    if (copy) {
        memcpy(copy, text, length);
        copy[length] = 0;
    }
    return copy;
}

char *__wrap_strdup(const char *text)
{
    return __wrap_strndup(text, strlen(text));
}

/* --- semaphores that do not wait for ever --- */

static void wait_for(sem_t *semaphore)
{
    struct timespec end;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += PATIENCE_S;
    while (sem_timedwait(semaphore, &end) < 0)
        assert_int_equal(errno, EINTR);
}

/* --- the connection (cmocka's asserts are for the test's thread) --- */

static struct session *session_of(struct connection *connection)
{
    return container_of(connection, struct session, connection);
}

static void over(struct session *session, enum outcome outcome)
{
    atomic_store(&session->outcome, outcome);
    sem_post(&session->over);
}

void connection_begin_transmission(struct connection *connection)
{
    assert(!connection->handshake);
    over(session_of(connection), OUTCOME_SERVED);
}

void connection_check_end(struct connection *connection)
{
    struct session *session = session_of(connection);

    assert(!connection->handshake);
    stream_finish(&connection->stream);
    over(session, OUTCOME_CLOSED);
}

void connection_close(struct connection *connection)
{
    struct session *session = session_of(connection);

    if (session->closing)
        return;
    session->closing = true;
    connection->state = CONNECTION_ENDING;
    sem_post(&session->is_closing); /* the session may be gone at the end */
    if (handshake_stop(connection))
        connection_check_end(connection);
}

static void on_arrived(struct loop_message *message)
{
    struct session *session = container_of(message, struct session, message);

    assert(loop_is_current(session->connection.worker->loop));
    session->arrived(&session->connection);
}

void connection_move(struct connection *connection, struct worker *to,
                     void (*arrived)(struct connection *connection))
{
    struct session *session = session_of(connection);

    assert(loop_is_current(connection->worker->loop));
    connection->worker = to;
    session->arrived = arrived;
    session->message.fn = on_arrived;
    loop_send(to->loop, &session->message);
}

/* --- the disk --- */

static void on_got(struct loop_message *message)
{
    struct disk_request *request =
        container_of(message, struct disk_request, message);

    request->got(request, request->error ? NULL : &test_disk, request->error);
}

static void on_time(void *arg)
{
    struct disk_request *request = arg;

    on_got(&request->message);
}

void disk_get(struct layer *layer, const char *name, bool read_only,
              const struct abd_client *client, struct abd_loop *loop,
              struct disk_request *request)
{
    assert(layer == &test_layer);
    assert(name);
    assert(client);
    assert(!loop);
    (void)read_only;
    atomic_fetch_add(&notes.gets, 1);
    request->error = notes.open_error;
    request->message.fn = on_got;
    if (notes.hold) {
        notes.held_request = request;
        sem_post(&notes.held);
    } else if (notes.open_ns > 0) {
        abd_timer_start(&notes.timer, notes.open_ns, 0, on_time, request);
    } else {
        loop_send(request->loop, &request->message);
    }
}

void disk_put(struct disk *disk, struct disk_put *gone)
{
    assert(disk == &test_disk);
    atomic_fetch_add(&notes.puts, 1);
    assert(gone->loop == abd_loop_current());
    loop_send(gone->loop, &gone->message);
}

int disk_admit(struct disk *disk, const struct abd_client *client)
{
    (void)client;
    assert(disk->parallel || loop_is_current(disk->pub.loop));
    if (!notes.admit_error)
        atomic_fetch_add(&notes.admits, 1);
    return notes.admit_error;
}

void disk_leave(struct disk *disk, const struct abd_client *client)
{
    (void)client;
    assert(disk->parallel || loop_is_current(disk->pub.loop));
    atomic_fetch_add(&notes.leaves, 1);
}

void disk_wait_held(void)
{
    wait_for(&notes.held);
}

void disk_release(void)
{
    loop_send(notes.held_request->loop, &notes.held_request->message);
}

/* --- the server --- */

void harness_start(void)
{
    assert_int_equal(loops_create(2), 0);
    assert_int_equal(arena_create(80 * MIB, 0, false, &arena), 0);
    for (unsigned i = 0; i < 2; i++) {
        struct abd_loop *loop = abd_loop_at(i);

        two_workers[i] = (struct worker){
            .index = i, .loop = loop, .memory = arena_memory(arena, loop)};
        loop_set_context(loop, &two_workers[i]);
    }
    assert_int_equal(loops_start(), 0);
    chain.layers[0] = &test_layer;
    chain.n = 1;
    sem_init(&notes.held, 0, 0);
}

void harness_end(void)
{
    loops_stop();
    arena_destroy(arena);
    loops_destroy();
}

void harness_reset(void)
{
    settings = (struct settings){
        .mask_handshake = UINT32_MAX,
        .handshake_timeout_ns = PATIENCE_S * 2 * SECOND,
    };
    test_disk = (struct disk){
        .pub = {.size = 1 << 20,
                .loop = abd_loop_at(0),
                .ops = 1U << ABD_OP_READ | 1U << ABD_OP_WRITE},
        .layer = &test_layer,
        .shared = true,
        .transfer = LIMIT_TRANSFER,
        .lend_max = LIMIT_TRANSFER,
        .block_min = 1,
        .lanes = lanes,
    };
    notes.open_error = notes.admit_error = 0;
    notes.hold = false;
    notes.open_ns = 0;
    notes.gets = notes.puts = notes.admits = notes.leaves = 0;
    test_exports = NULL;
    plugin.exports = NULL;
}

static void on_begin(struct loop_message *message)
{
    handshake_begin(
        &container_of(message, struct session, message)->connection);
}

void session_begin_with(struct session *session, int server_in, int server_out,
                        int client_in, int client_out)
{
    struct connection *connection = &session->connection;

    memset(session, 0, sizeof *session);
    sem_init(&session->over, 0, 0);
    sem_init(&session->is_closing, 0, 0);
    sem_init(&session->drained, 0, 0);
    session->in = client_in;
    session->out = client_out;
    connection->worker = &workers[0];
    connection->client.address = connection->address;
    strcpy(connection->address, "test");
    assert_int_equal(stream_init(&connection->stream, server_in, server_out),
                     0);
    test_disk.pub.loop = abd_loop_at(notes.home);
    plugin.exports = test_exports;
    session->message.fn = on_begin;
    loop_send(workers[0].loop, &session->message);
}

void session_begin(struct session *session)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    session_begin_with(session, fds[0], fds[0], fds[1], fds[1]);
}

enum outcome session_wait(struct session *session)
{
    wait_for(&session->over);
    return atomic_load(&session->outcome);
}

void session_wait_closing(struct session *session)
{
    wait_for(&session->is_closing);
}

static void on_leave(struct loop_message *message)
{
    struct session *session = container_of(message, struct session, message);
    struct connection *connection = &session->connection;

    assert(connection->admitted);
    disk_leave(connection->disk, &connection->client);
    atomic_fetch_add(&notes.puts, 1);
    stream_finish(&connection->stream);
    sem_post(&session->over);
}

void session_end(struct session *session)
{
    if (session->in >= 0)
        close(session->in);
    if (session->out != session->in)
        close(session->out);
    if (atomic_load(&session->outcome) == OUTCOME_NONE)
        session_wait(session);
    if (atomic_load(&session->outcome) == OUTCOME_SERVED) {
        session->message.fn = on_leave;
        loop_send(session->connection.worker->loop, &session->message);
        wait_for(&session->over);
    }
    assert_int_equal(atomic_load(&notes.admits), atomic_load(&notes.leaves));
    if (!notes.open_error)
        assert_int_equal(atomic_load(&notes.gets), atomic_load(&notes.puts));
    else
        assert_int_equal(atomic_load(&notes.puts), 0);
}

static void on_drain(struct loop_message *message)
{
    struct session *session = container_of(message, struct session, message);

    handshake_drain(&session->connection);
    sem_post(&session->drained);
}

void session_drain(struct session *session)
{
    session->message.fn = on_drain;
    loop_send(workers[0].loop, &session->message);
    wait_for(&session->drained);
}

/* --- the client --- */

void client_send(struct session *session, const void *bytes, size_t length)
{
    while (length > 0) {
        ssize_t sent = write(session->out, bytes, length);

        assert_true(sent > 0);
        bytes = (const uint8_t *)bytes + sent;
        length -= (size_t)sent;
    }
}

static size_t receive_some(struct session *session, void *bytes, size_t length)
{
    struct pollfd ready = {.fd = session->in, .events = POLLIN};
    ssize_t got;

    assert_int_equal(poll(&ready, 1, PATIENCE_S * 1000), 1);
    got = read(session->in, bytes, length);
    return got > 0 ? (size_t)got : 0;
}

void client_receive(struct session *session, void *bytes, size_t length)
{
    while (length > 0) {
        size_t got = receive_some(session, bytes, length);

        assert_true(got > 0);
        bytes = (uint8_t *)bytes + got;
        length -= got;
    }
}

void client_expect_end(struct session *session)
{
    uint8_t byte;

    assert_int_equal(receive_some(session, &byte, 1), 0);
}

void client_greet(struct session *session, uint32_t flags)
{
    uint8_t greeting[NBD_GREETING_SIZE], answer[4];

    client_receive(session, greeting, sizeof greeting);
    assert_true(load_be64(greeting) == NBD_MAGIC);
    assert_true(load_be64(greeting + 8) == NBD_IHAVEOPT);
    store_be32(answer, flags);
    client_send(session, answer, sizeof answer);
}

void client_option(struct session *session, uint32_t option, const void *data,
                   uint32_t length)
{
    uint8_t head[NBD_OPTION_SIZE];

    store_be64(head, NBD_IHAVEOPT);
    store_be32(head + 8, option);
    store_be32(head + 12, length);
    client_send(session, head, sizeof head);
    if (data)
        client_send(session, data, length);
}

uint32_t client_reply(struct session *session, uint32_t option)
{
    uint8_t head[NBD_OPTION_REPLY_SIZE];

    client_receive(session, head, sizeof head);
    assert_true(load_be64(head) == NBD_REP_MAGIC);
    assert_int_equal(load_be32(head + 8), option);
    client_payload_length = load_be32(head + 16);
    assert_in_range(client_payload_length, 0, sizeof client_payload);
    client_receive(session, client_payload, client_payload_length);
    return load_be32(head + 12);
}

uint32_t client_choose(struct session *session, uint32_t option,
                       const char *name)
{
    uint8_t data[4 + 4096 + 2];
    uint32_t length = (uint32_t)strlen(name);
    uint32_t reply;

    store_be32(data, length);
    memcpy(data + 4, name, length);
    store_be16(data + 4 + length, 0);
    client_option(session, option, data, length + 6);
    do {
        reply = client_reply(session, option);
    } while (reply == NBD_REP_INFO);
    return reply;
}
