/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Three ways to learn what is cached:
 *
 * - preadv2(RWF_NOWAIT) reads what is there and says EAGAIN otherwise.
 * - cachestat(2), since Linux 6.5, counts pages without reading them.  It
 * counts pages that are still being read, too; those are read ahead in order,
 * so the last byte is looked at with RWF_NOWAIT, while anything is read that
 * was not cached.
 * - On file systems in memory (tmpfs), which have no RWF_NOWAIT, all is.
 *
 * Where there is no cachestat, reading with RWF_NOWAIT into memory that nobody
 * looks at tells the same, for the price of the copy.  Where neither is known,
 * nothing counts as cached. */
#include "cached.h"

#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "file.h"

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

/* For so long after a miss what is read ahead may still be under way. */
#define MISSED_NS UINT64_C(1000000000)

/* The kernel's, which older headers lack. */
struct cachestat_range_arg {
    uint64_t offset, length;
};
struct cachestat_result {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

/* flags: RWF_NOWAIT or 0.  Bytes, or a negative errno. */
static ssize_t read_at(int fd, void *to, uint64_t length, uint64_t offset,
                       int flags)
{
    struct iovec iov = {to, length};
    ssize_t n = preadv2(fd, &iov, 1, (off_t)offset, flags);

    return n < 0 ? -errno : n;
}

static ssize_t read_nowait(struct file *file, void *to, uint64_t length,
                           uint64_t offset)
{
    if (file_lacks(&file->no_nowait_read))
        return -EOPNOTSUPP;
    ssize_t n = file_debug.nowait
                    ? read_at(file->buffered_fd, to, length, offset, RWF_NOWAIT)
                    : -EOPNOTSUPP;
    if (n == -EOPNOTSUPP)
        file_note_lack(&file->no_nowait_read);
    return n;
}

int cached_read(struct op *op)
{
    struct file *file = op->file;
    const struct abd_request *request = op->request;

    while (op->done < request->length) {
        uint64_t length, offset = request->offset + op->done;
        void *place = op_place(op, &length);
        ssize_t n = file->in_memory
                        ? read_at(file->buffered_fd, place, length, offset, 0)
                        : read_nowait(file, place, length, offset);
        if (n == -EINTR)
            continue;
        if (n == -EAGAIN || n == -EOPNOTSUPP)
            return 0;
        if (n <= 0)
            return n ? (int)-n : EIO;
        op->done += (uint64_t)n;
    }
    return 0;
}

int cached_write(struct op *op)
{
    struct file *file = op->file;
    const struct abd_request *request = op->request;
    int flags = file->in_memory ? 0 : RWF_NOWAIT;

    if (flags && (file_lacks(&file->no_nowait_write) || !file_debug.nowait))
        return 0;
    while (op->done < request->length) {
        uint64_t length;
        void *place = op_place(op, &length);
        struct iovec iov = {place, length};
        ssize_t n = pwritev2(file->buffered_fd, &iov, 1,
                             (off_t)(request->offset + op->done), flags);
        if (n > 0) {
            op->done += (uint64_t)n;
            continue;
        }
        if (n == 0)
            return EIO;
        if (errno == EINTR)
            continue;
        if (flags && errno == EOPNOTSUPP)
            file_note_lack(&file->no_nowait_write);
        return flags && (errno == EAGAIN || errno == EOPNOTSUPP) ? 0 : errno;
    }
    return 0;
}

static bool ask_cachestat(struct file *file, uint64_t offset, uint64_t length,
                          uint64_t *ret_pages)
{
    struct cachestat_range_arg range = {offset, length};
    struct cachestat_result result = {0};

    if (file_lacks(&file->no_cachestat))
        return false;
    if (!file_debug.cachestat ||
        syscall(SYS_cachestat, file->buffered_fd, &range, &result, 0)) {
        file_note_lack(&file->no_cachestat);
        return false;
    }
    *ret_pages = result.cached;
    return true;
}

/* Reads the range to nowhere. */
static bool probe_by_reading(struct file *file, uint64_t offset,
                             uint64_t length)
{
    while (length) {
        uint64_t step = length < FILE_SINK_SIZE ? length : FILE_SINK_SIZE;
        ssize_t n = read_nowait(file, file->sink, step, offset);
        if (n == -EINTR)
            continue;
        if (n <= 0)
            return false;
        offset += (uint64_t)n;
        length -= (uint64_t)n;
    }
    return true;
}

bool cached_is_resident(struct file *file, uint64_t offset, uint64_t length)
{
    const uint64_t page = 4096;
    uint64_t last = offset + length - 1, pages;
    uint8_t byte;

    if (file->in_memory)
        return true;
    if (!ask_cachestat(file, offset, length, &pages))
        return !file_is_changing(file) &&
               probe_by_reading(file, offset, length);
    if (pages < last / page - offset / page + 1) {
        atomic_store_explicit(&file->missed_ns, abd_loop_now_ns(),
                              memory_order_relaxed);
        return false;
    }
    if (abd_loop_now_ns() -
            atomic_load_explicit(&file->missed_ns, memory_order_relaxed) >
        MISSED_NS)
        return true;

    ssize_t n = read_nowait(file, &byte, 1, last);
    return n == 1 || n == -EOPNOTSUPP;
}
