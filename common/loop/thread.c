/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Threads with all signals blocked: a new thread inherits the mask, so the
 * caller's is changed around its creation.  Any thread may call. */
#include "loop/thread.h"

#include <signal.h>
#include <stddef.h>

int thread_start(pthread_t *ret, void *(*fn)(void *arg), void *arg)
{
    pthread_t thread;
    sigset_t all, before;
    int err;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(&thread, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err)
        return err;
    if (ret)
        *ret = thread;
    else
        pthread_detach(thread);
    return 0;
}
