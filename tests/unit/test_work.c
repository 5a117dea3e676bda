/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The work pool: bounded, first come first served, done() on the loop. */
#include "tests/unit/loop_fixture.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "loop/work.h"

#define WORKS 200

static struct {
    struct abd_work works[WORKS];
    atomic_uint running, most, ran, wrong;
    unsigned done, next_in_order;
    unsigned threads; /* the bound */
    sem_t gate, seen;
} jobs;

static int set_up(void **state)
{
    (void)state;
    memset(&jobs, 0, sizeof jobs);
    sem_init(&jobs.gate, 0, 0);
    sem_init(&jobs.seen, 0, 0);
    return start_loops(2);
}

static int tear_down(void **state)
{
    (void)state;
    work_finish();
    assert_int_equal(work_count_threads(), 0);
    stop_loops();
    return 0;
}

/* Waits until all threads there may be are in it, so they are in use at once.
 */
static void run_together(void *arg)
{
    unsigned running = atomic_fetch_add(&jobs.running, 1) + 1;
    sigset_t mask;

    (void)arg;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    if (abd_loop_current() || running > jobs.threads ||
        sigismember(&mask, SIGTERM) != 1)
        atomic_fetch_add(&jobs.wrong, 1);
    if (running > atomic_load(&jobs.most))
        atomic_store(&jobs.most, running);
    if (atomic_fetch_add(&jobs.ran, 1) + 1 == jobs.threads)
        for (unsigned i = 0; i < WORKS; i++)
            sem_post(&jobs.gate);
    wait_for(&jobs.gate);
    atomic_fetch_sub(&jobs.running, 1);
}

static void on_done(void *arg)
{
    (void)arg;
    if (abd_loop_current() != abd_loop_at(1))
        atomic_fetch_add(&jobs.wrong, 1);
    if (++jobs.done == WORKS)
        sem_post(&jobs.seen);
}

static void start_from(void *arg)
{
    unsigned *range = arg;

    for (unsigned i = range[0]; i < range[1]; i++)
        abd_work_start(abd_loop_at(1), &jobs.works[i], run_together, on_done,
                       NULL);
}

static void the_pool_uses_its_bound_and_no_more(void **state)
{
    unsigned first_half[] = {0, WORKS / 2};
    unsigned second_half[] = {WORKS / 2, WORKS};

    (void)state;
    jobs.threads = 5;
    work_set_threads(5);
    /* From a thread that is no loop, and from a loop. */
    start_from(first_half);
    run_on(abd_loop_at(0), start_from, second_half);
    wait_for(&jobs.seen);
    assert_int_equal(atomic_load(&jobs.most), 5);
    assert_int_equal(atomic_load(&jobs.wrong), 0);
    assert_int_equal(work_count_threads(), 5);
    assert_int_equal(atomic_load(&jobs.ran), WORKS);
}

static void run_in_order(void *arg)
{
    if ((unsigned)(uintptr_t)arg != jobs.next_in_order++)
        atomic_fetch_add(&jobs.wrong, 1);
}

static void work_is_taken_first_come_first_served(void **state)
{
    (void)state;
    work_set_threads(1);
    for (uintptr_t i = 0; i < WORKS; i++)
        abd_work_start(abd_loop_at(1), &jobs.works[i], run_in_order, on_done,
                       (void *)i);
    wait_for(&jobs.seen);
    assert_int_equal(atomic_load(&jobs.wrong), 0);
    assert_int_equal(work_count_threads(), 1);
}

/* Freed in done(), and started again from it. */
static void free_work(void *arg)
{
    free(arg);
    sem_post(&jobs.seen);
}

static void run_nothing(void *arg)
{
    (void)arg;
}

static void start_again(void *arg)
{
    abd_work_start(abd_loop_at(1), arg, run_nothing, free_work, arg);
}

static void done_may_start_again_and_free(void **state)
{
    struct abd_work *work = calloc(1, sizeof *work);

    (void)state;
    abd_work_start(abd_loop_at(0), work, run_nothing, start_again, work);
    wait_for(&jobs.seen);
}

static void a_thread_without_work_ends(void **state)
{
    (void)state;
    work_set_threads(3);
    work_set_idle(10);
    jobs.threads = 3;
    start_from((unsigned[]){0, WORKS});
    wait_for(&jobs.seen);
    while (work_count_threads() > 0)
        sched_yield();
    /* And others come when they are needed. */
    jobs.done = WORKS - 1;
    abd_work_start(abd_loop_at(1), &jobs.works[0], run_nothing, on_done, NULL);
    wait_for(&jobs.seen);
    work_set_idle(10 * 1000);
}

static void finishing_waits_for_what_is_queued(void **state)
{
    (void)state;
    work_set_threads(2);
    jobs.threads = 2;
    start_from((unsigned[]){0, WORKS});
    work_finish();
    assert_int_equal(atomic_load(&jobs.ran), WORKS);
    assert_int_equal(work_count_threads(), 0);
    wait_for(&jobs.seen);
}

static void run_on_the_loop(void *arg)
{
    (void)arg;
    if (abd_loop_current() != abd_loop_at(0))
        _exit(4);
}

static void done_on_the_loop(void *arg)
{
    (void)arg;
    if (++jobs.done == WORKS)
        sem_post(&jobs.seen);
}

/* After the loops have started no other thread can be had. */
static void without_threads(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof rules / sizeof rules[0], rules};

    sem_init(&jobs.seen, 0, 0);
    if (start_loops(1) != 0)
        _exit(1);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        _exit(10);
    for (uintptr_t i = 0; i < WORKS; i++)
        abd_work_start(abd_loop_at(0), &jobs.works[i], run_on_the_loop,
                       done_on_the_loop, NULL);
    wait_for(&jobs.seen);
    if (work_count_threads() != 0)
        _exit(2);
    stop_loops();
}

static void work_is_done_even_if_no_thread_can_be_had(void **state)
{
    char text[4096];
    int status = run_in_child(without_threads, text, sizeof text);

    (void)state;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 10) {
        print_message("SKIP: threads cannot be refused here\n");
        skip();
    }
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(work_is_done_even_if_no_thread_can_be_had),
        cmocka_unit_test_setup_teardown(the_pool_uses_its_bound_and_no_more,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(work_is_taken_first_come_first_served,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(done_may_start_again_and_free, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_thread_without_work_ends, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(finishing_waits_for_what_is_queued,
                                        set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
