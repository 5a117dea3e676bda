/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Accepting clients, on loop 0.
 *
 *     ACCEPTING -> FULL or BROKE -> ACCEPTING ... -> STOPPED
 *
 * FULL: somebody is there, but as many as may be are served or negotiate; the
 * oldest handshake gives way, or the listener waits for someone to leave.
 * BROKE: no descriptors or memory; it waits for that, too, and for a timer. */
#include "server/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "server/connection.h"
#include "server/limits.h"
#include "server/registry.h"
#include "server/settings.h"
#include "server/worker.h"

/* Clients accepted in one go, before the loop has a look at others. */
#define ACCEPTS 64
/* When to try again if nobody leaves: one that was told to give way may be held
 * up by its disk's open(), and one on its way between loops can't be told. */
#define FULL_RETRY_NS  (SECOND / 50)
#define BROKE_RETRY_NS SECOND

/* Made by listener_add(), freed when the listeners are stopped.  Loop 0. */
struct listener {
    struct list link;
    int fd;
    struct abd_watch watch;
};

static struct list listeners = {&listeners, &listeners};
static enum {
    LISTENERS_IDLE, /* not started yet */
    LISTENERS_ACCEPTING,
    LISTENERS_FULL,
    LISTENERS_BROKE,
    LISTENERS_STOPPED,
} state;
static struct abd_timer retry;
static unsigned next_worker;
static struct loop_message start_message, stop_message, left_message;
static void (*stop_done)(void *arg);
static void *stop_arg;

static void resume(void);

/* Names of clients. */

static void describe_unix(int fd, char *buf, size_t size)
{
    struct ucred peer;
    socklen_t length = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
        snprintf(buf, size, "unix:");
    else
        snprintf(buf, size, "unix:%d", (int)peer.pid);
}

static void describe_ip(const struct sockaddr *address, socklen_t length,
                        char *buf, size_t size)
{
    char host[64], port[8];

    if (getnameinfo(address, length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        snprintf(buf, size, "ip:");
    else if (address->sa_family == AF_INET6)
        snprintf(buf, size, "[%s]:%s", host, port);
    else
        snprintf(buf, size, "%s:%s", host, port);
}

static void describe(int fd, const struct sockaddr_storage *address,
                     socklen_t length, char *buf, size_t size)
{
    const struct sockaddr_vm *vm = (const struct sockaddr_vm *)address;

    switch (address->ss_family) {
    case AF_UNIX:
        describe_unix(fd, buf, size);
        break;
    case AF_INET:
    case AF_INET6:
        describe_ip((const struct sockaddr *)address, length, buf, size);
        break;
    case AF_VSOCK:
        snprintf(buf, size, "vsock:%u:%u", vm->svm_cid, vm->svm_port);
        break;
    default:
        snprintf(buf, size, "socket:");
        break;
    }
}

/* Whatever fails here costs speed only. */
static void tune(int fd, int family)
{
    int on = 1, send_buffer = SEND_BUFFER;

    switch (family) {
    case AF_UNIX:
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
        break;
    case AF_INET:
    case AF_INET6:
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (settings.keepalive)
            setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        break;
    default:
        break;
    }
}

/* Waiting and going on. */

static void unwatch(void)
{
    list_for_each (link, &listeners)
        abd_watch_stop(&container_of(link, struct listener, link)->watch);
}

static void on_retry(void *arg)
{
    (void)arg;
    resume();
}

/* A client has left. */
static void on_left(struct loop_message *message)
{
    (void)message;
    registry_took_message();
    if (state == LISTENERS_FULL || state == LISTENERS_BROKE)
        resume();
}

/* Somebody knocks, but there are as many as may be. */
static void pause_full(void)
{
    state = LISTENERS_FULL;
    unwatch();
    left_message.fn = on_left;
    if (!registry_await_room(&left_message)) {
        resume();
        return;
    }
    /* Without an unfinished handshake only a client's end helps. */
    if (registry_evict_oldest())
        abd_timer_start(&retry, FULL_RETRY_NS, 0, on_retry, NULL);
}

static void pause_broke(const char *what, int err)
{
    log_write(ABD_WARNING, NULL, "%s: %s; no clients are accepted for now",
              what, strerror(err));
    state = LISTENERS_BROKE;
    unwatch();
    left_message.fn = on_left;
    registry_await_leaver(&left_message);
    abd_timer_start(&retry, BROKE_RETRY_NS, 0, on_retry, NULL);
}

/* Accepting. */

static void deal(int fd, const struct sockaddr_storage *from, socklen_t length)
{
    struct worker *worker = &workers[next_worker++ % workers_n];
    char address[sizeof(((struct connection *)NULL)->address)];
    int err;

    describe(fd, from, length, address, sizeof address);
    tune(fd, from->ss_family);
    err = connection_create(worker, fd, fd, address);
    if (err) {
        registry_unreserve();
        log_write(ABD_ERROR, address, "no connection: %s", strerror(err));
    }
}

/* The client's end before it was accepted, and the like. */
static bool concerns_one_client(int err)
{
    switch (err) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
        return true;
    default:
        return false;
    }
}

/* Accepts one; false: enough for now. */
static bool accept_one(struct listener *listener)
{
    struct sockaddr_storage from = {0};
    socklen_t length = sizeof from;
    int fd = accept4(listener->fd, (struct sockaddr *)&from, &length,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);
    int err;

    if (fd >= 0) {
        deal(fd, &from, length);
        return true;
    }
    err = errno;
    registry_unreserve();
    if (concerns_one_client(err))
        return true;
    if (err != EAGAIN)
        pause_broke("accept", err);
    return false;
}

static void on_readable(void *arg, uint32_t ready)
{
    struct listener *listener = arg;

    (void)ready;
    for (unsigned n = 0; n < ACCEPTS; n++) {
        if (!registry_reserve()) {
            /* Later in the batch it is not sure that anybody is left. */
            if (n == 0)
                pause_full();
            return;
        }
        if (!accept_one(listener))
            return;
    }
}

static void resume(void)
{
    abd_timer_stop(&retry);
    state = LISTENERS_ACCEPTING;
    list_for_each (link, &listeners) {
        struct listener *listener = container_of(link, struct listener, link);
        int err;

        abd_watch_stop(&listener->watch);
        err = abd_watch_start(&listener->watch, listener->fd, ABD_READABLE,
                              on_readable, listener);
        if (err) {
            pause_broke("waiting for clients", err);
            return;
        }
    }
}

static void on_start(struct loop_message *message)
{
    (void)message;
    if (state == LISTENERS_IDLE)
        resume();
}

static void on_stop(struct loop_message *message)
{
    struct list *link;

    (void)message;
    state = LISTENERS_STOPPED;
    abd_timer_stop(&retry);
    while ((link = list_take_first(&listeners))) {
        struct listener *listener = container_of(link, struct listener, link);

        abd_watch_stop(&listener->watch);
        close(listener->fd);
        free(listener);
    }
    stop_done(stop_arg);
}

int listener_add(int fd)
{
    struct listener *listener = calloc(1, sizeof *listener);
    int flags = fcntl(fd, F_GETFL);

    /* One that was inherited may block; a client may have gone by the time it
     * is accepted. */
    if (!listener || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        int err = listener ? errno : ENOMEM;

        free(listener);
        close(fd);
        return err;
    }
    listener->fd = fd;
    list_append(&listeners, &listener->link);
    return 0;
}

void listeners_start(void)
{
    start_message.fn = on_start;
    loop_send(abd_loop_at(0), &start_message);
}

void listeners_stop(void (*done)(void *arg), void *arg)
{
    stop_done = done;
    stop_arg = arg;
    stop_message.fn = on_stop;
    loop_send(abd_loop_at(0), &stop_message);
}
