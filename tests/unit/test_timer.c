/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Timers: never early, in order, and safe to stop and free from callbacks. */
#include "tests/unit/loop_fixture.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define US   UINT64_C(1000)
#define MS   (1000 * US)
#define MANY 10000

static int set_up(void **state)
{
    (void)state;
    return start_loops(1);
}

static int tear_down(void **state)
{
    (void)state;
    stop_loops();
    return 0;
}

/* A small generator of our own: the same sequence on every machine. */
static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

struct alarm {
    struct abd_timer timer;
    uint64_t due_ns, latest_ns; /* bounds of when it is due */
    bool started, fired;
};

static struct {
    struct alarm alarms[MANY];
    unsigned left, early, disorder, wrong;
    uint64_t last_due_ns, least_late_ns;
    unsigned last_index;
    uint32_t seed;
    sem_t done;
} all;

static void reset(void)
{
    memset(&all, 0, sizeof all);
    all.least_late_ns = UINT64_MAX;
    all.seed = 1;
    sem_init(&all.done, 0, 0);
}

static void on_alarm(void *arg)
{
    struct alarm *alarm = arg;
    uint64_t now_ns = clock_ns();

    if (!alarm->started || alarm->fired)
        all.wrong++;
    alarm->fired = true;
    if (now_ns < alarm->due_ns)
        all.early++;
    else if (now_ns - alarm->due_ns < all.least_late_ns)
        all.least_late_ns = now_ns - alarm->due_ns;
    if (--all.left == 0)
        sem_post(&all.done);
}

/* due_ns is taken before the start, so what is early by it was early. */
static void start_alarm(struct alarm *alarm, uint64_t delay_ns,
                        void (*fn)(void *arg))
{
    alarm->started = true;
    alarm->due_ns = clock_ns() + delay_ns;
    all.left++;
    abd_timer_start(&alarm->timer, delay_ns, 0, fn, alarm);
    alarm->latest_ns = clock_ns() + delay_ns;
}

static void start_random(void *arg)
{
    (void)arg;
    all.left++; /* until all are started */
    for (unsigned i = 0; i < MANY; i++)
        start_alarm(&all.alarms[i], next_random(&all.seed) % (5 * MS),
                    on_alarm);
    if (--all.left == 0)
        sem_post(&all.done);
}

static void no_timer_is_early(void **state)
{
    (void)state;
    reset();
    run_on(abd_loop_at(0), start_random, NULL);
    wait_for(&all.done);
    assert_int_equal(all.early, 0);
    assert_int_equal(all.wrong, 0);
}

static void on_ordered(void *arg)
{
    struct alarm *alarm = arg;
    unsigned index = (unsigned)(alarm - all.alarms);

    if (index != all.last_index++)
        all.disorder++;
    on_alarm(arg);
}

static void start_equal(void *arg)
{
    for (unsigned i = 0; i < MANY; i++)
        start_alarm(&all.alarms[i], *(uint64_t *)arg, on_ordered);
}

static void equal_timers_fire_in_order_and_few_turns(void **state)
{
    uint64_t delay_ns = 20 * MS;
    struct loop_counters before;
    struct loop_counters after;

    (void)state;
    reset();
    run_on(abd_loop_at(0), start_equal, &delay_ns);
    loop_read_counters(abd_loop_at(0), &before);
    wait_for(&all.done);
    loop_read_counters(abd_loop_at(0), &after);
    assert_int_equal(all.disorder, 0);
    assert_int_equal(all.early, 0);
    assert_true(after.turns - before.turns < MANY / 2);
}

/* One at a time, so that nothing delays it: the best of them is in time. */
static void on_single(void *arg)
{
    struct alarm *alarm = arg;
    unsigned index = (unsigned)(alarm - all.alarms);

    if (index < 50)
        start_alarm(alarm + 1, 500 * US, on_single);
    on_alarm(arg);
}

static void start_single(void *arg)
{
    (void)arg;
    start_alarm(&all.alarms[0], 500 * US, on_single);
}

static void start_singles(void)
{
    reset();
    run_on(abd_loop_at(0), start_single, NULL);
    wait_for(&all.done);
}

static void a_timer_is_precise(void **state)
{
    (void)state;
    start_singles();
    assert_int_equal(all.early, 0);
    /* 0.1 ms on a machine at rest; the limit excludes whole milliseconds. */
    assert_true(all.least_late_ns < 300 * US);
}

/* Stops every other, frees itself. */
static struct {
    struct alarm *alarms[100];
    unsigned fired;
} freed;

static void on_freed(void *arg)
{
    unsigned index = (unsigned)(uintptr_t)arg;

    freed.fired++;
    for (unsigned i = 0; i < 100; i++) {
        if (!freed.alarms[i] || (i != index && i % 2 == 0))
            continue;
        abd_timer_stop(&freed.alarms[i]->timer);
        abd_timer_stop(&freed.alarms[i]->timer);
        free(freed.alarms[i]);
        freed.alarms[i] = NULL;
    }
    if (freed.fired == 51)
        sem_post(&all.done);
}

static void start_freed(void *arg)
{
    (void)arg;
    memset(&freed, 0, sizeof freed);
    for (uintptr_t i = 0; i < 100; i++) {
        freed.alarms[i] = calloc(1, sizeof *freed.alarms[i]);
        /* The first to fire is an odd one. */
        abd_timer_start(&freed.alarms[i]->timer, i == 1 ? 0 : MS, 0, on_freed,
                        (void *)i);
    }
}

static void callbacks_may_stop_and_free_timers(void **state)
{
    (void)state;
    reset();
    run_on(abd_loop_at(0), start_freed, NULL);
    wait_for(&all.done);
    assert_int_equal(freed.fired, 51);
    for (unsigned i = 0; i < 100; i++)
        assert_null(freed.alarms[i]);
}

/* A model: starts and stops at random, and then only those that are started
 * fire, in the order of their time. */
static void on_modelled(void *arg)
{
    const struct alarm *alarm = arg;

    if (alarm->latest_ns < all.last_due_ns)
        all.disorder++;
    all.last_due_ns = alarm->due_ns;
    on_alarm(arg);
}

static void start_model(void *arg)
{
    (void)arg;
    for (unsigned round = 0; round < 10 * MANY; round++) {
        struct alarm *alarm = &all.alarms[next_random(&all.seed) % MANY];

        if (alarm->started) {
            abd_timer_stop(&alarm->timer);
            alarm->started = false;
            all.left--;
        } else {
            start_alarm(alarm, 300 * MS + next_random(&all.seed) % (50 * MS),
                        on_modelled);
        }
    }
    if (all.left < MANY / 3)
        all.wrong++;
}

static void random_starts_and_stops_keep_the_order(void **state)
{
    (void)state;
    reset();
    run_on(abd_loop_at(0), start_model, NULL);
    wait_for(&all.done);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(all.alarms[i].started, all.alarms[i].fired);
    assert_int_equal(all.wrong, 0);
    assert_int_equal(all.disorder, 0);
    assert_int_equal(all.early, 0);
}

static struct {
    struct abd_timer timer, far;
    uint64_t start_ns, period_ns;
    unsigned calls, wrong;
} repeat;

/* Holds the loop for 3.5 periods once, from 2 to 5.5: of the turns at 3, 4 and
 * 5 one is left, and the sixth is at 8. */
static void on_repeat(void *arg)
{
    uint64_t since_ns = clock_ns() - repeat.start_ns;

    (void)arg;
    if (since_ns < ++repeat.calls * repeat.period_ns)
        repeat.wrong++;
    if (repeat.calls == 2)
        spin_ns(repeat.period_ns * 7 / 2);
    if (repeat.calls < 6)
        return;
    if (since_ns < 8 * repeat.period_ns)
        repeat.wrong++;
    abd_timer_stop(&repeat.timer);
    abd_timer_stop(&repeat.far);
    sem_post(&all.done);
}

static void never(void *arg)
{
    (void)arg;
    repeat.wrong++;
}

static void start_repeat(void *arg)
{
    (void)arg;
    memset(&repeat, 0, sizeof repeat);
    repeat.period_ns = 2 * MS;
    repeat.start_ns = clock_ns();
    abd_timer_start(&repeat.timer, repeat.period_ns, repeat.period_ns,
                    on_repeat, NULL);
    abd_timer_start(&repeat.far, UINT64_MAX, UINT64_MAX, never, NULL);
}

static void a_repeating_timer_skips_turns_when_late(void **state)
{
    (void)state;
    reset();
    run_on(abd_loop_at(0), start_repeat, NULL);
    wait_for(&all.done);
    assert_int_equal(repeat.calls, 6);
    assert_int_equal(repeat.wrong, 0);
}

/* A repeating timer of 1 ns is always late, but holds up nothing. */
static void on_eager(void *arg)
{
    unsigned *calls = arg;

    ++*calls;
}

static struct abd_timer eager;

static void start_eager(void *arg)
{
    abd_timer_start(&eager, 0, 1, on_eager, arg);
}

static void stop_eager(void *arg)
{
    (void)arg;
    abd_timer_stop(&eager);
}

static void the_shortest_period_holds_up_nothing(void **state)
{
    unsigned calls = 0;

    (void)state;
    run_on(abd_loop_at(0), start_eager, &calls);
    start_singles();
    run_on(abd_loop_at(0), stop_eager, NULL);
    assert_true(calls > 0);
}

/* Forbids epoll_pwait2() to the whole process, as an old kernel or sandbox. */
static void without_pwait2(int error)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof rules / sizeof rules[0], rules};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        _exit(10);
    if (start_loops(1) != 0)
        _exit(1);
    start_singles();
    stop_loops();
    if (all.early > 0 || all.wrong > 0)
        _exit(2);
}

static void unknown_pwait2(void)
{
    without_pwait2(ENOSYS);
}

static void forbidden_pwait2(void)
{
    without_pwait2(EPERM);
}

static void old_kernels_have_timers_too(void **state)
{
    char text[4096];
    int status = run_in_child(unknown_pwait2, text, sizeof text);

    (void)state;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 10) {
        print_message("SKIP: system calls cannot be refused here (seccomp)\n");
        skip();
    }
    assert_int_equal(status, 0);
    assert_int_equal(run_in_child(forbidden_pwait2, text, sizeof text), 0);
}

int main(void)
{
    const struct CMUnitTest alone[] = {
        cmocka_unit_test(old_kernels_have_timers_too),
    };
    const struct CMUnitTest running[] = {
        cmocka_unit_test(no_timer_is_early),
        cmocka_unit_test(equal_timers_fire_in_order_and_few_turns),
        cmocka_unit_test(a_timer_is_precise),
        cmocka_unit_test(callbacks_may_stop_and_free_timers),
        cmocka_unit_test(random_starts_and_stops_keep_the_order),
        cmocka_unit_test(a_repeating_timer_skips_turns_when_late),
        cmocka_unit_test(the_shortest_period_holds_up_nothing),
    };
    int failed = cmocka_run_group_tests(alone, NULL, NULL);

    return failed + cmocka_run_group_tests(running, set_up, tear_down);
}
