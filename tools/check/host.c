/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

#include "tools/check/host.h"

#include "tools/check/disk.h"
#include "tools/check/options.h"
#include "tools/check/rules.h"
#include "tools/check/stack.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

static struct worker workers[LOOPS_MAX];

void host_die(const char *what)
{
    fprintf(stderr, "abdkit-check: %s\n", what);
    _exit(2);
}

uint64_t host_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

struct worker *host_worker_of(const struct abd_loop *loop)
{
    return loop_context(loop);
}

struct worker *host_worker(void)
{
    return loop_self ? loop_context(loop_self) : NULL;
}

struct host_call host_enter(const char *who, const char *callback)
{
    struct worker *worker = host_worker();
    struct host_call before = {atomic_load(&worker->who),
                               atomic_load(&worker->callback)};

    loop_set_busy_with(worker->loop, who);
    atomic_store(&worker->callback, callback);
    atomic_store(&worker->who, who);
    rules_try(RULE_BLOCKING);
    rules_try(RULE_LOOP);
    rules_try(RULE_CRASH);
    return before;
}

void host_leave(struct host_call before)
{
    struct worker *worker = host_worker();

    loop_set_busy_with(worker->loop, before.who);
    atomic_store(&worker->callback, before.callback);
    atomic_store(&worker->who, before.who);
}

const char *host_busy_with(void)
{
    struct worker *worker = host_worker();
    const char *who = worker ? atomic_load(&worker->who) : NULL;

    return who ? who : stack_name();
}

const char *host_stuck(const char **ret_callback)
{
    for (unsigned i = 0; i < abd_loop_count(); i++) {
        const char *who = atomic_load(&workers[i].who);

        if (who) {
            *ret_callback = atomic_load(&workers[i].callback);
            return who;
        }
    }
    return NULL;
}

/* For how long the thread was ready to run, but others did: of that no plugin
 * is guilty. */
static uint64_t read_waited(struct worker *worker)
{
    char text[128];
    uint64_t ran = 0, waited = 0;
    ssize_t n;

    if (worker->waited_fd < 0)
        worker->waited_fd =
            open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    n = pread(worker->waited_fd, text, sizeof text - 1, 0);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    /* NOLINTNEXTLINE(cert-err34-c): the kernel wrote them. */
    if (sscanf(text, "%" SCNu64 " %" SCNu64, &ran, &waited) != 2)
        return 0;
    return waited;
}

/* On the thread of the loop, when the callback has returned. */
static void on_slow(const char *name, uint64_t ns)
{
    struct worker *worker = host_worker();
    const char *callback = atomic_load(&worker->callback);
    uint64_t waited_ns = read_waited(worker) - worker->waited_ns;

    name = stack_name_of_file(name);
    if (!name || waited_ns > ns || ns - waited_ns <= options.held_ns)
        return;
    rules_break(RULE_BLOCKING, name, "%s held a loop for %" PRIu64 " ms",
                callback ? callback : "a callback", ns / NS_PER_MS);
}

static bool on_kick_stage(void *arg)
{
    struct worker *worker = arg;
    struct list *link;

    while ((link = list_take_first(&worker->kicks)))
        disk_kick(container_of(link, struct lane, kick_link));
    worker->waited_ns = read_waited(worker);
    return false;
}

/* --- from the main thread --- */

bool host_wait(sem_t *sem, uint64_t ns)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(ns / NS_PER_S);
    until.tv_nsec += (long)(ns % NS_PER_S);
    if (until.tv_nsec >= (long)NS_PER_S) {
        until.tv_nsec -= (long)NS_PER_S;
        until.tv_sec++;
    }
    while (sem_timedwait(sem, &until)) {
        if (errno == ETIMEDOUT)
            return false;
    }
    return true;
}

struct run {
    struct loop_message message;
    void (*fn)(void *arg);
    void *arg;
    sem_t done;
};

static void on_run(struct loop_message *message)
{
    struct run *run = container_of(message, struct run, message);

    run->fn(run->arg);
    sem_post(&run->done);
}

void host_run(struct abd_loop *loop, void (*fn)(void *arg), void *arg)
{
    /* Not on the stack: who gives up waiting must leave it behind. */
    struct run *run = calloc(1, sizeof *run);

    if (!run)
        host_die("there is no memory left");
    run->fn = fn;
    run->arg = arg;
    run->message.fn = on_run;
    sem_init(&run->done, 0, 0);
    loop_send(loop, &run->message);
    if (!host_wait(&run->done, options.timeout_ns)) {
        const char *callback = "a callback";
        const char *who = host_stuck(&callback);

        rules_stop(RULE_BLOCKING, who ? who : stack_name(),
                   "%s has not returned", callback);
    }
    sem_destroy(&run->done);
    free(run);
}

/* A fault that is blocked ends the process without a word. */
static void unblock_faults(void *arg)
{
    sigset_t faults;

    (void)arg;
    sigemptyset(&faults);
    sigaddset(&faults, SIGSEGV);
    sigaddset(&faults, SIGBUS);
    sigaddset(&faults, SIGILL);
    sigaddset(&faults, SIGFPE);
    sigaddset(&faults, SIGABRT);
    pthread_sigmask(SIG_UNBLOCK, &faults, NULL);
}

void host_start(unsigned loops)
{
    if (loops_create(loops))
        host_die("the loops can't be created");
    loops_set_slow_report(on_slow);
    for (unsigned i = 0; i < loops; i++) {
        workers[i].loop = abd_loop_at(i);
        workers[i].index = i;
        workers[i].waited_fd = -1;
        list_init(&workers[i].kicks);
        loop_set_context(workers[i].loop, &workers[i]);
        loop_set_stage(workers[i].loop, LOOP_STAGE_KICK, on_kick_stage,
                       &workers[i]);
    }
    if (loops_start())
        host_die("the loops can't be started");
    for (unsigned i = 0; i < loops; i++)
        host_run(abd_loop_at(i), unblock_faults, NULL);
}

/* --- the rest of abd-loop.h --- */

/* A plugin may want to end the server; there is none. */
LOOP_EXPORTED void abd_shutdown(void)
{
}

/* The kit alone decides when a client goes. */
LOOP_EXPORTED void abd_disconnect(const struct abd_client *client)
{
    (void)client;
}
