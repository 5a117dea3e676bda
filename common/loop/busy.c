/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Who held the loop for too long, and who misused it.
 *
 * The coarse clock is read after each callback (a few ns; it is right to some
 * milliseconds, which are added to the limit so that nobody is accused
 * wrongly).  A change of the name of whose code runs is a border, too.
 * Loop thread only, but for loop_misuse() and the one setting. */
#include "loop/self.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define SLOW_NS   (100 * NS_PER_MS)
#define TICK_NS   (10 * NS_PER_MS) /* the coarse clock's longest step */

/* Set before the loops run. */
static void (*slow_report)(const char *name, uint64_t ns);

static uint64_t coarse_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static bool look_up(uintptr_t code, Dl_info *info)
{
    /* A function, as dladdr() wants it; ISO C knows no other way.
     * NOLINTNEXTLINE(performance-no-int-to-ptr) */
    return dladdr((const void *)code, info) != 0;
}

/* The file name of the shared object that the code lies in. */
static const char *owner_of(uintptr_t code)
{
    Dl_info owner;
    Dl_info program;
    const char *slash;

    if (!code || !look_up(code, &owner) || !owner.dli_fname)
        return "server";
    /* Whatever this library was linked into is the program. */
    if (look_up((uintptr_t)busy_check, &program) &&
        owner.dli_fbase == program.dli_fbase)
        return "server";
    slash = strrchr(owner.dli_fname, '/');
    return slash ? slash + 1 : owner.dli_fname;
}

static void check(struct abd_loop *loop, uint64_t now_ns)
{
    uint64_t held_ns = now_ns - loop->busy_since_ns;
    const char *name = loop->busy_with;

    if (__builtin_expect(held_ns <= SLOW_NS + TICK_NS, 1))
        return;
    if (!name)
        name = owner_of(loop->running);
    if (slow_report)
        slow_report(name, held_ns);
    else
        log_write(ABD_WARNING, name, "held a loop for %" PRIu64 " ms",
                  held_ns / NS_PER_MS);
}

void busy_reset(struct abd_loop *loop)
{
    loop->busy_since_ns = coarse_clock_ns();
    loop->running = 0;
}

void busy_begin(struct abd_loop *loop, uintptr_t code)
{
    loop->running = code;
}

void busy_check(struct abd_loop *loop)
{
    uint64_t now_ns = coarse_clock_ns();

    check(loop, now_ns);
    loop->busy_since_ns = now_ns;
}

void loop_set_busy_with(struct abd_loop *loop, const char *name)
{
    if (name == loop->busy_with)
        return;
    busy_check(loop);
    loop->busy_with = name;
}

void loops_set_slow_report(void (*fn)(const char *name, uint64_t ns))
{
    slow_report = fn;
}

void loop_misuse(uintptr_t code, const char *what, const char *why)
{
    const char *name = loop_self ? loop_self->busy_with : NULL;

    log_write(ABD_ERROR, name ? name : owner_of(code), "%s: %s", what, why);
    abort();
}

struct abd_loop *loop_need_self(uintptr_t code, const char *what)
{
    if (!loop_self)
        loop_misuse(code, what, "not on the thread of a loop");
    return loop_self;
}
