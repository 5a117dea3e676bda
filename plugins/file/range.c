/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Zero and trim are fallocate(2), in steps so that a request whose client has
 * gone ends early.  What the file system doesn't have is remembered: then ZERO
 * answers ENOTSUP at once and the server writes zeroes (or tells the client
 * that it would not be fast), and TRIM, a hint, does nothing. */
#include "range.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

#define STEP (UINT64_C(1) << 30)

/* One of the ways to change a range. */
struct method {
    int (*change)(struct file *file, int mode, uint64_t offset,
                  uint64_t length);
    int mode;
    atomic_bool *lack; /* remembers that it is not there */
};

static int change_by_fallocate(struct file *file, int mode, uint64_t offset,
                               uint64_t length)
{
    return fallocate(file->fd, mode, (off_t)offset, (off_t)length) ? errno : 0;
}

static int change_by_discard(struct file *file, int mode, uint64_t offset,
                             uint64_t length)
{
    uint64_t range[2] = {offset, length};

    (void)mode;
    return ioctl(file->fd, BLKDISCARD, range) ? errno : 0;
}

/* 0, ENOTSUP if there is no such method here, or what went wrong. */
static int change_range(struct file *file, const struct abd_request *request,
                        struct method method)
{
    uint64_t offset = request->offset, rest = request->length;

    if (file_lacks(method.lack))
        return ENOTSUP;
    while (rest) {
        if (abd_cancelled(request))
            return ECANCELED;
        uint64_t length = rest < STEP ? rest : STEP;
        atomic_fetch_add_explicit(&file->changes, 1, memory_order_relaxed);
        int err = method.change(file, method.mode, offset, length);
        atomic_fetch_sub_explicit(&file->changes, 1, memory_order_relaxed);
        if (err == EINTR)
            continue;
        if (file_is_unsupported(err)) {
            file_note_lack(method.lack);
            return ENOTSUP;
        }
        if (err)
            return err;
        offset += length;
        rest -= length;
    }
    return 0;
}

/* Block devices change whole blocks only; part of one is for the server. */
static bool is_aligned(const struct file *file,
                       const struct abd_request *request)
{
    return !file->is_block_device ||
           (request->offset | request->length) % file->logical_block == 0;
}

static int punch(struct file *file, const struct abd_request *request)
{
    return change_range(
        file, request,
        (struct method){change_by_fallocate,
                        FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        &file->no_punch});
}

static int zero_range(struct file *file, const struct abd_request *request)
{
    return change_range(
        file, request,
        (struct method){change_by_fallocate,
                        FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                        &file->no_zero_range});
}

static int allocate(struct file *file, const struct abd_request *request)
{
    return change_range(file, request,
                        (struct method){change_by_fallocate,
                                        FALLOC_FL_KEEP_SIZE,
                                        &file->no_allocate});
}

/* The ways to zeroes, best first. */
static int zero_file(struct file *file, const struct abd_request *request)
{
    int err = ENOTSUP;

    if (request->flags & ABD_REQ_MAY_TRIM)
        err = punch(file, request);
    if (err == ENOTSUP)
        err = zero_range(file, request);
    if (err != ENOTSUP || file_lacks(&file->no_allocate))
        return err;
    err = punch(file, request);
    return err ? err : allocate(file, request);
}

/* On a block device a hole may be punched fast or not at all, while the other
 * way may end in the kernel writing zeroes. */
static int zero_device(struct file *file, const struct abd_request *request)
{
    int err = ENOTSUP;

    if (request->flags & ABD_REQ_MAY_TRIM)
        err = punch(file, request);
    if (err == ENOTSUP && !(request->flags & ABD_REQ_FAST))
        err = zero_range(file, request);
    return err;
}

/* Durable, where the client asked for that. */
static int end_change(struct file *file, const struct abd_request *request,
                      int err)
{
    return !err && request->flags & ABD_REQ_FUA ? file_sync(file) : err;
}

int range_zero(struct file *file, struct abd_request *request)
{
    int err = ENOTSUP;

    if (is_aligned(file, request))
        err = file->is_block_device ? zero_device(file, request)
                                    : zero_file(file, request);
    /* A range that this file system finds odd is still the server's to write.
     */
    if (err == EINVAL)
        err = ENOTSUP;
    return end_change(file, request, err);
}

int range_trim(struct file *file, struct abd_request *request)
{
    int err = ENOTSUP;

    if (!file->is_block_device)
        err = punch(file, request);
    else if (is_aligned(file, request))
        err = change_range(
            file, request,
            (struct method){change_by_discard, 0, &file->no_punch});
    if (err == ENOTSUP || err == EINVAL)
        err = 0;
    return end_change(file, request, err);
}

/* The end of the hole that begins at pos, where the file has no more data.
 * What lies behind the end of a file that became shorter can't be read, so it
 * must not be taken for zeroes. */
static uint64_t last_hole_end(struct file *file, uint64_t pos, uint64_t end)
{
    struct stat st;

    if (fstat(file->fd, &st) || st.st_size < 0 || (uint64_t)st.st_size < pos)
        return pos;
    return (uint64_t)st.st_size < end ? (uint64_t)st.st_size : end;
}

/* 0 and the next place where data (or a hole) begins, at most end. */
static int seek(struct file *file, uint64_t pos, uint64_t end, int whence,
                uint64_t *ret)
{
    off_t found = lseek(file->fd, (off_t)pos, whence);

    if (found < 0)
        return errno;
    *ret = (uint64_t)found < end ? (uint64_t)found : end;
    return 0;
}

/* From pos to next; false: enough.  What changes meanwhile may leave nothing
 * between two places that were looked for one after the other. */
static bool add(struct abd_request *request, uint64_t pos, uint64_t next,
                uint32_t flags)
{
    return next <= pos || abd_add_extent(request, next - pos, flags);
}

int range_extents(struct file *file, struct abd_request *request)
{
    uint64_t pos = request->offset, end = pos + request->length, next = 0;

    if (file_lacks(&file->no_seek))
        return 0;
    while (pos < end && !abd_cancelled(request)) {
        int err = seek(file, pos, end, SEEK_DATA, &next);
        if (err == ENXIO) {
            next = last_hole_end(file, pos, end);
            add(request, pos, next, ABD_EXTENT_HOLE | ABD_EXTENT_ZERO);
            return 0;
        }
        if (err == EINVAL || file_is_unsupported(err)) {
            file_note_lack(&file->no_seek);
            return 0;
        }
        if (err)
            return err;
        if (!add(request, pos, next, ABD_EXTENT_HOLE | ABD_EXTENT_ZERO))
            return 0;
        pos = next;
        if (pos == end)
            return 0;

        /* ENXIO: the file was cut between the two calls. */
        err = seek(file, pos, end, SEEK_HOLE, &next);
        if (err == ENXIO)
            return 0;
        if (err)
            return err;
        if (!add(request, pos, next, 0))
            return 0;
        pos = next;
    }
    return 0;
}

int range_cache(struct file *file, const struct abd_request *request)
{
    int err = posix_fadvise(file->fd, (off_t)request->offset,
                            (off_t)request->length, POSIX_FADV_WILLNEED);

    /* It was only a hint. */
    return err == EIO ? EIO : 0;
}

int file_sync(struct file *file)
{
    int err = atomic_load_explicit(&file->sync_error, memory_order_relaxed);

    if (err)
        return err;
    do
        err = fdatasync(file->fd) ? errno : 0;
    while (err == EINTR);
    if (err)
        file_note_sync_error(file, err);
    return err;
}
