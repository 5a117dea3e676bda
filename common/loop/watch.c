/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Watches of descriptors: level-triggered epoll, whose data is the watch.
 *
 * A turn fetches a batch of events.  A callback may stop, and free, watches
 * whose event is further behind in the batch: stopping takes them out of it, so
 * a watch is never looked at after it has been stopped.  Loop thread only. */
#include "loop/self.h"

#include <errno.h>

/* Lies in the caller's struct abd_watch; ours from start to stop. */
struct __attribute__((may_alias)) watch {
    void (*fn)(void *arg, uint32_t ready);
    void *arg;
    struct abd_loop *loop; /* NULL: not started */
    int fd;
    uint32_t events;
};

_Static_assert(sizeof(struct watch) <= sizeof(struct abd_watch),
               "a watch fits into what plugins reserve for it");

static struct watch *to_watch(struct abd_watch *watch)
{
    return (struct watch *)watch->reserved;
}

static int control(struct abd_loop *loop, int op, struct watch *watch)
{
    struct epoll_event event = {.data.ptr = watch};

    if (watch->events & ABD_READABLE)
        event.events |= EPOLLIN;
    if (watch->events & ABD_WRITABLE)
        event.events |= EPOLLOUT;
    if (epoll_ctl(loop->epoll_fd, op, watch->fd, &event) < 0)
        return errno;
    return 0;
}

/* Only what is still wanted.  A hang-up counts as readable, too: what can be
 * read is the end. */
static uint32_t translate(const struct watch *watch, uint32_t events)
{
    uint32_t ready = 0;

    if (events & (EPOLLIN | EPOLLHUP))
        ready |= ABD_READABLE;
    if (events & EPOLLOUT)
        ready |= ABD_WRITABLE;
    ready &= watch->events;
    if (events & (EPOLLERR | EPOLLHUP))
        ready |= ABD_EVENT_ERROR;
    return ready;
}

void watch_run(struct abd_loop *loop)
{
    while (loop->batch_next < loop->batch_count) {
        const struct epoll_event *event = &loop->batch[loop->batch_next++];
        struct watch *watch = event->data.ptr;
        uint32_t ready;

        if (!watch)
            continue;
        ready = translate(watch, event->events);
        if (!ready)
            continue;
        busy_begin(loop, (uintptr_t)watch->fn);
        watch->fn(watch->arg, ready);
        busy_check(loop);
    }
}

LOOP_EXPORTED int abd_watch_start(struct abd_watch *watch, int fd,
                                  uint32_t events,
                                  void (*fn)(void *arg, uint32_t ready),
                                  void *arg)
{
    struct abd_loop *loop = loop_need_self((uintptr_t)fn, "abd_watch_start");
    struct watch *own = to_watch(watch);
    int err;

    if (own->loop)
        loop_misuse((uintptr_t)fn, "abd_watch_start", "already started");
    *own = (struct watch){.fn = fn, .arg = arg, .fd = fd, .events = events};
    err = control(loop, EPOLL_CTL_ADD, own);
    if (err)
        return err;
    own->loop = loop;
    return 0;
}

LOOP_EXPORTED int abd_watch_change(struct abd_watch *watch, uint32_t events)
{
    struct watch *own = to_watch(watch);
    uint32_t before = own->events;
    int err;

    if (!own->loop)
        loop_misuse(0, "abd_watch_change", "not started");
    if (own->loop != loop_self)
        loop_misuse((uintptr_t)own->fn, "abd_watch_change",
                    "not on the thread of its loop");
    if (events == before)
        return 0;
    own->events = events;
    err = control(loop_self, EPOLL_CTL_MOD, own);
    if (err)
        own->events = before;
    return err;
}

LOOP_EXPORTED void abd_watch_stop(struct abd_watch *watch)
{
    struct watch *own = to_watch(watch);
    struct abd_loop *loop = own->loop;

    if (!loop)
        return;
    if (loop != loop_self)
        loop_misuse((uintptr_t)own->fn, "abd_watch_stop",
                    "not on the thread of its loop");
    /* Fails only if the caller has closed the descriptor too early, which has
     * taken it out of the set, too. */
    (void)control(loop, EPOLL_CTL_DEL, own);
    for (unsigned i = loop->batch_next; i < loop->batch_count; i++)
        if (loop->batch[i].data.ptr == own)
            loop->batch[i].data.ptr = NULL;
    own->loop = NULL;
}
