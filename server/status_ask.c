/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* abdkit --status-of: asks a server, and has the answer printed.
 *
 * Whoever listens there need not be one of ours: the time, the size and the
 * form of the answer are checked.  Main thread, no loops. */
#include "server/status.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/json_read.h"
#include "base/log.h"
#include "server/limits.h"
#include "server/status_print.h"

/* How long the whole answer may take. */
#define TIME_S 10
/* 100,000 connections of half a KiB each. */
#define ANSWER_MAX (64 * MIB)

static int fail(const char *path, const char *why)
{
    log_write(ABD_ERROR, NULL, "--status-of %s: %s", path, why);
    return EXIT_FAILURE;
}

static const char *why_not_connected(const char *path, int err)
{
    struct stat status;

    switch (err) {
    case ECONNREFUSED:
        if (stat(path, &status) == 0 && !S_ISSOCK(status.st_mode))
            return "it is not a socket";
        return "nobody listens there, the server has ended";
    case EPROTOTYPE:
        return "it is not a stream socket";
    case EAGAIN:
        return "the server does not accept the connection";
    default:
        return strerror(err);
    }
}

/* A blocking connect, but with a limit: of one without blocking that finds a
 * full queue the kernel would not tell when to try again. */
static int connect_to(const char *path, int *ret)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval limit = {.tv_sec = TIME_S};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return errno;
    if (strlen(path) >= sizeof address.sun_path)
        return ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path));
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        return errno;
    *ret = take_fd(&fd);
    return 0;
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits until there is something to read; false: too late. */
static bool wait_for(int fd, int64_t deadline_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    for (;;) {
        int64_t left = deadline_ms - now_ms();

        if (left <= 0)
            return false;
        if (poll(&poll_fd, 1, (int)left) > 0)
            return true;
    }
}

/* Reads up to the end; 0 or an errno value. */
static int receive(int fd, char **ret_text, size_t *ret_length)
{
    int64_t deadline_ms = now_ms() + (int64_t)TIME_S * 1000;
    _cleanup_free_ char *text = NULL;
    size_t length = 0, room = 0;

    for (;;) {
        ssize_t n;

        if (length == room) {
            char *larger;

            room = room ? 2 * room : 64 * 1024;
            if (room > ANSWER_MAX)
                return EFBIG;
            larger = realloc(text, room);
            if (!larger)
                return ENOMEM;
            text = larger;
        }
        if (!wait_for(fd, deadline_ms))
            return ETIMEDOUT;
        n = recv(fd, text + length, room - length, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            break;
        length += (size_t)n;
    }
    *ret_text = take_pointer(text);
    *ret_length = length;
    return 0;
}

static int print(const char *path, const char *text, size_t length)
{
    struct json_document document = {.root = NULL};
    struct json_fault fault = {0, ""};
    int status = EXIT_SUCCESS, err = json_read(text, length, &document, &fault);

    if (err == ENOMEM)
        return fail(path, strerror(err));
    if (err && fault.at == length)
        return fail(path, "the answer ends too early");
    if (err) {
        log_write(ABD_ERROR, NULL,
                  "--status-of %s: the answer is not JSON: byte %zu: %s", path,
                  fault.at, fault.why);
        return EXIT_FAILURE;
    }
    if (json_find(document.root, "abdkit"))
        status_print(document.root);
    else
        status = fail(path, "the answer is JSON, but not abdkit's status");
    json_document_finish(&document);
    if (status == EXIT_SUCCESS && (fflush(stdout) != 0 || ferror(stdout)))
        status = fail(path, "printing it failed");
    return status;
}

int status_of(const char *path)
{
    _cleanup_close_ int fd = -1;
    _cleanup_free_ char *text = NULL;
    size_t length = 0;
    int err = connect_to(path, &fd);

    if (err)
        return fail(path, why_not_connected(path, err));
    err = receive(fd, &text, &length);
    if (err == EFBIG)
        return fail(path, "the answer does not end");
    if (err == ETIMEDOUT)
        return fail(path, "no complete answer within 10 s");
    if (err)
        return fail(path, strerror(err));
    if (length == 0)
        return fail(path, "the server closed the connection without an answer");
    return print(path, text, length);
}
