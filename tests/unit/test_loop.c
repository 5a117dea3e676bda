/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The loop: order of a turn, watches, hooks and tasks. */
#include "tests/unit/loop_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>

#include "loop/self.h"

static int set_up(void **state)
{
    (void)state;
    return start_loops(2);
}

static int tear_down(void **state)
{
    (void)state;
    stop_loops();
    return 0;
}

static void refuses_wrong_counts_and_a_second_set(void **state)
{
    (void)state;
    assert_int_equal(loops_create(0), EINVAL);
    assert_int_equal(loops_create(LOOPS_MAX + 1), EINVAL);
    assert_int_equal(loops_create(LOOPS_MAX), 0);
    assert_int_equal(abd_loop_count(), LOOPS_MAX);
    assert_int_equal(loops_create(1), EBUSY);
    for (unsigned i = 0; i < LOOPS_MAX; i++)
        assert_int_equal(abd_loop_index(abd_loop_at(i)), i);
    assert_null(abd_loop_current());
    loops_destroy();
    assert_int_equal(abd_loop_count(), 0);
}

static void create_without_descriptors(void)
{
    /* Enough for the first loop and a half. */
    int next = dup(0);
    struct rlimit limit = {(rlim_t)next + 3, (rlim_t)next + 3};

    close(next);
    setrlimit(RLIMIT_NOFILE, &limit);
    if (loops_create(2) != EMFILE || abd_loop_count() != 0)
        _exit(1);
    if (dup(0) != next || close(next) != 0 || loops_create(1) != 0)
        _exit(2);
    loops_destroy();
}

static void reports_lack_of_descriptors_and_leaves_none_open(void **state)
{
    char text[4096];

    (void)state;
    assert_int_equal(
        run_in_child(create_without_descriptors, text, sizeof text), 0);
}

static void start_without_memory(void)
{
    struct rlimit limit;
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;

    if (!file || fscanf(file, "%lu", &pages) != 1)
        _exit(1);
    fclose(file);
    /* Room for some stacks of 8 MiB, but not for all. */
    if (loops_create(LOOPS_MAX) != 0)
        _exit(2);
    limit.rlim_cur = limit.rlim_max =
        pages * (rlim_t)sysconf(_SC_PAGESIZE) + (UINT64_C(200) << 20);
    setrlimit(RLIMIT_AS, &limit);
    if (loops_start() != EAGAIN)
        _exit(3);
    loops_destroy();
}

static void stops_the_started_if_one_thread_cannot_be_had(void **state)
{
    char text[4096];

    (void)state;
    if (UNDER_SANITIZER) {
        print_message(
            "SKIP: a sanitizer needs the address space that is refused here\n");
        skip();
    }
    assert_int_equal(run_in_child(start_without_memory, text, sizeof text), 0);
}

/* What happened, a letter each. */
static struct {
    char text[64];
    unsigned length;
    struct abd_watch watch;
    struct abd_timer timer;
    struct abd_hook hook;
    struct abd_task task;
    int fds[2];
    bool again;
    sem_t done;
} order;

static void note(char what)
{
    if (order.length < sizeof order.text - 1)
        order.text[order.length++] = what;
}

static void note_watch(void *arg, uint32_t ready)
{
    (void)arg;
    assert_int_equal(ready, ABD_READABLE);
    note('w');
    abd_watch_stop(&order.watch);
}

static void note_timer(void *arg)
{
    (void)arg;
    note('t');
}

static void note_task(void *arg)
{
    (void)arg;
    note('m');
}

static void note_hook(void *arg)
{
    (void)arg;
    note('h');
}

static bool note_kick(void *arg)
{
    (void)arg;
    note('k');
    return false;
}

/* Asks for one more turn, once. */
static bool note_answer(void *arg)
{
    bool again = order.again;

    (void)arg;
    note('a');
    order.again = false;
    if (strchr(order.text, 't') && !again)
        sem_post(&order.done);
    return again;
}

static void begin_order(void *arg)
{
    (void)arg;
    assert_int_equal(abd_watch_start(&order.watch, order.fds[0], ABD_READABLE,
                                     note_watch, NULL),
                     0);
    abd_timer_start(&order.timer, 0, 0, note_timer, NULL);
    abd_hook_start(&order.hook, note_hook, NULL);
    abd_post(abd_loop_current(), &order.task, note_task, NULL);
    order.length = 0;
}

static void end_order(void *arg)
{
    (void)arg;
    abd_hook_stop(&order.hook);
    abd_hook_stop(&order.hook);
}

static void a_turn_has_its_order(void **state)
{
    (void)state;
    memset(&order, 0, sizeof order);
    sem_init(&order.done, 0, 0);
    assert_int_equal(pipe(order.fds), 0);
    assert_int_equal(write(order.fds[1], "x", 1), 1);
    order.again = true;
    assert_int_equal(loops_create(1), 0);
    loop_set_stage(abd_loop_at(0), LOOP_STAGE_KICK, note_kick, NULL);
    loop_set_stage(abd_loop_at(0), LOOP_STAGE_ANSWER, note_answer, NULL);
    assert_int_equal(loops_start(), 0);
    run_on(abd_loop_at(0), begin_order, NULL);
    wait_for(&order.done);
    /* The turn that set it up, then all at once. */
    assert_memory_equal(order.text, "hkawtmhka", 9);
    run_on(abd_loop_at(0), end_order, NULL);
    stop_loops();
    close(order.fds[0]);
    close(order.fds[1]);
}

/* Does a stage that has work left get a turn without any event? */
static unsigned stage_calls;
static sem_t stage_done;

static bool call_three_times(void *arg)
{
    (void)arg;
    if (++stage_calls == 4)
        sem_post(&stage_done);
    return stage_calls >= 2 && stage_calls < 4;
}

static void nothing(void *arg)
{
    (void)arg;
}

static void a_stage_with_work_left_does_not_sleep(void **state)
{
    struct loop_counters before;
    struct loop_counters after;

    (void)state;
    stage_calls = 0;
    sem_init(&stage_done, 0, 0);
    assert_int_equal(loops_create(1), 0);
    loop_set_stage(abd_loop_at(0), LOOP_STAGE_KICK, call_three_times, NULL);
    assert_int_equal(loops_start(), 0);
    run_on(abd_loop_at(0), nothing, NULL);
    loop_read_counters(abd_loop_at(0), &before);
    run_on(abd_loop_at(0), nothing, NULL);
    wait_for(&stage_done);
    loop_read_counters(abd_loop_at(0), &after);
    assert_true(after.turns >= before.turns + 2);
    stop_loops();
}

/* An event is expected, and comes only after a millisecond. */
static struct {
    unsigned quick; /* so often it has come soon, before */
    bool expects;
    struct abd_timer timer;
    sem_t done;
} expecting;

static void expected_came(void *arg)
{
    (void)arg;
    sem_post(&expecting.done);
}

static void expect(void *arg)
{
    struct abd_loop *loop = arg;

    loop->quick = expecting.quick;
    if (expecting.expects)
        loop_expect_soon(loop);
    abd_timer_start(&expecting.timer, 1000000, 0, expected_came, NULL);
}

static uint64_t spins_after(bool expects, unsigned quick)
{
    struct abd_loop *loop = abd_loop_at(0);
    struct loop_counters counters;

    expecting.expects = expects;
    expecting.quick = quick;
    sem_init(&expecting.done, 0, 0);
    run_on(loop, expect, loop);
    wait_for(&expecting.done);
    loop_read_counters(loop, &counters);
    return counters.spins;
}

static void looks_for_what_is_expected_only(void **state)
{
    uint64_t one = get_nprocs() > 1;

    (void)state;
    assert_int_equal(start_loops(1), 0);
    /* Nobody expects anything; then it has not come soon often enough. */
    assert_int_equal(spins_after(false, 1000), 0);
    assert_int_equal(spins_after(true, 7), 0);
    assert_int_equal(spins_after(true, 8), one);
    /* In vain: more must speak for the next time. */
    assert_int_equal(spins_after(true, 15), one);
    assert_int_equal(spins_after(true, 16), 2 * one);
    assert_int_equal(spins_after(true, 31), 2 * one);
    assert_int_equal(spins_after(true, 32), 3 * one);
    assert_int_equal(spins_after(false, 1000), 3 * one);
    stop_loops();
}

#define WATCHES 40

static struct {
    struct abd_watch *watch[WATCHES];
    int fds[WATCHES][2];
    unsigned calls;
    sem_t done;
} crowd;

static void stop_all_others(void *arg, uint32_t ready)
{
    struct abd_watch **mine = arg;

    (void)ready;
    crowd.calls++;
    for (unsigned i = 0; i < WATCHES; i++) {
        abd_watch_stop(crowd.watch[i]);
        free(crowd.watch[i]);
        crowd.watch[i] = NULL;
    }
    assert_null(*mine);
    sem_post(&crowd.done);
}

static void start_crowd(void *arg)
{
    void (*fn)(void *arg_, uint32_t ready) = *(void (**)(void *, uint32_t))arg;

    for (unsigned i = 0; i < WATCHES; i++) {
        crowd.watch[i] = calloc(1, sizeof *crowd.watch[i]);
        assert_int_equal(abd_watch_start(crowd.watch[i], crowd.fds[i][0],
                                         ABD_READABLE, fn, &crowd.watch[i]),
                         0);
    }
}

static void open_crowd(void)
{
    memset(&crowd, 0, sizeof crowd);
    sem_init(&crowd.done, 0, 0);
    for (unsigned i = 0; i < WATCHES; i++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, crowd.fds[i]), 0);
        assert_int_equal(write(crowd.fds[i][1], "x", 1), 1);
    }
}

static void close_crowd(void)
{
    for (unsigned i = 0; i < WATCHES; i++) {
        close(crowd.fds[i][0]);
        close(crowd.fds[i][1]);
    }
}

static void a_stopped_watch_is_not_called_even_if_its_event_is_there(
    void **state)
{
    void (*fn)(void *arg, uint32_t ready) = stop_all_others;

    (void)state;
    open_crowd();
    run_on(abd_loop_at(0), start_crowd, &fn);
    wait_for(&crowd.done);
    run_on(abd_loop_at(0), nothing, NULL);
    assert_int_equal(crowd.calls, 1);
    close_crowd();
}

/* The first wants all others to be told of nothing but errors. */
static void quieten_all_others(void *arg, uint32_t ready)
{
    (void)arg;
    (void)ready;
    crowd.calls++;
    for (unsigned i = 0; i < WATCHES; i++) {
        assert_int_equal(abd_watch_change(crowd.watch[i], ABD_READABLE), 0);
        assert_int_equal(abd_watch_change(crowd.watch[i], 0), 0);
    }
    sem_post(&crowd.done);
}

static void stop_crowd(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < WATCHES; i++) {
        abd_watch_stop(crowd.watch[i]);
        abd_watch_stop(crowd.watch[i]);
        free(crowd.watch[i]);
    }
}

static void a_changed_watch_is_not_told_what_it_no_longer_wants(void **state)
{
    void (*fn)(void *arg, uint32_t ready) = quieten_all_others;

    (void)state;
    open_crowd();
    run_on(abd_loop_at(0), start_crowd, &fn);
    wait_for(&crowd.done);
    run_on(abd_loop_at(0), nothing, NULL);
    run_on(abd_loop_at(0), stop_crowd, NULL);
    assert_int_equal(crowd.calls, 1);
    close_crowd();
}

static void start_wrongly(void *arg)
{
    struct abd_watch watch = {0};
    struct abd_watch second = {0};
    char path[] = "/tmp/abdkit-test-XXXXXX";
    int file = mkstemp(path);
    int fds[2];

    (void)arg;
    assert_true(file >= 0);
    unlink(path);
    assert_int_equal(abd_watch_start(&watch, file, ABD_READABLE, NULL, NULL),
                     EPERM);
    close(file);
    assert_int_equal(abd_watch_start(&watch, file, ABD_READABLE, NULL, NULL),
                     EBADF);
    /* What failed is not started. */
    abd_watch_stop(&watch);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(abd_watch_start(&watch, fds[0], 0, NULL, NULL), 0);
    assert_int_equal(abd_watch_start(&second, fds[0], 0, NULL, NULL), EEXIST);
    abd_watch_stop(&watch);
    close(fds[0]);
    close(fds[1]);
}

static void a_watch_reports_what_cannot_be_watched(void **state)
{
    (void)state;
    run_on(abd_loop_at(0), start_wrongly, NULL);
}

static struct {
    struct abd_watch watch;
    int fds[2];
    uint32_t ready;
    sem_t done;
} single;

static void on_single(void *arg, uint32_t ready)
{
    (void)arg;
    single.ready = ready;
    abd_watch_stop(&single.watch);
    sem_post(&single.done);
}

static void start_single(void *arg)
{
    assert_int_equal(abd_watch_start(&single.watch, single.fds[0],
                                     *(uint32_t *)arg, on_single, NULL),
                     0);
}

static uint32_t ready_for(uint32_t events)
{
    run_on(abd_loop_at(1), start_single, &events);
    wait_for(&single.done);
    return single.ready;
}

static void a_watch_tells_readable_writable_and_error(void **state)
{
    (void)state;
    memset(&single, 0, sizeof single);
    sem_init(&single.done, 0, 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, single.fds), 0);
    assert_int_equal(ready_for(ABD_WRITABLE), ABD_WRITABLE);
    assert_int_equal(ready_for(ABD_READABLE | ABD_WRITABLE), ABD_WRITABLE);
    assert_int_equal(write(single.fds[1], "x", 1), 1);
    assert_int_equal(ready_for(ABD_READABLE), ABD_READABLE);
    assert_int_equal(ready_for(ABD_READABLE | ABD_WRITABLE),
                     ABD_READABLE | ABD_WRITABLE);
    close(single.fds[1]);
    assert_int_equal(ready_for(0), ABD_EVENT_ERROR);
    assert_int_equal(ready_for(ABD_READABLE), ABD_READABLE | ABD_EVENT_ERROR);
    close(single.fds[0]);
}

static struct {
    struct abd_hook first, second, third;
    char text[64];
    unsigned length;
} hooks;

static void on_third(void *arg)
{
    (void)arg;
    hooks.text[hooks.length++] = '3';
    abd_hook_stop(&hooks.third);
}

static void on_second(void *arg)
{
    (void)arg;
    hooks.text[hooks.length++] = '2';
}

/* Stops itself and the next, and starts another for the next turn. */
static void on_first(void *arg)
{
    (void)arg;
    hooks.text[hooks.length++] = '1';
    abd_hook_stop(&hooks.first);
    abd_hook_stop(&hooks.second);
    abd_hook_start(&hooks.third, on_third, NULL);
}

static void start_hooks(void *arg)
{
    (void)arg;
    memset(&hooks, 0, sizeof hooks);
    abd_hook_start(&hooks.first, on_first, NULL);
    abd_hook_start(&hooks.second, on_second, NULL);
}

static void note_border(void *arg)
{
    (void)arg;
    hooks.text[hooks.length++] = '|';
}

static void hooks_may_stop_each_other_and_start_others(void **state)
{
    (void)state;
    run_on(abd_loop_at(0), start_hooks, NULL);
    run_on(abd_loop_at(0), note_border, NULL);
    run_on(abd_loop_at(0), note_border, NULL);
    run_on(abd_loop_at(0), nothing, NULL);
    assert_string_equal(hooks.text, "1|3|");
}

#define SENDERS 4
#define EACH    20000

struct numbered {
    struct abd_task task;
    unsigned sender, number;
};

static unsigned next_number[SENDERS + 1];
static sem_t all_seen;

static void on_numbered(void *arg)
{
    struct numbered *numbered = arg;
    unsigned sender = numbered->sender;

    assert_int_equal(numbered->number, next_number[sender]);
    next_number[sender]++;
    if (numbered->number == EACH - 1)
        sem_post(&all_seen);
    free(numbered);
}

static void send_numbered(unsigned sender)
{
    for (unsigned i = 0; i < EACH; i++) {
        struct numbered *numbered = calloc(1, sizeof *numbered);

        numbered->sender = sender;
        numbered->number = i;
        abd_post(abd_loop_at(0), &numbered->task, on_numbered, numbered);
    }
}

static void *sender_thread(void *arg)
{
    send_numbered((unsigned)(uintptr_t)arg);
    return NULL;
}

static void send_on_loop(void *arg)
{
    send_numbered((unsigned)(uintptr_t)arg);
}

static void tasks_of_a_thread_run_in_order_and_may_be_freed(void **state)
{
    pthread_t threads[SENDERS];

    (void)state;
    memset(next_number, 0, sizeof next_number);
    sem_init(&all_seen, 0, 0);
    for (uintptr_t i = 0; i < SENDERS; i++)
        pthread_create(&threads[i], NULL, sender_thread, (void *)i);
    run_on(abd_loop_at(0), send_on_loop, (void *)(uintptr_t)SENDERS);
    for (unsigned i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < SENDERS + 1; i++)
        wait_for(&all_seen);
    for (unsigned i = 0; i < SENDERS + 1; i++)
        assert_int_equal(next_number[i], EACH);
}

/* A task that posts itself again and again: events must get through. */
static struct abd_task restless;
static bool rest;

static void on_restless(void *arg)
{
    (void)arg;
    if (!rest)
        abd_post(abd_loop_current(), &restless, on_restless, NULL);
    else
        sem_post(&all_seen);
}

static void set_rest(void *arg)
{
    rest = *(bool *)arg;
    if (!rest)
        on_restless(NULL);
}

static void a_task_that_posts_itself_does_not_hold_the_loop(void **state)
{
    bool yes = true;
    bool no = false;

    (void)state;
    sem_init(&all_seen, 0, 0);
    memset(&single, 0, sizeof single);
    sem_init(&single.done, 0, 0);
    assert_int_equal(pipe(single.fds), 0);
    assert_int_equal(write(single.fds[1], "x", 1), 1);
    run_on(abd_loop_at(1), set_rest, &no);
    assert_int_equal(ready_for(ABD_READABLE), ABD_READABLE);
    run_on(abd_loop_at(1), set_rest, &yes);
    wait_for(&all_seen);
    close(single.fds[0]);
    close(single.fds[1]);
}

static void look_at_mask(void *arg)
{
    sigset_t mask;

    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    *(bool *)arg =
        sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGCHLD) == 1 &&
        sigismember(&mask, SIGUSR1) == 1 && sigismember(&mask, SIGSEGV) == 0 &&
        sigismember(&mask, SIGABRT) == 0;
}

static void loops_leave_signals_alone(void **state)
{
    bool blocked = false;
    sigset_t mask;

    (void)state;
    run_on(abd_loop_at(0), look_at_mask, &blocked);
    assert_true(blocked);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    assert_int_equal(sigismember(&mask, SIGTERM), 0);
}

static void a_loop_has_a_context_and_knows_itself(void **state)
{
    int mine;

    (void)state;
    loop_set_context(abd_loop_at(1), &mine);
    assert_ptr_equal(loop_context(abd_loop_at(1)), &mine);
    assert_null(loop_context(abd_loop_at(0)));
    assert_false(loop_is_current(abd_loop_at(0)));
}

int main(void)
{
    const struct CMUnitTest alone[] = {
        cmocka_unit_test(refuses_wrong_counts_and_a_second_set),
        cmocka_unit_test(reports_lack_of_descriptors_and_leaves_none_open),
        cmocka_unit_test(stops_the_started_if_one_thread_cannot_be_had),
        cmocka_unit_test(a_turn_has_its_order),
        cmocka_unit_test(a_stage_with_work_left_does_not_sleep),
        cmocka_unit_test(looks_for_what_is_expected_only),
    };
    const struct CMUnitTest running[] = {
        cmocka_unit_test(
            a_stopped_watch_is_not_called_even_if_its_event_is_there),
        cmocka_unit_test(a_changed_watch_is_not_told_what_it_no_longer_wants),
        cmocka_unit_test(a_watch_reports_what_cannot_be_watched),
        cmocka_unit_test(a_watch_tells_readable_writable_and_error),
        cmocka_unit_test(hooks_may_stop_each_other_and_start_others),
        cmocka_unit_test(tasks_of_a_thread_run_in_order_and_may_be_freed),
        cmocka_unit_test(a_task_that_posts_itself_does_not_hold_the_loop),
        cmocka_unit_test(loops_leave_signals_alone),
        cmocka_unit_test(a_loop_has_a_context_and_knows_itself),
    };
    int failed = cmocka_run_group_tests(alone, NULL, NULL);

    return failed + cmocka_run_group_tests(running, set_up, tear_down);
}
