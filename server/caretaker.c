/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A process that keeps the privileges.
 *
 * Server and caretaker share a socket pair.  A byte from the server means
 * "write the pidfile now"; the answer is an errno value.  The end of the stream
 * means "remove everything", and the caretaker's own end that it has.  It takes
 * no other orders, so an attacker in the server gains nothing by it. */
#include "server/caretaker.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* The server's end; -1: there is none.  The process id is set before it. */
static atomic_int server_end = -1;
static pid_t process;

/* Keeps nothing open that belongs to the server: its clients, listeners, and
 * the pipe of whoever waits for it. */
static void close_all_but(int fd)
{
    if (fd > 0)
        close_range(0, (unsigned)fd - 1, 0);
    close_range((unsigned)fd + 1, ~0U, 0);
}

static _Noreturn void take_care(int fd, const char *pidfile,
                                const struct caretaker_tasks *tasks)
{
    char byte;

    prctl(PR_SET_NAME, "abdkit-care");
    close_all_but(fd);
    while (read(fd, &byte, 1) == 1) {
        int err = pidfile ? tasks->write_pidfile(pidfile) : EINVAL;

        if (send(fd, &err, sizeof err, MSG_NOSIGNAL) != sizeof err)
            break;
    }
    tasks->remove();
    _exit(EXIT_SUCCESS);
}

int caretaker_start(const char *pidfile, const struct caretaker_tasks *tasks)
{
    int fds[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return errno;
    pid = fork();
    if (pid < 0) {
        int err = errno;

        close(fds[0]);
        close(fds[1]);
        return err;
    }
    if (pid == 0)
        take_care(fds[1], pidfile, tasks);
    close(fds[1]);
    process = pid;
    atomic_store(&server_end, fds[0]);
    return 0;
}

bool caretaker_is_there(void)
{
    return atomic_load(&server_end) >= 0;
}

int caretaker_write_pidfile(void)
{
    int fd = atomic_load(&server_end), err;

    if (send(fd, "", 1, MSG_NOSIGNAL) != 1)
        return errno;
    if (recv(fd, &err, sizeof err, MSG_WAITALL) != sizeof err)
        return EPIPE;
    return err;
}

void caretaker_remove(void)
{
    /* Whoever comes first does it. */
    int fd = atomic_exchange(&server_end, -1);
    char byte;

    if (fd < 0)
        return;
    shutdown(fd, SHUT_WR);
    while (read(fd, &byte, 1) > 0)
        continue;
    close(fd);
    waitpid(process, NULL, 0);
}
