/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Opening and closing.  What may block runs in the work pool, what belongs to a
 * ring on the ring's loop:
 *
 *     file_open -> (pool) open_file -> on_opened -> (each loop) start_ring
 *               -> the last one: abd_opened
 *     file_close -> (each loop) stop_ring -> the last one: (pool) close_file
 *               -> abd_closed */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "file.h"
#include "ring.h"

#ifndef BLKROTATIONAL
#define BLKROTATIONAL _IO(0x12, 126)
#endif
#define DIRECT_ALIGNMENT 4096
#define PREFERRED_MAX    (1u << 20)

static void log_failure(const struct file *file, const char *what, int err)
{
    abd_log(file->disk->instance, file->disk, ABD_ERROR, "%s %s: %s", what,
            file->config->path, strerrordesc_np(err));
}

static void close_fds(struct file *file)
{
    if (file->buffered_fd >= 0 && file->buffered_fd != file->fd)
        close(file->buffered_fd);
    if (file->fd >= 0)
        close(file->fd);
    file->fd = file->buffered_fd = -1;
}

static void file_destroy(struct file *file)
{
    if (!file)
        return;
    close_fds(file);
    if (file->sink)
        munmap(file->sink, FILE_SINK_SIZE);
    free(file->rings);
    free(file);
}

/* Errors that mean: not for writing, but perhaps for reading. */
static bool is_read_only_error(int err)
{
    return err == EACCES || err == EROFS || err == EPERM || err == ETXTBSY;
}

/* Should it have become a FIFO, opening must not wait for its other end.  The
 * flag must not stay: io_uring would not wait for storage, either. */
static int open_for(struct file *file, int flags, int *ret)
{
    int fd =
        open(file->config->path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return errno;

    int now = fcntl(fd, F_GETFL);
    if (now < 0 || fcntl(fd, F_SETFL, now & ~O_NONBLOCK) < 0) {
        int err = errno;
        close(fd);
        return err;
    }
    *ret = fd;
    return 0;
}

static int open_fds(struct file *file)
{
    struct abd_disk *disk = file->disk;
    int err = EROFS;

    file->writable = !disk->read_only && !disk->instance->read_only;
    if (file->writable)
        err = open_for(file, O_RDWR, &file->buffered_fd);
    if (file->writable && is_read_only_error(err)) {
        abd_log(disk->instance, disk, ABD_INFO, "%s can only be read: %s",
                file->config->path, strerrordesc_np(err));
        file->writable = false;
    }
    if (!file->writable)
        err = open_for(file, O_RDONLY, &file->buffered_fd);
    if (err) {
        log_failure(file, "open", err);
        return err;
    }

    file->fd = file->buffered_fd;
    if (!file->config->direct)
        return 0;
    err = open_for(file, O_DIRECT | (file->writable ? O_RDWR : O_RDONLY),
                   &file->fd);
    if (err)
        log_failure(file, "open for direct I/O (direct=true)", err);
    return err;
}

static int find_size(struct file *file, const struct stat *st)
{
    uint64_t size = (uint64_t)st->st_size;

    file->is_block_device = S_ISBLK(st->st_mode);
    if (!file->is_block_device && !S_ISREG(st->st_mode)) {
        abd_log(file->disk->instance, file->disk, ABD_ERROR,
                "%s is neither a regular file nor a block device",
                file->config->path);
        return EINVAL;
    }
    if (file->is_block_device && ioctl(file->fd, BLKGETSIZE64, &size)) {
        int err = errno;
        log_failure(file, "find the size of", err);
        return err;
    }
    file->disk->size = size;
    return 0;
}

static void find_logical_block(struct file *file)
{
    int size = 0;

    if (!file->is_block_device || ioctl(file->fd, BLKSSZGET, &size) ||
        size < 512)
        size = 512;
    file->logical_block = (uint32_t)size;
}

/* What direct I/O needs, from the file system if it says so (since Linux 6.1).
 * Where the end of the file is finer than that, the last bytes are reached by
 * the page cache, and so is everything that a client aligns no better. */
static int find_alignment(struct file *file)
{
    find_logical_block(file);
    file->direct_offset = file->direct_memory = 1;
    if (!file->config->direct)
        return 0;

    file->direct_offset = DIRECT_ALIGNMENT;
    file->direct_memory = DIRECT_ALIGNMENT;
    if (file->is_block_device)
        file->direct_offset = file->logical_block;
#ifdef STATX_DIOALIGN
    struct statx stx;
    if (!statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) &&
        stx.stx_mask & STATX_DIOALIGN) {
        if (!stx.stx_dio_offset_align || !stx.stx_dio_mem_align) {
            log_failure(file, "direct I/O (direct=true) on", ENOTSUP);
            return ENOTSUP;
        }
        file->direct_offset = stx.stx_dio_offset_align;
        file->direct_memory = stx.stx_dio_mem_align;
    }
#endif
    return 0;
}

static void find_in_memory(struct file *file)
{
    struct statfs fs;

    file->in_memory = !file->is_block_device && !file->config->direct &&
                      !fstatfs(file->fd, &fs) &&
                      (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

static bool is_power_of_two(uint64_t n)
{
    return n && !(n & (n - 1));
}

static void describe_blocks(const struct file *file, const struct stat *st)
{
    struct abd_disk *disk = file->disk;
    uint64_t preferred = (uint64_t)st->st_blksize;
    unsigned optimal = 0;

    disk->block_min = 1;
    if (disk->size % file->direct_offset == 0 && file->direct_offset <= 65536)
        disk->block_min = file->direct_offset;
    if (file->is_block_device && !ioctl(file->fd, BLKIOOPT, &optimal) &&
        optimal)
        preferred = optimal;
    if (!is_power_of_two(preferred) || preferred < 4096 ||
        preferred > PREFERRED_MAX)
        preferred = 4096;
    if (preferred < disk->block_min)
        preferred = disk->block_min;
    disk->block_preferred = (uint32_t)preferred;
    if (file->direct_memory > 4096)
        disk->data_alignment = file->direct_memory;
}

static void describe_disk(const struct file *file, const struct stat *st)
{
    struct abd_disk *disk = file->disk;
    unsigned short rotational = 0;

    describe_blocks(file, st);
    disk->ops = 1u << ABD_OP_READ;
    if (!file->is_block_device)
        disk->ops |= 1u << ABD_OP_EXTENTS;
    if (!file->config->direct)
        disk->ops |= 1u << ABD_OP_CACHE;
    if (file->writable) {
        disk->ops |= 1u << ABD_OP_WRITE | 1u << ABD_OP_ZERO |
                     1u << ABD_OP_TRIM | 1u << ABD_OP_FLUSH;
        disk->fua = ABD_FUA_NATIVE;
    }

    disk->flags = ABD_DISK_PARALLEL | ABD_DISK_FAST_ZERO;
    if (!file->config->direct) {
        disk->flags |= ABD_DISK_LENDS;
        disk->lend_min = file_debug.lend_min > 0 ? (uint32_t)file_debug.lend_min
                                                 : FILE_LEND_MIN;
    }
    if (file->is_block_device && !ioctl(file->fd, BLKROTATIONAL, &rotational) &&
        rotational)
        disk->flags |= ABD_DISK_ROTATIONAL;
}

static int set_up(struct file *file)
{
    struct stat st;

    int err = open_fds(file);
    if (err)
        return err;
    if (fstat(file->fd, &st)) {
        err = errno;
        log_failure(file, "examine", err);
        return err;
    }
    err = find_size(file, &st);
    if (!err)
        err = find_alignment(file);
    if (err)
        return err;

    find_in_memory(file);
    describe_disk(file, &st);
    return 0;
}

/* In the pool. */
static void open_file(void *arg)
{
    struct file *file = arg;

    file->open_error = set_up(file);
}

static void start_ring(void *arg)
{
    struct ring *ring = arg;
    struct file *file = ring->file;

    ring_start(ring, file);
    if (atomic_fetch_sub(&file->rings_pending, 1) == 1)
        abd_opened(file->disk, 0);
}

/* Calls fn for each ring, on its loop. */
static void for_each_ring(struct file *file, void (*fn)(void *arg))
{
    unsigned count = file->ring_count;

    /* The last call may end the file, so nothing of it is touched after the
     * last post. */
    struct ring *rings = file->rings;
    atomic_store(&file->rings_pending, count);
    for (unsigned i = 0; i < count; i++)
        abd_post(abd_loop_at(i), &rings[i].task, fn, &rings[i]);
}

static void on_opened(void *arg)
{
    struct file *file = arg;
    struct abd_disk *disk = file->disk;
    int err = file->open_error;

    if (!err) {
        for_each_ring(file, start_ring);
        return;
    }
    disk->state = NULL;
    file_destroy(file);
    abd_opened(disk, err);
}

static struct file *file_create(struct abd_disk *disk)
{
    struct file *file = calloc(1, sizeof *file);
    if (!file)
        return NULL;

    file->disk = disk;
    file->config = disk->instance->state;
    file->fd = file->buffered_fd = -1;
    file->ring_count = abd_loop_count();
    file->rings = calloc(file->ring_count, sizeof *file->rings);
    void *sink = mmap(NULL, FILE_SINK_SIZE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sink != MAP_FAILED)
        file->sink = sink;
    if (!file->rings || !file->sink) {
        file_destroy(file);
        return NULL;
    }
    for (unsigned i = 0; i < file->ring_count; i++)
        file->rings[i].file = file;
    return file;
}

void file_open(struct abd_disk *disk)
{
    struct file *file = file_create(disk);

    if (!file) {
        abd_opened(disk, ENOMEM);
        return;
    }
    disk->state = file;
    abd_work_start(disk->loop, &file->work, open_file, on_opened, file);
}

static void close_file(void *arg)
{
    close_fds(arg);
}

static void on_closed(void *arg)
{
    struct file *file = arg;
    struct abd_disk *disk = file->disk;

    file_destroy(file);
    disk->state = NULL;
    abd_closed(disk);
}

static void stop_ring(void *arg)
{
    struct ring *ring = arg;
    struct file *file = ring->file;

    ring_stop(ring);
    if (atomic_fetch_sub(&file->rings_pending, 1) == 1)
        abd_work_start(file->disk->loop, &file->work, close_file, on_closed,
                       file);
}

void file_close(struct abd_disk *disk)
{
    for_each_ring(disk->state, stop_ring);
}

int file_check(const struct abd_instance *instance, const char *path)
{
    struct stat st;

    if (stat(path, &st)) {
        int err = errno;
        abd_log(instance, NULL, ABD_ERROR, "%s: %s", path,
                strerrordesc_np(err));
        return err;
    }
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        abd_log(instance, NULL, ABD_ERROR,
                "%s is neither a regular file nor a block device", path);
        return EINVAL;
    }
    return 0;
}
