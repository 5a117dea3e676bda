/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The status socket, on loop 0.
 *
 *     (accept) -> waiting -> asked -> reading -> (closed)
 *
 * Nobody needs to ask anything: who connects gets the answer.  While one is
 * being collected (the asked wait for it), newcomers wait for the next, so that
 * what everybody gets was true after he came.  All who asked share one text. */
#include "server/status.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "abd-loop.h"
#include "base/list.h"
#include "base/log.h"
#include "loop/loop.h"
#include "server/limits.h"
#include "server/settings.h"
#include "server/status_collect.h"
#include "server/status_write.h"

/* When to try again if there were no descriptors or memory for an asker. */
#define RETRY_NS SECOND

/* Shared by all who asked; freed with the last of them. */
struct answer {
    char *text;
    size_t length;
    unsigned askers;
};

/* Made when it is accepted, ends with its answer, or when it gives way. */
struct asker {
    struct list link; /* waiting, asked or reading */
    int fd;
    struct answer *answer; /* reading */
    size_t sent;
    bool watching;
    struct abd_watch watch;
    struct abd_timer timer;
};

static int listen_fd = -1;
static uint64_t started_ns;

/* Loop 0. */
static struct list waiting, asked, reading;
static unsigned askers_n;
static struct abd_watch listen_watch;
static bool listening; /* listen_watch asks for something */
static bool collecting;
static struct abd_timer retry;
static struct loop_message start_message;

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

/* --- askers --- */

static void answer_unref(struct answer *answer)
{
    if (!answer || --answer->askers > 0)
        return;
    free(answer->text);
    free(answer);
}

static void end(struct asker *asker)
{
    abd_watch_stop(&asker->watch);
    abd_timer_stop(&asker->timer);
    answer_unref(asker->answer);
    close(asker->fd);
    list_remove(&asker->link);
    free(asker);
    askers_n--;
}

static void on_timeout(void *arg)
{
    end(arg);
}

/* Sends what the socket takes; ends with the last byte, or if there is no
 * use. */
static void on_writable(void *arg, uint32_t ready)
{
    struct asker *asker = arg;
    const struct answer *answer = asker->answer;
    ssize_t n = 0;

    (void)ready;
    while (n >= 0 && asker->sent < answer->length) {
        n = send(asker->fd, answer->text + asker->sent,
                 answer->length - asker->sent, MSG_NOSIGNAL);
        if (n > 0)
            asker->sent += (size_t)n;
    }
    if (n < 0 && errno == EAGAIN) {
        if (asker->watching)
            return;
        asker->watching = true;
        if (abd_watch_start(&asker->watch, asker->fd, ABD_WRITABLE, on_writable,
                            asker) == 0)
            return;
    }
    end(asker);
}

static bool add_asker(int fd)
{
    struct asker *asker = calloc(1, sizeof *asker);

    if (!asker) {
        close(fd);
        return false;
    }
    asker->fd = fd;
    list_append(&waiting, &asker->link);
    askers_n++;
    return true;
}

/* --- listening --- */

static void on_readable(void *arg, uint32_t ready);

static void pause_listening(void)
{
    abd_watch_stop(&listen_watch);
    listening = false;
}

static void resume_listening(void *arg)
{
    (void)arg;
    abd_timer_stop(&retry);
    if (listening)
        return;
    listening = abd_watch_start(&listen_watch, listen_fd, ABD_READABLE,
                                on_readable, NULL) == 0;
    if (!listening)
        abd_timer_start(&retry, RETRY_NS, 0, resume_listening, NULL);
}

/* --- answering --- */

static struct answer *make_answer(const struct status *status)
{
    struct answer *answer = calloc(1, sizeof *answer);

    if (answer && !status->failed)
        answer->text = status_write(status, now_ns() - started_ns);
    if (answer && answer->text) {
        answer->length = strlen(answer->text);
        return answer;
    }
    free(answer);
    return NULL;
}

static void collect(void);

static void on_collected(const struct status *status)
{
    struct answer *answer = make_answer(status);
    struct list now;

    collecting = false;
    list_init(&now);
    list_append_all(&now, &asked);
    if (!answer)
        log_write(ABD_WARNING, NULL, "no memory to answer at --status %s",
                  settings.status_path);
    else
        answer->askers = 1; /* this function, until all have theirs */
    list_for_each_safe (link, &now) {
        struct asker *asker = container_of(link, struct asker, link);

        if (!answer) {
            end(asker);
            continue;
        }
        list_remove(&asker->link);
        list_append(&reading, &asker->link);
        asker->answer = answer;
        answer->askers++;
        abd_timer_start(&asker->timer, LIMIT_STATUS_NS, 0, on_timeout, asker);
        on_writable(asker, ABD_WRITABLE);
    }
    answer_unref(answer);
    resume_listening(NULL);
    collect();
}

static void collect(void)
{
    if (collecting || list_is_empty(&waiting))
        return;
    collecting = true;
    list_append_all(&asked, &waiting);
    status_collect(on_collected);
}

/* --- accepting --- */

/* Accepts one; false: enough for now.  If there are too many, who reads for
 * longest gives way. */
static bool accept_one(void)
{
    struct asker *first = list_first(&reading, struct asker, link);
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    assert(first || askers_n < LIMIT_STATUS_CLIENTS);
    if (fd >= 0 && add_asker(fd)) {
        if (first && askers_n > LIMIT_STATUS_CLIENTS)
            end(first);
        return true;
    }
    if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
        return true;
    if (fd < 0 && errno == EAGAIN)
        return false;
    pause_listening();
    if (fd >= 0 || errno != EINVAL) /* EINVAL: status_stop() */
        abd_timer_start(&retry, RETRY_NS, 0, resume_listening, NULL);
    return false;
}

static void on_readable(void *arg, uint32_t ready)
{
    (void)arg;
    (void)ready;
    for (unsigned n = 0; n < LIMIT_STATUS_CLIENTS; n++) {
        if (askers_n >= LIMIT_STATUS_CLIENTS && list_is_empty(&reading)) {
            pause_listening(); /* until the answer that all wait for */
            break;
        }
        if (!accept_one())
            break;
    }
    collect();
}

static void on_start(struct loop_message *message)
{
    (void)message;
    resume_listening(NULL);
}

int status_start(int fd)
{
    int flags;

    if (fd < 0)
        return 0;
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        int err = errno;

        log_write(ABD_ERROR, NULL, "--status %s: %s", settings.status_path,
                  strerror(err));
        close(fd);
        return err;
    }
    list_init(&waiting);
    list_init(&asked);
    list_init(&reading);
    started_ns = now_ns();
    listen_fd = fd;
    start_message.fn = on_start;
    loop_send(abd_loop_at(0), &start_message);
    return 0;
}

/* After a good drain the loops are at rest, so nobody looks at anything; else
 * the process exits now.  Newcomers are turned away by the kernel, rather than
 * left waiting while plugins end. */
void status_stop(void)
{
    if (listen_fd >= 0)
        shutdown(listen_fd, SHUT_RDWR);
}
