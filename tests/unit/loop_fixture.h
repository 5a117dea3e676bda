/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What tests of the loop need again and again: to run something on a loop and
 * wait for it, and to run something that ends its process. */
#ifndef ABD_TESTS_LOOP_FIXTURE_H
#define ABD_TESTS_LOOP_FIXTURE_H

#include <setjmp.h> /* for cmocka */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "loop/loop.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif
#ifndef UNDER_SANITIZER
#define UNDER_SANITIZER 0
#endif

static inline uint64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Keeps the processor busy, as a callback that must not do so. */
static inline void spin_ns(uint64_t ns)
{
    uint64_t until = clock_ns() + ns;

    while (clock_ns() < until)
        ;
}

static inline void wait_for(sem_t *semaphore)
{
    while (sem_wait(semaphore) < 0)
        ;
}

static inline int start_loops(unsigned n)
{
    int err = loops_create(n);

    return err ? err : loops_start();
}

static inline void stop_loops(void)
{
    loops_stop();
    loops_destroy();
}

struct call {
    struct abd_task task;
    void (*fn)(void *arg);
    void *arg;
    sem_t done;
};

static inline void on_call(void *arg)
{
    struct call *call = arg;

    call->fn(call->arg);
    sem_post(&call->done);
}

/* Runs fn on the loop, and returns when it has returned. */
static inline void run_on(struct abd_loop *loop, void (*fn)(void *arg),
                          void *arg)
{
    struct call call = {.fn = fn, .arg = arg};

    sem_init(&call.done, 0, 0);
    abd_post(loop, &call.task, on_call, &call);
    wait_for(&call.done);
    sem_destroy(&call.done);
}

/* Runs fn in a process of its own, which starts without loops; returns its wait
 * status, and what it wrote to stderr. */
static inline int run_in_child(void (*fn)(void), char *text, size_t size)
{
    struct rlimit no_core = {0, 0};
    size_t length = 0;
    ssize_t n;
    int pipe_fds[2];
    int status;
    pid_t pid;

    assert_int_equal(pipe(pipe_fds), 0);
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(pipe_fds[1], STDERR_FILENO);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL);
        fn();
        _exit(0);
    }
    close(pipe_fds[1]);
    while ((n = read(pipe_fds[0], text + length, size - 1 - length)) > 0)
        length += (size_t)n;
    text[length] = '\0';
    close(pipe_fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

#endif
