/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Threads with all signals blocked but those that tell a thread of its own
 * mistake: the kernel would end the process for these all the same, but without
 * a chance for a plugin's handler.  A new thread inherits the mask, so the
 * caller's is changed around its creation.  Any thread may call. */
#include "loop/thread.h"

#include <signal.h>
#include <stddef.h>

int thread_start(pthread_t *ret, void *(*fn)(void *arg), void *arg)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    pthread_t thread;
    sigset_t all, before;
    int err;

    sigfillset(&all);
    for (unsigned i = 0; i < sizeof own / sizeof own[0]; i++)
        sigdelset(&all, own[i]);
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
