/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The server as a whole: what the main thread starts, waits for and ends. */
#include "server/server.h"

#include "server/connection.h"
#include "server/disk.h"
#include "server/layer.h"
#include "server/listener.h"
#include "server/registry.h"
#include "server/request.h"
#include "server/settings.h"
#include "server/stall.h"
#include "server/worker.h"

#include "base/log.h"
#include "loop/loop.h"
#include "loop/work.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static int event_fd = -1;   /* for main() */
static int drained_fd = -1; /* for server_drain() */
static atomic_bool shutdown_asked, last_left;

/* --- events --- */

static void signal_fd(int fd)
{
    uint64_t one = 1;
    ssize_t ignored = write(fd, &one, sizeof one);

    (void)ignored; /* full means set */
}

static void clear_fd(int fd)
{
    uint64_t value;
    ssize_t ignored = read(fd, &value, sizeof value);

    (void)ignored;
}

int server_event_fd(void)
{
    return event_fd;
}

struct server_events server_take_events(void)
{
    struct server_events events;

    clear_fd(event_fd);
    events.shutdown = atomic_exchange(&shutdown_asked, false);
    events.last_left = atomic_exchange(&last_left, false);
    return events;
}

void server_notify_shutdown(void)
{
    atomic_store(&shutdown_asked, true);
    signal_fd(event_fd);
}

void server_notify_last_left(void)
{
    atomic_store(&last_left, true);
    signal_fd(event_fd);
    signal_fd(drained_fd);
}

__attribute__((visibility("default"))) void abd_shutdown(void)
{
    server_notify_shutdown();
}

__attribute__((visibility("default"))) void abd_memory(
    const struct abd_instance *instance, struct abd_memory *ret)
{
    (void)instance;
    arena_range(server_arena, &ret->base, &ret->length, &ret->fd);
}

/* --- something to be done on each loop, and waited for --- */

static struct errand {
    struct loop_message message;
    struct worker *worker;
    void (*fn)(struct worker *worker);
} errands[LOOPS_MAX];
static _Atomic unsigned errands_left;

static void on_errand(struct loop_message *message)
{
    struct errand *errand = container_of(message, struct errand, message);

    errand->fn(errand->worker);
    /* Pairs with the acquire in run_everywhere(). */
    if (atomic_fetch_sub_explicit(&errands_left, 1, memory_order_release) == 1)
        signal_fd(drained_fd);
}

static void run_from_to(unsigned from, unsigned to,
                        void (*fn)(struct worker *worker))
{
    struct pollfd poll_fd = {.fd = drained_fd, .events = POLLIN};

    atomic_store(&errands_left, to - from);
    for (unsigned i = from; i < to; i++) {
        errands[i].worker = &workers[i];
        errands[i].fn = fn;
        errands[i].message.fn = on_errand;
        loop_send(workers[i].loop, &errands[i].message);
    }
    while (atomic_load_explicit(&errands_left, memory_order_acquire) > 0) {
        poll(&poll_fd, 1, -1);
        clear_fd(drained_fd);
    }
}

static void run_everywhere(void (*fn)(struct worker *worker))
{
    run_from_to(0, workers_n, fn);
}

/* --- beginning --- */

static void on_second(void *arg)
{
    struct worker *worker = arg;

    stall_check(worker);
    if (worker->index == 0 && !memory_is_short(worker->memory))
        arena_trim(server_arena);
}

static void start_timer(struct worker *worker)
{
    abd_timer_start(&worker->timer, SECOND, SECOND, on_second, worker);
}

static int create(void)
{
    struct arena *arena;
    int err;

    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    drained_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event_fd < 0 || drained_fd < 0)
        return errno;
    disks_init();
    work_set_threads(settings.work_threads);
    err = loops_create(settings.loops);
    if (!err)
        err = arena_create(settings.memory, workers_extra(abd_loop_count()),
                           chain.registers, &arena);
    if (!err) {
        memory_lend(arena);
        err = workers_create(arena);
    }
    if (!err)
        err = loops_start();
    if (err)
        return err;
    run_everywhere(start_timer);
    return 0;
}

int server_create(void)
{
    unsigned before = log_errors();
    int err = create();

    if (err && log_errors() == before)
        log_write(ABD_ERROR, NULL,
                  "can't set up the event loops and %llu MiB of memory: %s",
                  (unsigned long long)(settings.memory / MIB), strerror(err));
    return err;
}

int server_serve(int in, int out)
{
    if (!registry_reserve())
        return EBUSY;
    return connection_create(&workers[0], in, out, "stdin");
}

/* --- ending --- */

static void begin_drain(struct worker *worker)
{
    worker->draining = true;
    list_for_each_safe (link, &worker->connections)
        connection_drain(container_of(link, struct connection, link));
}

static void cancel_all(struct worker *worker)
{
    list_for_each_safe (link, &worker->connections)
        connection_close(container_of(link, struct connection, link));
}

static void on_listeners_closed(void *arg)
{
    (void)arg;
    signal_fd(drained_fd);
}

static atomic_bool disks_closed;

static void on_disks_closed(void *arg)
{
    (void)arg;
    atomic_store(&disks_closed, true);
    signal_fd(drained_fd);
}

static bool are_clients_gone(void)
{
    return registry_count() == 0;
}

static bool are_disks_closed(void)
{
    return atomic_load(&disks_closed);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

/* Until the question is answered with yes (true), or the time is over, or the
 * user is impatient. */
static bool wait_until(bool (*question)(void), uint64_t deadline_ns,
                       int abort_fd)
{
    struct pollfd fds[2] = {
        {.fd = drained_fd, .events = POLLIN},
        {.fd = abort_fd, .events = POLLIN},
    };

    while (!question()) {
        uint64_t now = now_ns();
        struct timespec left;

        if (now >= deadline_ns || fds[1].revents & POLLIN)
            return false;
        left.tv_sec = (time_t)((deadline_ns - now) / SECOND);
        left.tv_nsec = (long)((deadline_ns - now) % SECOND);
        if (ppoll(fds, 2, &left, NULL) > 0 && fds[0].revents & POLLIN)
            clear_fd(drained_fd);
    }
    return true;
}

/* Each loop adds what it has in flight, under the table's lock. */
static void count_lane(struct disk *disk, void *arg)
{
    const struct worker *worker = arg;

    if (worker->index == 0)
        disk->unfinished = 0;
    disk->unfinished += disk->lanes[worker->index].in_flight;
}

static void count_unfinished(struct worker *worker)
{
    disks_for_each(count_lane, worker);
}

/* arg: set if there is something. */
static void report_disk(struct disk *disk, void *arg)
{
    const char *name = disk->layer->instance.name;

    if (disk->unfinished || disk->state == DISK_OPENING)
        *(bool *)arg = true;
    if (disk->unfinished)
        log_write(ABD_ERROR, name,
                  "export \"%s\": %u request%s still in flight at the end "
                  "of the drain timeout",
                  disk->name, disk->unfinished,
                  disk->unfinished == 1 ? " is" : "s are");
    if (disk->state == DISK_OPENING)
        log_write(ABD_ERROR, name,
                  "export \"%s\": it is still being opened at the end of "
                  "the drain timeout",
                  disk->name);
}

static bool is_readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    return poll(&poll_fd, 1, 0) > 0;
}

/* The time is over: is anything still with plugins?  It is named; clients that
 * nothing but themselves keeps here are no reason to fail. */
static bool has_unfinished(void)
{
    unsigned clients = registry_count();
    bool unfinished = false;

    for (unsigned i = 0; i < workers_n; i++)
        run_from_to(i, i + 1, count_unfinished);
    disks_for_each(report_disk, &unfinished);
    if (!unfinished && clients > 0)
        log_write(ABD_WARNING, NULL,
                  "%u client%s at the end of the drain timeout", clients,
                  clients == 1 ? " is disconnected" : "s are disconnected");
    return unfinished;
}

bool server_drain(int abort_fd)
{
    uint64_t deadline_ns = now_ns() + settings.drain_timeout_ns;
    bool finished = true;

    listeners_stop(on_listeners_closed, NULL);
    run_everywhere(begin_drain);
    if (!wait_until(are_clients_gone, deadline_ns, abort_fd)) {
        if (is_readable(abort_fd))
            return false;
        finished = !has_unfinished();
        /* What is still there is cancelled, and gets a second more. */
        run_everywhere(cancel_all);
        if (!wait_until(are_clients_gone, now_ns() + SECOND, abort_fd))
            return false;
    }
    disks_close_all(on_disks_closed, NULL);
    if (!wait_until(are_disks_closed, deadline_ns + SECOND, abort_fd)) {
        if (!is_readable(abort_fd))
            log_write(ABD_ERROR, NULL, "some disks did not close, giving up");
        return false;
    }
    loops_stop();
    return finished;
}
