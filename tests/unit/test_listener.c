/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The listener and the registry, with real loops and sockets, and connections
 * that only exist.  At most MAX of them; that is what most of this is about. */
#include "server/listener.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "loop/loop.h"
#include "server/connection.h"
#include "server/settings.h"
#include "server/worker.h"

#define MAX        4
#define PATIENCE_S 20

struct settings settings = {.max_connections = MAX, .keepalive = true};
static struct worker three_workers[3];
struct worker *workers = three_workers;
unsigned workers_n = 3;

static char socket_path[] = "/tmp/abdkit-listener-XXXXXX";
static struct sockaddr_in ip_address;
static sem_t begun, ended, posted;
static atomic_uint most; /* clients at once */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct connection *newest; /* under the lock */

static void wait_for(sem_t *semaphore)
{
    struct timespec end;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += PATIENCE_S;
    while (sem_timedwait(semaphore, &end) < 0)
        assert_int_equal(errno, EINTR);
}

/* --- connections --- */

static void on_begin(struct loop_message *message)
{
    struct connection *connection =
        container_of(message, struct connection, message);
    unsigned n;

    list_append(&connection->worker->connections, &connection->link);
    registry_add(connection);
    n = registry_count();
    if (n > atomic_load(&most))
        atomic_store(&most, n);
    pthread_mutex_lock(&lock);
    newest = connection;
    pthread_mutex_unlock(&lock);
    sem_post(&begun);
}

int connection_create(struct worker *worker, int in, int out,
                      const char *address)
{
    static uint64_t last_id;
    struct connection *connection = calloc(1, sizeof *connection);

    assert_non_null(connection);
    assert_int_equal(in, out);
    connection->worker = worker;
    connection->stream.in = in;
    connection->client.id = ++last_id;
    strcpy(connection->address, address);
    connection->message.fn = on_begin;
    loop_send(worker->loop, &connection->message);
    return 0;
}

void connection_close(struct connection *connection)
{
    list_remove(&connection->link);
    close(connection->stream.in);
    registry_remove(connection);
    free(connection);
    sem_post(&ended);
}

/* What the test asks a worker to do with a client. */
struct wish {
    struct loop_message message;
    struct connection *connection;
};

static void on_serve(struct loop_message *message)
{
    struct connection *connection =
        container_of(message, struct wish, message)->connection;

    connection->state = CONNECTION_TRANSMISSION;
    registry_served(connection);
    sem_post(&posted);
}

static void on_close(struct loop_message *message)
{
    connection_close(container_of(message, struct wish, message)->connection);
    sem_post(&posted);
}

static void ask(struct connection *connection,
                void (*fn)(struct loop_message *message))
{
    struct wish wish = {.message = {.fn = fn}, .connection = connection};

    loop_send(connection->worker->loop, &wish.message);
    wait_for(&posted);
}

static void on_close_all(struct loop_message *message)
{
    struct worker *worker = worker_current();

    (void)message;
    while (!list_is_empty(&worker->connections))
        connection_close(
            container_of(worker->connections.next, struct connection, link));
    sem_post(&posted);
}

/* --- clients --- */

static void dial(int fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    strcpy(address.sun_path, socket_path);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address),
                     0);
}

static int knock(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    dial(fd);
    return fd;
}

/* Returns the connection once it has begun. */
static struct connection *come(int *ret_fd)
{
    struct connection *connection;

    *ret_fd = knock();
    wait_for(&begun);
    pthread_mutex_lock(&lock);
    connection = newest;
    pthread_mutex_unlock(&lock);
    return connection;
}

static bool is_gone(int fd, int timeout_ms)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    char byte;

    return poll(&ready, 1, timeout_ms) == 1 && read(fd, &byte, 1) <= 0;
}

/* --- tests --- */

static int start(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = sizeof ip_address;
    int fd = mkstemp(socket_path);

    (void)state;
    close(fd);
    unlink(socket_path);
    sem_init(&begun, 0, 0);
    sem_init(&ended, 0, 0);
    sem_init(&posted, 0, 0);
    assert_int_equal(loops_create(workers_n), 0);
    for (unsigned i = 0; i < workers_n; i++) {
        workers[i].index = i;
        workers[i].loop = abd_loop_at(i);
        list_init(&workers[i].connections);
        loop_set_context(workers[i].loop, &workers[i]);
    }
    strcpy(address.sun_path, socket_path);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 100), 0);
    assert_int_equal(listener_add(fd), 0);
    ip_address.sin_family = AF_INET;
    ip_address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(
        bind(fd, (struct sockaddr *)&ip_address, sizeof ip_address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&ip_address, &length),
                     0);
    assert_int_equal(listen(fd, 100), 0);
    assert_int_equal(listener_add(fd), 0);
    assert_int_equal(loops_start(), 0);
    listeners_start();
    return 0;
}

static int end(void **state)
{
    (void)state;
    loops_stop();
    loops_destroy();
    unlink(socket_path);
    return 0;
}

/* Nobody is there after a test. */
static int leave(void **state)
{
    struct loop_message message;

    (void)state;
    for (unsigned i = 0; i < workers_n; i++) {
        message.fn = on_close_all;
        loop_send(workers[i].loop, &message);
        wait_for(&posted);
    }
    assert_int_equal(registry_count(), 0);
    assert_in_range(atomic_load(&most), 0, MAX);
    return 0;
}

static void clients_are_dealt_in_turn(void **state)
{
    struct connection *connections[MAX];
    int fds[MAX];

    (void)state;
    for (unsigned i = 0; i < MAX; i++)
        connections[i] = come(&fds[i]);
    assert_int_equal(registry_count(), MAX);
    for (unsigned i = 1; i < MAX; i++)
        assert_int_equal(connections[i]->worker->index,
                         (connections[i - 1]->worker->index + 1) % workers_n);
    for (unsigned i = 0; i < MAX; i++)
        close(fds[i]);
}

static void addresses_say_who_it_is(void **state)
{
    struct sockaddr_in local;
    socklen_t length = sizeof local;
    char expected[64];
    int fd, on = 0;
    const struct connection *connection = come(&fd);

    (void)state;
    snprintf(expected, sizeof expected, "unix:%d", (int)getpid());
    assert_string_equal(connection->address, expected);
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(
        connect(fd, (struct sockaddr *)&ip_address, sizeof ip_address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&local, &length), 0);
    wait_for(&begun);
    snprintf(expected, sizeof expected, "127.0.0.1:%u", ntohs(local.sin_port));
    assert_string_equal(newest->address, expected);
    length = sizeof on;
    getsockopt(newest->stream.in, IPPROTO_TCP, TCP_NODELAY, &on, &length);
    assert_true(on);
    getsockopt(newest->stream.in, SOL_SOCKET, SO_KEEPALIVE, &on, &length);
    assert_true(on);
    close(fd);
}

static void the_oldest_handshake_gives_way(void **state)
{
    struct connection *connection;
    int fds[MAX + 2];

    (void)state;
    connection = come(&fds[0]);
    ask(connection, on_serve);
    for (unsigned i = 1; i < MAX; i++)
        come(&fds[i]);
    come(&fds[MAX]);
    assert_true(is_gone(fds[1], PATIENCE_S * 1000));
    come(&fds[MAX + 1]);
    assert_true(is_gone(fds[2], PATIENCE_S * 1000));
    /* Not who is served, nor who came later. */
    assert_int_equal(registry_count(), MAX);
    assert_false(is_gone(fds[0], 0));
    assert_false(is_gone(fds[3], 0));
    for (unsigned i = 0; i < MAX + 2; i++)
        close(fds[i]);
}

static void a_flood_ends_with_the_last(void **state)
{
    int fds[60];

    (void)state;
    for (unsigned i = 0; i < 60; i++)
        fds[i] = knock();
    for (unsigned i = 0; i < 60; i++)
        wait_for(&begun);
    for (unsigned i = 0; i < 60 - MAX; i++)
        assert_true(is_gone(fds[i], PATIENCE_S * 1000));
    assert_int_equal(registry_count(), MAX);
    for (unsigned i = 0; i < 60; i++)
        close(fds[i]);
}

static void who_is_served_is_never_dropped(void **state)
{
    struct connection *connections[MAX];
    int fds[MAX + 1];

    (void)state;
    for (unsigned i = 0; i < MAX; i++) {
        connections[i] = come(&fds[i]);
        ask(connections[i], on_serve);
    }
    fds[MAX] = knock();
    assert_false(is_gone(fds[MAX], 100));
    assert_int_equal(sem_trywait(&begun), -1);
    for (unsigned i = 0; i < MAX; i++)
        assert_false(is_gone(fds[i], 0));
    /* It is let in as soon as one leaves. */
    ask(connections[2], on_close);
    wait_for(&begun);
    for (unsigned i = 0; i <= MAX; i++)
        close(fds[i]);
}

static void lack_of_descriptors_is_waited_out(void **state)
{
    const char *preload = getenv("LD_PRELOAD");
    struct rlimit limit, low;
    struct connection *connection;
    int fds[2], next;

    (void)state;
    /* Valgrind's accept() takes the client and closes it. */
    if (preload && strstr(preload, "vgpreload")) {
        print_message("SKIP: valgrind has an accept4() of its own\n");
        skip();
    }
    connection = come(&fds[0]);
    ask(connection, on_serve);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    fds[1] = socket(AF_UNIX, SOCK_STREAM, 0);
    /* The lowest free number, so from now on there is none. */
    next = dup(0);
    close(next);
    low = limit;
    low.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    dial(fds[1]);
    assert_false(is_gone(fds[1], 100));
    assert_int_equal(sem_trywait(&begun), -1);
    /* A client that leaves gives its descriptor back. */
    ask(connection, on_close);
    wait_for(&begun);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    close(fds[0]);
    close(fds[1]);
}

static void on_stopped(void *arg)
{
    assert_ptr_equal(arg, &posted);
    sem_post(&posted);
}

static void stopping_closes_the_sockets(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)state;
    listeners_stop(on_stopped, &posted);
    wait_for(&posted);
    strcpy(address.sun_path, socket_path);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address),
                     -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(fd);
}

int main(void)
{
#define LISTENER_TEST(name) cmocka_unit_test_teardown(name, leave)
    const struct CMUnitTest tests[] = {
        LISTENER_TEST(clients_are_dealt_in_turn),
        LISTENER_TEST(addresses_say_who_it_is),
        LISTENER_TEST(the_oldest_handshake_gives_way),
        LISTENER_TEST(a_flood_ends_with_the_last),
        LISTENER_TEST(who_is_served_is_never_dropped),
        LISTENER_TEST(lack_of_descriptors_is_waited_out),
        LISTENER_TEST(stopping_closes_the_sockets),
    };

    return cmocka_run_group_tests(tests, start, end);
}
