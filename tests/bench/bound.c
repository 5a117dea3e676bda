/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* abd-bound: what an NBD server could cost at best on this machine.
 *
 * Not a server to use: it trusts its clients.  This file is the command line
 * and the loop around the clients; responder.c is the hot path.  One thread,
 * until it is killed. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/list.h"
#include "base/parse.h"
#include "tests/bench/greet.h"
#include "tests/bench/responder.h"
#include "wire/nbd.h"

#define SECOND UINT64_C(1000000000)
#define EVENTS 64

/* Owned by bound.clients, from accepting to drop_client. */
struct client {
    struct list link; /* of bound.clients */
    struct responder *responder;
    int fd;
    uint32_t interest;
};

struct bound {
    struct store store;
    const char *socket_path;
    uint64_t send_buffer;
    int listener, epoll;
    struct list clients;
};

static const char help[] =
    "abd-bound [options] -U SOCKET\n"
    "  --mode=null|memory|file\n"
    "  --size=BYTES     of null and memory (16M)\n"
    "  --file=PATH      for --mode=file; its size is the disk's\n"
    "  --delay=TIME     before each reply (64ms)\n"
    "  --sndbuf=BYTES   SO_SNDBUF of each connection\n";

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "abd-bound: %s: %s\n", what, why);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static void open_listener(struct bound *bound)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (!bound->socket_path)
        fail("-U", "the path of the socket is missing");
    if (strlen(bound->socket_path) >= sizeof address.sun_path)
        fail(bound->socket_path, "too long for a socket");
    memcpy(address.sun_path, bound->socket_path, strlen(bound->socket_path));
    bound->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bound->listener < 0 ||
        bind(bound->listener, (struct sockaddr *)&address, sizeof address) <
            0 ||
        listen(bound->listener, SOMAXCONN) < 0)
        fail(bound->socket_path, strerrordesc_np(errno));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    bound->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (bound->epoll < 0 ||
        epoll_ctl(bound->epoll, EPOLL_CTL_ADD, bound->listener, &event) < 0)
        fail("epoll", strerrordesc_np(errno));
}

static void open_store(struct store *store, const char *path)
{
    struct stat status;
    uint64_t length = store->size;

    if (store->mode == STORE_FILE) {
        if (!path)
            fail("--file", "the path is missing");
        store->fd = open(path, O_RDWR | O_CLOEXEC);
        if (store->fd < 0 || fstat(store->fd, &status) < 0)
            fail(path, strerrordesc_np(errno));
        store->size = (uint64_t)status.st_size;
    } else {
        if (store->mode == STORE_NULL)
            length = RESPONDER_LONGEST;
        store->memory =
            mmap(NULL, length, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (store->memory == MAP_FAILED)
            fail("memory", strerrordesc_np(errno));
    }
    store->receive_buffer = malloc(RESPONDER_ROOM + RESPONDER_RECEIVE);
    if (!store->receive_buffer)
        fail("memory", strerrordesc_np(errno));
}

static void drop_client(struct client *client)
{
    list_remove(&client->link);
    responder_destroy(client->responder);
    free(client);
}

static uint16_t flags_of(const struct store *store)
{
    uint16_t flags =
        NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_CAN_MULTI_CONN;

    if (store->mode != STORE_FILE)
        flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES;
    return flags;
}

static void accept_client(struct bound *bound)
{
    bool structured;
    int fd = accept4(bound->listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return;
    int bytes = (int)bound->send_buffer;
    if (bytes > 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    if (greet(fd, bound->store.size, flags_of(&bound->store), &structured)) {
        close(fd);
        return;
    }
    struct client *client = calloc(1, sizeof *client);
    if (!client)
        fail("memory", strerrordesc_np(errno));
    client->fd = fd;
    client->responder = responder_create(&bound->store, fd, structured);
    if (!client->responder)
        fail("memory", strerrordesc_np(errno));
    list_append(&bound->clients, &client->link);
    client->interest = EPOLLIN;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    if (epoll_ctl(bound->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll", strerrordesc_np(errno));
}

/* False: the client is no more. */
static bool serve_client(struct bound *bound, struct client *client,
                         uint32_t events, uint64_t now)
{
    struct responder *responder = client->responder;
    int err = 0;

    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        err = responder_receive(responder, now);
    else
        err = responder_answer(responder, now);
    if (err) {
        drop_client(client);
        return false;
    }
    uint32_t wanted = (responder_has_room(responder) ? EPOLLIN : 0) |
                      (responder_is_blocked(responder) ? EPOLLOUT : 0);
    if (wanted != client->interest) {
        struct epoll_event event = {.events = wanted, .data.ptr = client};
        epoll_ctl(bound->epoll, EPOLL_CTL_MOD, client->fd, &event);
        client->interest = wanted;
    }
    return true;
}

/* Answers what has become due; returns when the next answer will. */
static uint64_t serve_due(struct bound *bound)
{
    uint64_t now = now_ns(), next = UINT64_MAX;

    list_for_each_safe (link, &bound->clients) {
        struct client *client = container_of(link, struct client, link);

        if (responder_due(client->responder) <= now &&
            !serve_client(bound, client, 0, now))
            continue;
        uint64_t due = responder_due(client->responder);
        if (due < next)
            next = due;
    }
    return next;
}

static _Noreturn void serve(struct bound *bound)
{
    struct epoll_event events[EVENTS];
    bool delayed = bound->store.delay_ns > 0;

    for (;;) {
        uint64_t due = delayed ? serve_due(bound) : UINT64_MAX;
        uint64_t now = delayed ? now_ns() : 0;
        uint64_t wait = due > now ? due - now : 0;
        struct timespec timeout = {(time_t)(wait / SECOND),
                                   (long)(wait % SECOND)};
        int n = epoll_pwait2(bound->epoll, events, EVENTS,
                             due == UINT64_MAX ? NULL : &timeout, NULL);
        now = delayed ? now_ns() : 0;
        for (int i = 0; i < n; i++) {
            struct client *client = events[i].data.ptr;
            if (client)
                serve_client(bound, client, events[i].events, now);
            else
                accept_client(bound);
        }
    }
}

static uint64_t size_value(const char *option)
{
    const char *why;
    uint64_t value;

    if (parse_size(optarg, &value, &why) != 0)
        fail(option, why);
    return value;
}

static void parse_mode(struct store *store)
{
    if (strcmp(optarg, "null") == 0)
        store->mode = STORE_NULL;
    else if (strcmp(optarg, "memory") == 0)
        store->mode = STORE_MEMORY;
    else if (strcmp(optarg, "file") == 0)
        store->mode = STORE_FILE;
    else
        fail("--mode", "expected null, memory or file");
}

static const char *parse_options(int argc, char **argv, struct bound *bound)
{
    static const struct option long_options[] = {
        {"unix", required_argument, NULL, 'U'},
        {"mode", required_argument, NULL, 'm'},
        {"size", required_argument, NULL, 's'},
        {"file", required_argument, NULL, 'f'},
        {"delay", required_argument, NULL, 'd'},
        {"sndbuf", required_argument, NULL, 'b'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char *path = NULL, *why;
    int choice;

    while ((choice = getopt_long(argc, argv, "U:", long_options, NULL)) != -1) {
        if (choice == 'U')
            bound->socket_path = optarg;
        else if (choice == 'm')
            parse_mode(&bound->store);
        else if (choice == 's')
            bound->store.size = size_value("--size");
        else if (choice == 'f')
            path = optarg;
        else if (choice == 'b')
            bound->send_buffer = size_value("--sndbuf");
        else if (choice == 'h')
            exit(fputs(help, stdout) == EOF);
        else if (choice != 'd')
            exit(1); /* getopt_long has said why */
        else if (parse_delay(optarg, &bound->store.delay_ns, &why) != 0)
            fail("--delay", why);
    }
    if (optind < argc)
        fail(argv[optind], "unexpected; see --help");
    return path;
}

int main(int argc, char **argv)
{
    struct bound bound = {.store = {.size = 16 << 20}};
    struct rlimit limit;

    const char *path = parse_options(argc, argv, &bound);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    list_init(&bound.clients);
    open_store(&bound.store, path);
    open_listener(&bound);
    serve(&bound);
}
