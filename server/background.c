/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Going into the background.
 *
 * The process forks first, before anything is loaded: threads, rings and
 * libraries made later then live in the process that serves.  The parent is
 * only there so that a shell waits until clients can connect, sees every error,
 * and gets the exit status.  Main thread. */
#include "server/background.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

/* The child's end of the pipe to the parent; -1: in the foreground. */
static int parent_fd = -1;

static int fail(const char *what, int err)
{
    log_write(ABD_ERROR, NULL, "%s: %s", what, strerror(err));
    return err;
}

int background_fill_stdio(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            return errno ? errno : EBADF;
    return 0;
}

/* In the parent: how the child has ended. */
static int status_of_child(pid_t child)
{
    int status = 0;

    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return EXIT_FAILURE;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* In the parent.  The pipe may stay open in processes that a plugin started, so
 * its end says nothing; the pidfd tells that the child has ended. */
static void wait_for_child(pid_t child, int pipe_fd)
{
    struct pollfd fds[] = {{.fd = pipe_fd, .events = POLLIN},
                           {.fd = pidfd_open(child, 0), .events = POLLIN}};
    char byte;

    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            _exit(EXIT_FAILURE);
        if (fds[0].revents & POLLIN)
            _exit(read(pipe_fd, &byte, 1) == 1 ? EXIT_SUCCESS
                                               : status_of_child(child));
        if (fds[0].revents || fds[1].revents)
            _exit(status_of_child(child));
    }
}

int background_enter(void)
{
    int fds[2];
    pid_t child;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return fail("pipe", errno);
    child = fork();
    if (child < 0)
        return fail("fork", errno);
    if (child > 0) {
        close(fds[1]);
        wait_for_child(child, fds[0]);
    }
    close(fds[0]);
    parent_fd = fds[1];
    return 0;
}

/* Best effort: what cannot be replaced stays as it is. */
static void leave_terminal(bool keep_stderr)
{
    _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return;
    for (int fd = 0; fd < (keep_stderr ? 2 : 3); fd++)
        dup2(null, fd);
}

bool background_release(bool keep_stderr)
{
    ssize_t n;

    if (parent_fd < 0)
        return true;
    setsid();
    if (chdir("/") < 0)
        log_write(ABD_WARNING, NULL, "chdir /: %s", strerror(errno));
    /* Before the parent goes: whoever reads its output until the end must not
     * wait for the server. */
    leave_terminal(keep_stderr);
    n = write(parent_fd, "", 1);
    close(parent_fd);
    parent_fd = -1;
    return n == 1;
}

int background_take_stdio(int *ret_in, int *ret_out)
{
    _cleanup_close_ int in = fcntl(0, F_DUPFD_CLOEXEC, 3);
    _cleanup_close_ int out = fcntl(1, F_DUPFD_CLOEXEC, 3);
    _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (in < 0 || out < 0 || null < 0)
        return fail("-s: stdin and stdout", errno);
    if (dup2(null, 0) < 0 || dup2(2, 1) < 0)
        return fail("-s: stdin and stdout", errno);
    *ret_in = take_fd(&in);
    *ret_out = take_fd(&out);
    return 0;
}
