/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Timers: a pairing heap in the callers' own memory.
 *
 * Starting is O(1), firing O(log n) on average.  Timers that are due at the
 * same nanosecond fire in the order of their start.  A timer counts from the
 * moment of its start, not from the start of the turn, so that it is never
 * early; and the loop wakes up on a grid of 33 us, so that a thousand timers
 * started within one turn fire within few.  Loop thread only. */
#include "loop/self.h"

#include <stddef.h>

#define GRID_NS (UINT64_C(1) << 15)

/* Lies in the caller's struct abd_timer; ours from start to stop. */
struct __attribute__((may_alias)) timer {
    uint64_t due_ns, repeat_ns;
    void (*fn)(void *arg);
    void *arg;
    struct timer *child;    /* the first of those that are not before us */
    struct timer *next;     /* sibling */
    struct timer *previous; /* sibling; for the first of them, the parent */
    uint32_t sequence;
    uint32_t loop; /* its index + 1; 0: not started */
};

_Static_assert(sizeof(struct timer) <= sizeof(struct abd_timer),
               "a timer fits into what plugins reserve for it");

static struct timer *to_timer(struct abd_timer *timer)
{
    return (struct timer *)timer->reserved;
}

static bool is_before(const struct timer *a, const struct timer *b)
{
    if (a->due_ns != b->due_ns)
        return a->due_ns < b->due_ns;
    /* The sequence may wrap around. */
    return (int32_t)(a->sequence - b->sequence) < 0;
}

/* Joins two heaps; neither has siblings. */
static struct timer *meld(struct timer *a, struct timer *b)
{
    if (!a)
        return b;
    if (!b)
        return a;
    if (is_before(b, a)) {
        struct timer *c = a;

        a = b;
        b = c;
    }
    b->next = a->child;
    if (a->child)
        a->child->previous = b;
    b->previous = a;
    a->child = b;
    return a;
}

/* Makes one heap of a list of siblings: melds them in pairs from the left, then
 * the pairs from the right, which is what makes the average logarithmic. */
static struct timer *meld_siblings(struct timer *first)
{
    struct timer *pairs = NULL;
    struct timer *heap = NULL;

    while (first) {
        struct timer *a = first;
        struct timer *b = a->next;

        first = b ? b->next : NULL;
        a->next = a->previous = NULL;
        if (b)
            b->next = b->previous = NULL;
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    while (pairs) {
        struct timer *pair = pairs;

        pairs = pair->next;
        pair->next = NULL;
        heap = meld(heap, pair);
    }
    return heap;
}

static void insert(struct abd_loop *loop, struct timer *timer)
{
    timer->child = timer->next = timer->previous = NULL;
    timer->sequence = loop->timer_sequence++;
    loop->timers = meld(loop->timers, timer);
}

static void take_out(struct abd_loop *loop, struct timer *timer)
{
    struct timer *children = meld_siblings(timer->child);

    if (timer == loop->timers) {
        loop->timers = children;
        return;
    }
    if (timer->previous->child == timer)
        timer->previous->child = timer->next;
    else
        timer->previous->next = timer->next;
    if (timer->next)
        timer->next->previous = timer->previous;
    loop->timers = meld(loop->timers, children);
}

/* The far future stands for "never". */
static uint64_t add_ns(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

void timer_run(struct abd_loop *loop)
{
    struct timer *timer;

    while ((timer = loop->timers) && timer->due_ns <= loop->now_ns) {
        void (*fn)(void *arg) = timer->fn;
        void *arg = timer->arg;

        take_out(loop, timer);
        /* All of it before the callback, which may free the timer. */
        if (timer->repeat_ns) {
            uint64_t late_ns = loop->now_ns - timer->due_ns;
            uint64_t left_ns = timer->repeat_ns - late_ns % timer->repeat_ns;

            timer->due_ns = add_ns(loop->now_ns, left_ns);
            insert(loop, timer);
        } else {
            timer->loop = 0;
        }
        busy_begin(loop, (uintptr_t)fn);
        fn(arg);
        busy_check(loop);
    }
}

uint64_t timer_next_ns(const struct abd_loop *loop)
{
    uint64_t due_ns;

    if (!loop->timers || loop->timers->due_ns == UINT64_MAX)
        return UINT64_MAX;
    due_ns = add_ns(loop->timers->due_ns, GRID_NS - 1);
    return due_ns & ~(GRID_NS - 1);
}

LOOP_EXPORTED void abd_timer_start(struct abd_timer *timer, uint64_t delay_ns,
                                   uint64_t repeat_ns, void (*fn)(void *arg),
                                   void *arg)
{
    struct abd_loop *loop = loop_need_self((uintptr_t)fn, "abd_timer_start");
    struct timer *own = to_timer(timer);

    if (own->loop)
        loop_misuse((uintptr_t)fn, "abd_timer_start", "already started");
    own->due_ns = add_ns(loop_clock_ns(), delay_ns);
    own->repeat_ns = repeat_ns;
    own->fn = fn;
    own->arg = arg;
    own->loop = loop->index + 1;
    insert(loop, own);
}

LOOP_EXPORTED void abd_timer_stop(struct abd_timer *timer)
{
    struct timer *own = to_timer(timer);

    if (!own->loop)
        return;
    if (!loop_self || own->loop != loop_self->index + 1)
        loop_misuse((uintptr_t)own->fn, "abd_timer_stop",
                    "not on the thread of its loop");
    take_out(loop_self, own);
    own->loop = 0;
}
