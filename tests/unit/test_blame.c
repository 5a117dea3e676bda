/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Who is named for holding a loop, and for misusing it. */
#include "tests/unit/loop_fixture.h"

#include <dlfcn.h>
#include <stdlib.h>

static void nothing(void *arg)
{
    (void)arg;
}

static struct {
    char name[64];
    uint64_t ns;
    unsigned calls;
    sem_t seen;
} slow;

static void on_slow(const char *name, uint64_t ns)
{
    snprintf(slow.name, sizeof slow.name, "%s", name);
    slow.ns = ns;
    slow.calls++;
    sem_post(&slow.seen);
}

static void hold(void *arg)
{
    spin_ns(*(uint64_t *)arg);
}

static void hold_busy(void *arg)
{
    loop_set_busy_with(abd_loop_current(), "culprit");
    hold(arg);
    loop_set_busy_with(abd_loop_current(), NULL);
}

static void who_holds_the_loop_is_named(void **state)
{
    uint64_t long_ns = 130 * 1000 * 1000;
    uint64_t short_ns = 60 * 1000 * 1000;
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    struct abd_task task = {0};
    void (*sleeper)(void *arg);

    (void)state;
    memset(&slow, 0, sizeof slow);
    sem_init(&slow.seen, 0, 0);
    assert_int_equal(loops_create(1), 0);
    loops_set_slow_report(on_slow);
    assert_int_equal(loops_start(), 0);
    run_on(abd_loop_at(0), hold, &long_ns);
    wait_for(&slow.seen);
    assert_string_equal(slow.name, "server");
    assert_true(slow.ns > 100 * 1000 * 1000);
    run_on(abd_loop_at(0), hold_busy, &long_ns);
    wait_for(&slow.seen);
    assert_string_equal(slow.name, "culprit");
    /* Code of a shared object; asked for by name, because sanitizers have a
     * function of this name, too. */
    assert_non_null(libc);
    *(void **)&sleeper = dlsym(libc, "usleep");
    abd_post(abd_loop_at(0), &task, sleeper, (void *)(uintptr_t)130000);
    wait_for(&slow.seen);
    assert_string_equal(slow.name, "libc.so.6");
    dlclose(libc);
    /* Two that are quick enough, one after the other. */
    slow.calls = 0;
    run_on(abd_loop_at(0), hold_busy, &short_ns);
    run_on(abd_loop_at(0), hold, &short_ns);
    run_on(abd_loop_at(0), nothing, NULL);
    loops_set_slow_report(NULL);
    stop_loops();
    /* Another process may have had the processor meanwhile: only a report of
     * less than the limit is wrong. */
    assert_true(slow.calls == 0 || slow.ns > 100 * 1000 * 1000);
}

static void hold_silently(void)
{
    uint64_t long_ns = 130 * 1000 * 1000;

    if (start_loops(1) != 0)
        _exit(1);
    run_on(abd_loop_at(0), hold_busy, &long_ns);
    stop_loops();
}

static void by_default_the_log_tells(void **state)
{
    static const char said[] = "held a loop for ";
    char text[4096];
    const char *at;

    (void)state;
    assert_int_equal(run_in_child(hold_silently, text, sizeof text), 0);
    assert_non_null(strstr(text, "culprit"));
    at = strstr(text, said);
    assert_non_null(at);
    /* It takes longer where others use the processor, and less only by the
     * coarse clock's steps. */
    assert_true(strtoul(at + strlen(said), NULL, 10) >= 110);
}

static struct abd_watch misused_watch;
static struct abd_timer misused_timer;
static struct abd_hook misused_hook;

static void start_misused(void *arg)
{
    (void)arg;
    abd_watch_start(&misused_watch, *(int *)arg, 0, NULL, NULL);
    abd_timer_start(&misused_timer, 1000000000, 0, nothing, NULL);
    abd_hook_start(&misused_hook, nothing, NULL);
}

static void watch_twice(void *arg)
{
    abd_watch_start(&misused_watch, *(int *)arg, 0, NULL, NULL);
}

static void timer_twice(void *arg)
{
    (void)arg;
    abd_timer_start(&misused_timer, 1, 0, nothing, NULL);
}

static void hook_twice(void *arg)
{
    (void)arg;
    abd_hook_start(&misused_hook, nothing, NULL);
}

static void stop_watch(void *arg)
{
    (void)arg;
    abd_watch_stop(&misused_watch);
}

static void change_watch(void *arg)
{
    (void)arg;
    abd_watch_change(&misused_watch, ABD_READABLE);
}

static void change_stopped(void *arg)
{
    struct abd_watch watch = {0};

    (void)arg;
    abd_watch_change(&watch, ABD_READABLE);
}

static void stop_timer(void *arg)
{
    (void)arg;
    abd_timer_stop(&misused_timer);
}

static void stop_hook(void *arg)
{
    (void)arg;
    abd_hook_stop(&misused_hook);
}

static void ask_now(void *arg)
{
    (void)arg;
    abd_loop_now_ns();
}

static void ask_loop(void *arg)
{
    (void)arg;
    abd_loop_at(2);
}

/* loop: 0, 1, or 2 for the main thread. */
static const struct misuse {
    void (*fn)(void *arg);
    unsigned loop;
    const char *what;
} misuses[] = {
    {watch_twice, 0, "abd_watch_start: already started"},
    {timer_twice, 0, "abd_timer_start: already started"},
    {hook_twice, 0, "abd_hook_start: already started"},
    {change_stopped, 0, "abd_watch_change: not started"},
    {stop_watch, 1, "abd_watch_stop: not on the thread of its loop"},
    {change_watch, 1, "abd_watch_change: not on the thread of its loop"},
    {stop_timer, 1, "abd_timer_stop: not on the thread of its loop"},
    {stop_hook, 1, "abd_hook_stop: not on the thread of its loop"},
    {stop_watch, 2, "abd_watch_stop: not on the thread of its loop"},
    {stop_timer, 2, "abd_timer_stop: not on the thread of its loop"},
    {stop_hook, 2, "abd_hook_stop: not on the thread of its loop"},
    {watch_twice, 2, "abd_watch_start: not on the thread of a loop"},
    {timer_twice, 2, "abd_timer_start: not on the thread of a loop"},
    {hook_twice, 2, "abd_hook_start: not on the thread of a loop"},
    {ask_now, 2, "abd_loop_now_ns: not on the thread of a loop"},
    {ask_loop, 2, "abd_loop_at: there is no loop of this index"},
};

static const struct misuse *misuse;

static sem_t parked;

/* Loop 0 stands still meanwhile, so that what is read on another thread against
 * the rules is at least not written to at the same time. */
static void park(void *arg)
{
    start_misused(arg);
    if (misuse->loop == 0)
        misuse->fn(arg);
    sem_post(&parked);
    for (;;)
        pause();
}

static void commit_misuse(void)
{
    static struct abd_task task;
    int fds[2];

    if (pipe(fds) < 0 || start_loops(2) != 0)
        _exit(1);
    sem_init(&parked, 0, 0);
    abd_post(abd_loop_at(0), &task, park, &fds[0]);
    wait_for(&parked);
    if (misuse->loop == 1)
        run_on(abd_loop_at(1), misuse->fn, &fds[0]);
    else if (misuse->loop == 2)
        misuse->fn(&fds[0]);
}

static void misuse_aborts_and_says_what(void **state)
{
    char text[4096];

    (void)state;
    for (unsigned i = 0; i < sizeof misuses / sizeof misuses[0]; i++) {
        int status;

        misuse = &misuses[i];
        status = run_in_child(commit_misuse, text, sizeof text);
        if (!strstr(text, misuse->what))
            fail_msg("expected \"%s\", got \"%s\"", misuse->what, text);
        assert_non_null(strstr(text, "server"));
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_holds_the_loop_is_named),
        cmocka_unit_test(by_default_the_log_tells),
        cmocka_unit_test(misuse_aborts_and_says_what),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
