/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The work pool: one queue, one lock, threads that come and go.
 *
 * A thread is started when work is queued and nobody idles who would take it,
 * up to the bound.  Where not even one thread can be had, the work runs on its
 * loop: a loop that is held is better than work that never ends. */
#include "loop/work.h"

#include <errno.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/list.h"
#include "loop/loop.h"
#include "loop/self.h"
#include "loop/thread.h"

#define NS_PER_S 1000000000L

/* Lies in the caller's struct abd_work; ours from the start to done(). */
struct __attribute__((may_alias)) work {
    union {
        struct list link;            /* while it waits or runs */
        struct loop_message message; /* then */
    };
    void (*run)(void *arg);
    void (*done)(void *arg);
    void *arg;
    struct abd_loop *loop;
};

_Static_assert(sizeof(struct work) <= sizeof(struct abd_work),
               "work fits into what plugins reserve for it");

/* The process's; work_start() has no place for a pointer to it.  All but the
 * lock and the conditions is protected by the lock; with it nothing else is
 * locked, and no work runs. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t queued;  /* or finishing */
    pthread_cond_t changed; /* a thread has ended or become idle */
    struct list queue;
    unsigned queue_length;
    unsigned threads, idle, max;
    unsigned idle_ms;
    bool finishing;
} pool = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .queued = PTHREAD_COND_INITIALIZER,
    .changed = PTHREAD_COND_INITIALIZER,
    .queue = {&pool.queue, &pool.queue},
    .max = 16,
    .idle_ms = 10 * 1000,
};

static void on_done(struct loop_message *message)
{
    const struct work *work = container_of(message, struct work, message);

    busy_begin(loop_self, (uintptr_t)work->done);
    work->done(work->arg);
}

/* For work that no thread could be had for: on its loop. */
static void on_run_here(struct loop_message *message)
{
    const struct work *work = container_of(message, struct work, message);

    busy_begin(loop_self, (uintptr_t)work->run);
    work->run(work->arg);
    work->done(work->arg);
}

/* Waits for work; false: for long enough, or for ever. */
static bool wait_locked(void)
{
    struct timespec until;
    int err = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += pool.idle_ms / 1000;
    until.tv_nsec += (long)(pool.idle_ms % 1000) * 1000000;
    if (until.tv_nsec >= NS_PER_S) {
        until.tv_nsec -= NS_PER_S;
        until.tv_sec++;
    }
    pool.idle++;
    pthread_cond_broadcast(&pool.changed);
    while (list_is_empty(&pool.queue) && !pool.finishing && err != ETIMEDOUT)
        err = pthread_cond_clockwait(&pool.queued, &pool.lock, CLOCK_MONOTONIC,
                                     &until);
    pool.idle--;
    return !list_is_empty(&pool.queue);
}

static void *run_thread(void *arg)
{
    (void)arg;
    prctl(PR_SET_NAME, "work", 0, 0, 0);
    pthread_mutex_lock(&pool.lock);
    while (!list_is_empty(&pool.queue) || wait_locked()) {
        struct work *work =
            container_of(list_take_first(&pool.queue), struct work, link);

        pool.queue_length--;
        pthread_mutex_unlock(&pool.lock);
        work->run(work->arg);
        work->message.fn = on_done;
        loop_send(work->loop, &work->message);
        pthread_mutex_lock(&pool.lock);
    }
    pool.threads--;
    pthread_cond_broadcast(&pool.changed);
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

/* True if somebody is there, or will be, who takes what is queued. */
static bool call_thread_locked(void)
{
    if (pool.queue_length <= pool.idle) {
        pthread_cond_signal(&pool.queued);
        return true;
    }
    if (pool.threads < pool.max) {
        pool.threads++;
        if (thread_start(NULL, run_thread, NULL) != 0)
            pool.threads--;
    }
    return pool.threads > 0;
}

LOOP_EXPORTED void abd_work_start(struct abd_loop *loop, struct abd_work *work,
                                  void (*run)(void *arg),
                                  void (*done)(void *arg), void *arg)
{
    struct work *own = (struct work *)work->reserved;
    bool taken;

    *own = (struct work){.run = run, .done = done, .arg = arg, .loop = loop};
    pthread_mutex_lock(&pool.lock);
    list_append(&pool.queue, &own->link);
    pool.queue_length++;
    taken = call_thread_locked();
    if (!taken) {
        list_remove(&own->link);
        pool.queue_length--;
    }
    pthread_mutex_unlock(&pool.lock);
    if (!taken) {
        own->message.fn = on_run_here;
        loop_send(loop, &own->message);
    }
}

void work_set_threads(unsigned max)
{
    pthread_mutex_lock(&pool.lock);
    pool.max = max ? max : 1;
    pthread_mutex_unlock(&pool.lock);
}

void work_set_idle(unsigned ms)
{
    pthread_mutex_lock(&pool.lock);
    pool.idle_ms = ms;
    pthread_mutex_unlock(&pool.lock);
}

unsigned work_count_threads(void)
{
    unsigned n;

    pthread_mutex_lock(&pool.lock);
    n = pool.threads;
    pthread_mutex_unlock(&pool.lock);
    return n;
}

void work_finish(void)
{
    pthread_mutex_lock(&pool.lock);
    /* Threads leave only when the queue is empty; what running work starts is
     * taken by the one that runs it. */
    pool.finishing = true;
    pthread_cond_broadcast(&pool.queued);
    while (pool.threads > 0)
        pthread_cond_wait(&pool.changed, &pool.lock);
    pool.finishing = false;
    pthread_mutex_unlock(&pool.lock);
}
