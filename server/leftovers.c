/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Files that exist while the server runs.
 *
 * Each is remembered by device and inode: if somebody has replaced it, it is no
 * longer ours to remove.  Where the process gives up its privileges, a
 * caretaker does the work (and has its own copy of the list).  The list is
 * written by the main thread at start-up; it is read at the end, maybe by a
 * signal handler, so nothing is allocated. */
#include "server/leftovers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "server/caretaker.h"

/* A socket in a private folder, a status socket, a pidfile; and some room. */
#define LEFTOVERS_MAX 8

static struct leftover {
    const char *path;
    bool is_folder;
    dev_t device;
    ino_t inode;
} leftovers[LEFTOVERS_MAX];
static atomic_uint leftovers_n;

/* Whose number goes into the pidfile. */
static pid_t server_pid;

void leftovers_add(const char *path, bool is_folder)
{
    unsigned n = atomic_load_explicit(&leftovers_n, memory_order_relaxed);
    struct stat info;

    if (n == LEFTOVERS_MAX || lstat(path, &info) < 0)
        return;
    leftovers[n] = (struct leftover){path, is_folder, info.st_dev, info.st_ino};
    /* The entry is there before a signal handler can count it. */
    atomic_store_explicit(&leftovers_n, n + 1, memory_order_release);
}

static void remove_here(void)
{
    /* Whoever comes first takes all. */
    unsigned n = atomic_exchange(&leftovers_n, 0);
    struct stat info;

    while (n-- > 0) {
        const struct leftover *leftover = &leftovers[n];

        if (lstat(leftover->path, &info) < 0 ||
            info.st_dev != leftover->device || info.st_ino != leftover->inode)
            continue;
        if (leftover->is_folder)
            rmdir(leftover->path);
        else
            unlink(leftover->path);
    }
}

/* 0 or an errno value.  The text is short: it is written whole or not. */
static int write_pid(int fd)
{
    char text[32];
    int length = snprintf(text, sizeof text, "%ld\n", (long)server_pid);

    return write(fd, text, (size_t)length) == length ? 0 : errno ? errno : EIO;
}

/* /dev/stdout, a FIFO: written in place, never removed. */
static int write_special(const char *path)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    int err = fd < 0 ? errno : write_pid(fd);

    return err;
}

static int write_here(const char *path)
{
    _cleanup_free_ char *draft = NULL;
    _cleanup_close_ int fd = -1;
    struct stat info;
    int err;

    if (lstat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return write_special(path);
    if (asprintf(&draft, "%s.%ld", path, (long)server_pid) < 0) {
        draft = NULL;
        return ENOMEM;
    }
    fd = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return errno;
    err = write_pid(fd);
    /* Who sees the file sees all of it. */
    if (!err && rename(draft, path) < 0)
        err = errno;
    if (err) {
        unlink(draft);
        return err;
    }
    leftovers_add(path, false);
    return 0;
}

int leftovers_write_pidfile(const char *path)
{
    int err;

    server_pid = getpid();
    err = caretaker_is_there() ? caretaker_write_pidfile() : write_here(path);
    if (err)
        log_write(ABD_ERROR, NULL, "pidfile %s: %s", path, strerror(err));
    return err;
}

int leftovers_keep_privileges(const char *pidfile)
{
    static const struct caretaker_tasks tasks = {write_here, remove_here};
    int err;

    if (!pidfile && atomic_load(&leftovers_n) == 0)
        return 0;
    server_pid = getpid();
    err = caretaker_start(pidfile, &tasks);
    if (err)
        log_write(ABD_ERROR, NULL, "starting a process for the pidfile: %s",
                  strerror(err));
    return err;
}

void leftovers_remove(void)
{
    caretaker_remove();
    /* What came after the caretaker; what it has removed is passed over. */
    remove_here();
}
