/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The set of loops, and the turn that each takes again and again.
 *
 * A turn costs one epoll_wait and nothing else as long as nobody else queues:
 * the loop's own messages lie in a plain list, and the clock is read without
 * entering the kernel.  What is queued from elsewhere: see mailbox.h.  The
 * callbacks of watches, timers and hooks are in files of their own. */
#include "loop/loop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "loop/self.h"
#include "loop/thread.h"

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

/* Looking for an event that is expected: for as long as two wake-ups of an idle
 * processor cost, and after it has come so soon so many times. */
#define SPIN_NS        (UINT64_C(50) * 1000)
#define SPIN_AFTER     8
#define SPIN_AFTER_MAX (1U << 16)

#define LONGEST_MS 60000 /* of one sleep where an int has to hold it */

/* Lies in the caller's struct abd_task; ours from the post to the call. */
struct __attribute__((may_alias)) task {
    struct loop_message message;
    void (*fn)(void *arg);
    void *arg;
};

_Static_assert(sizeof(struct task) <= sizeof(struct abd_task),
               "a task fits into what plugins reserve for it");

/* Changed while no loop runs. */
static struct abd_loop *loops[LOOPS_MAX];
static unsigned loops_count;

_Thread_local struct abd_loop *loop_self;

uint64_t loop_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* One writer, so this needs no locked instruction. */
static void count(_Atomic uint64_t *counter)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);

    atomic_store_explicit(counter, value + 1, memory_order_relaxed);
}

/* Sleeps until an event or until_ns. */
static int sleep_until(struct abd_loop *loop, uint64_t until_ns)
{
    uint64_t now_ns = loop_clock_ns();
    uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    uint64_t left_ms;

    if (loop->has_pwait2) {
        /* The kernel's own shape, on every architecture. */
        struct {
            int64_t tv_sec, tv_nsec;
        } left = {(int64_t)(left_ns / NS_PER_S), (int64_t)(left_ns % NS_PER_S)};
        int n = (int)syscall(SYS_epoll_pwait2, loop->epoll_fd, loop->batch,
                             LOOP_BATCH, &left, NULL, 0);

        /* Old kernels don't know it, old sandboxes forbid it. */
        if (n >= 0 || (errno != ENOSYS && errno != EPERM))
            return n;
        loop->has_pwait2 = false;
    }
    /* Rounded up: late is allowed, early is not. */
    left_ms = (left_ns + NS_PER_MS - 1) / NS_PER_MS;
    if (left_ms > LONGEST_MS)
        left_ms = LONGEST_MS;
    return epoll_wait(loop->epoll_fd, loop->batch, LOOP_BATCH, (int)left_ms);
}

void loop_expect_soon(struct abd_loop *loop)
{
    loop->expects = true;
}

/* Looks for events without sleeping, for as long as it pays.  The announcement
 * of the sleep stands, so messages show as events, too. */
static int spin(struct abd_loop *loop, uint64_t until_ns)
{
    uint64_t end_ns = loop_clock_ns() + SPIN_NS;
    int n;

    if (end_ns > until_ns)
        end_ns = until_ns;
    do {
        n = epoll_wait(loop->epoll_fd, loop->batch, LOOP_BATCH, 0);
    } while (n == 0 && loop_clock_ns() < end_ns);
    return n;
}

static int sleep_for_events(struct abd_loop *loop)
{
    uint64_t until_ns = timer_next_ns(loop);

    if (until_ns == UINT64_MAX)
        return epoll_wait(loop->epoll_fd, loop->batch, LOOP_BATCH, -1);
    return sleep_until(loop, until_ns);
}

/* Who shares a processor with the one that it waits for keeps that from coming,
 * until the kernel takes the processor away.  So each time in vain doubles how
 * much must speak for the next, and it takes more than two successes to make up
 * for it. */
static void learn(struct abd_loop *loop, bool came)
{
    if (!came && loop->quick_wanted < SPIN_AFTER_MAX)
        loop->quick_wanted *= 2;
    else if (came && loop->quick_wanted > SPIN_AFTER)
        loop->quick_wanted -= loop->quick_wanted / 4;
}

/* The same where an event is expected: is it as quick as the ones before? */
static int sleep_shortly(struct abd_loop *loop)
{
    uint64_t begin_ns = loop_clock_ns();
    int n = 0;

    if (loop->quick >= loop->quick_wanted && loop->has_others) {
        count(&loop->spins);
        n = spin(loop, timer_next_ns(loop));
        learn(loop, n > 0);
    }
    if (n == 0)
        n = sleep_for_events(loop);
    if (loop_clock_ns() - begin_ns < SPIN_NS)
        loop->quick++;
    else
        loop->quick = 0;
    return n;
}

/* Fills the batch; sleeps only if nothing is left to do. */
static void wait_for_events(struct abd_loop *loop)
{
    bool may_sleep = !loop->again && !loop->mailbox.first &&
                     mailbox_prepare_sleep(&loop->mailbox);
    int n;

    if (may_sleep)
        count(&loop->sleeps);
    if (!may_sleep)
        n = epoll_wait(loop->epoll_fd, loop->batch, LOOP_BATCH, 0);
    else if (loop->expects)
        n = sleep_shortly(loop);
    else
        n = sleep_for_events(loop);
    loop->expects = false;
    if (may_sleep)
        mailbox_withdraw(&loop->mailbox);
    loop->batch_next = 0;
    loop->batch_count = n > 0 ? (unsigned)n : 0;
    loop->now_ns = loop_clock_ns();
    busy_reset(loop);
}

/* Takes the mailbox's event out of the batch: it is read here, before the
 * stack is taken. */
static void read_wakeup(struct abd_loop *loop)
{
    for (unsigned i = 0; i < loop->batch_count; i++) {
        if (loop->batch[i].data.ptr != &loop->mailbox)
            continue;
        loop->batch[i].data.ptr = NULL;
        mailbox_read_event(&loop->mailbox);
        count(&loop->wakeups);
        return;
    }
}

/* Calls what was queued up to now; what the callbacks queue waits for the next
 * turn, so that they can't keep the loop from its events. */
static void run_messages(struct abd_loop *loop)
{
    struct loop_message *message;

    mailbox_take(&loop->mailbox);
    message = loop->mailbox.first;
    loop->mailbox.first = NULL;
    loop->mailbox.last_next = &loop->mailbox.first;
    while (message) {
        struct loop_message *next = message->next;

        busy_begin(loop, (uintptr_t)message->fn);
        message->fn(message);
        busy_check(loop);
        message = next;
    }
}

static void run_stages(struct abd_loop *loop)
{
    loop->again = false;
    for (unsigned i = 0; i < LOOP_STAGES; i++) {
        if (!loop->stages[i].fn)
            continue;
        busy_begin(loop, 0);
        if (loop->stages[i].fn(loop->stages[i].arg))
            loop->again = true;
        busy_check(loop);
    }
}

static void *run_loop(void *arg)
{
    struct abd_loop *loop = arg;
    char name[16];

    loop_self = loop;
    snprintf(name, sizeof name, "loop%u", loop->index);
    prctl(PR_SET_NAME, name, 0, 0, 0);
    /* Wake up when a timer is due, not up to 50 us later. */
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    loop->has_others = get_nprocs() > 1;
    loop->quick_wanted = SPIN_AFTER;
    while (!loop->stop) {
        count(&loop->turns);
        wait_for_events(loop);
        read_wakeup(loop);
        watch_run(loop);
        timer_run(loop);
        run_messages(loop);
        hook_run(loop);
        run_stages(loop);
    }
    return NULL;
}

static void on_stop(struct loop_message *message)
{
    (void)message;
    loop_self->stop = true;
}

static void loop_destroy(struct abd_loop *loop)
{
    if (!loop)
        return;
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    mailbox_finish(&loop->mailbox);
    free(loop);
}

static int loop_create(unsigned index, struct abd_loop **ret)
{
    struct abd_loop *loop = aligned_alloc(64, sizeof *loop);
    struct epoll_event event = {.events = EPOLLIN};
    int err;

    if (!loop)
        return ENOMEM;
    memset(loop, 0, sizeof *loop);
    loop->index = index;
    loop->has_pwait2 = true;
    loop->stop_message.fn = on_stop;
    list_init(&loop->hooks);
    list_init(&loop->hooks_to_run);
    loop->mailbox.event_fd = -1;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    err = loop->epoll_fd < 0 ? errno : mailbox_init(&loop->mailbox);
    event.data.ptr = &loop->mailbox;
    if (!err && epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->mailbox.event_fd,
                          &event) < 0)
        err = errno;
    if (err) {
        loop_destroy(loop);
        return err;
    }
    *ret = loop;
    return 0;
}

int loops_create(unsigned n)
{
    if (n < 1 || n > LOOPS_MAX)
        return EINVAL;
    if (loops_count)
        return EBUSY;
    for (unsigned i = 0; i < n; i++) {
        int err = loop_create(i, &loops[i]);

        if (err) {
            loops_destroy();
            return err;
        }
        loops_count++;
    }
    return 0;
}

static void stop_first(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        loop_send(loops[i], &loops[i]->stop_message);
    for (unsigned i = 0; i < n; i++)
        pthread_join(loops[i]->thread, NULL);
}

int loops_start(void)
{
    for (unsigned i = 0; i < loops_count; i++) {
        int err = thread_start(&loops[i]->thread, run_loop, loops[i]);

        if (err) {
            stop_first(i);
            return err;
        }
    }
    return 0;
}

void loops_stop(void)
{
    stop_first(loops_count);
}

void loops_destroy(void)
{
    for (unsigned i = 0; i < loops_count; i++) {
        loop_destroy(loops[i]);
        loops[i] = NULL;
    }
    loops_count = 0;
}

void loop_send(struct abd_loop *loop, struct loop_message *message)
{
    if (loop == loop_self) {
        mailbox_append(&loop->mailbox, message);
        return;
    }
    mailbox_push(&loop->mailbox, message);
    mailbox_ring(&loop->mailbox);
}

void loop_set_stage(struct abd_loop *loop, enum loop_stage stage,
                    bool (*fn)(void *arg), void *arg)
{
    loop->stages[stage].fn = fn;
    loop->stages[stage].arg = arg;
}

void loop_set_context(struct abd_loop *loop, void *context)
{
    loop->context = context;
}

void *loop_context(const struct abd_loop *loop)
{
    return loop->context;
}

void loop_read_counters(const struct abd_loop *loop, struct loop_counters *ret)
{
    ret->turns = atomic_load_explicit(&loop->turns, memory_order_relaxed);
    ret->spins = atomic_load_explicit(&loop->spins, memory_order_relaxed);
    ret->sleeps = atomic_load_explicit(&loop->sleeps, memory_order_relaxed);
    ret->wakeups = atomic_load_explicit(&loop->wakeups, memory_order_relaxed);
}

LOOP_EXPORTED unsigned abd_loop_count(void)
{
    return loops_count;
}

LOOP_EXPORTED struct abd_loop *abd_loop_at(unsigned index)
{
    if (index >= loops_count)
        loop_misuse((uintptr_t)__builtin_return_address(0), "abd_loop_at",
                    "there is no loop of this index");
    return loops[index];
}

LOOP_EXPORTED unsigned abd_loop_index(const struct abd_loop *loop)
{
    return loop->index;
}

LOOP_EXPORTED struct abd_loop *abd_loop_current(void)
{
    return loop_self;
}

void loop_read_clock(struct abd_loop *loop)
{
    loop->now_ns = loop_clock_ns();
}

LOOP_EXPORTED uint64_t abd_loop_now_ns(void)
{
    return loop_need_self((uintptr_t)__builtin_return_address(0),
                          "abd_loop_now_ns")
        ->now_ns;
}

static void on_task(struct loop_message *message)
{
    const struct task *task = container_of(message, struct task, message);

    busy_begin(loop_self, (uintptr_t)task->fn);
    task->fn(task->arg);
}

LOOP_EXPORTED void abd_post(struct abd_loop *loop, struct abd_task *task,
                            void (*fn)(void *arg), void *arg)
{
    struct task *own = (struct task *)task->reserved;

    own->message.fn = on_task;
    own->fn = fn;
    own->arg = arg;
    loop_send(loop, &own->message);
}
