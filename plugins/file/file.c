/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A disk that is a file or a block device: configuration, and the way of each
 * request.
 *
 * What the page cache holds is answered inside submit().  Reads that must wait
 * go to the loop's ring; buffered writes, which Linux mostly can't do without
 * blocking, go to the work pool, those of a turn together; direct I/O goes to
 * the ring.  A large read is sent from the page cache: if it is not there yet,
 * it is read to nowhere first, so that it needs no memory of ours.  submit()
 * runs on every loop at once. */
#include "file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blocking.h"
#include "cached.h"
#include "ring.h"

struct file_debug file_debug = {
    .io_uring = 1, .nowait = 1, .cachestat = 1, .dsync = 1};

bool file_is_unsupported(int err)
{
    return err == EOPNOTSUPP || err == ENOSYS || err == ENOTTY || err == ENODEV;
}

void file_note_sync_error(struct file *file, int err)
{
    int none = 0;

    if (atomic_compare_exchange_strong(&file->sync_error, &none, err))
        abd_log(file->disk->instance, file->disk, ABD_ERROR,
                "flush %s: %s; written data may be lost, so all flushes fail "
                "until the disk is opened again",
                file->config->path, strerrordesc_np(err));
}

bool file_has_dsync(struct file *file)
{
    return file_debug.dsync && !file_lacks(&file->no_dsync);
}

int file_fd_for(const struct file *file, uint64_t offset, uint64_t length,
                const void *data)
{
    bool aligned = (offset | length) % file->direct_offset == 0 &&
                   (uintptr_t)data % file->direct_memory == 0;

    return aligned ? file->fd : file->buffered_fd;
}

void *op_place(const struct op *op, uint64_t *ret_length)
{
    uint64_t length = op->request->length - op->done;

    if (!op->into_sink) {
        *ret_length = length;
        return (uint8_t *)op->request->data + op->done;
    }
    *ret_length = length < FILE_SINK_SIZE ? length : FILE_SINK_SIZE;
    return op->file->sink;
}

struct op *op_init(struct abd_request *request)
{
    struct op *op = request->scratch;

    op->request = request;
    op->file = file_of(request);
    op->into_sink = request->op == ABD_OP_READ && !request->data;
    return op;
}

static void release_nothing(void *arg)
{
    (void)arg;
}

static void lend(struct op *op)
{
    op->piece = (struct abd_piece){
        .kind = ABD_PIECE_FILE,
        .fd = op->file->buffered_fd,
        .fd_offset = op->request->offset,
        .length = op->request->length,
    };
    abd_complete_lent(op->request, &op->piece, 1, release_nothing, NULL);
}

void op_complete(struct op *op, int err)
{
    struct abd_request *request = op->request;
    bool is_read = request->op == ABD_OP_READ;

    if (!err && op->into_sink) {
        lend(op);
    } else if (!err || err == ECANCELED ||
               (!is_read && request->op != ABD_OP_WRITE)) {
        abd_complete(request, err);
    } else {
        /* Others' data may have been lost with a write that had to be durable:
         * the kernel tells only once. */
        if (!is_read && err == EIO && request->flags & ABD_REQ_FUA)
            file_note_sync_error(op->file, err);
        abd_fail(request, err, op->done, "%s of the file failed",
                 is_read ? "reading" : "writing");
    }
}

/* What is cached is read without the lock that changes keep. */
static bool may_try_read(const struct op *op)
{
    return !file_is_changing(op->file) ||
           cached_is_resident(op->file, op->request->offset,
                              op->request->length);
}

static void submit_read(struct file *file, struct abd_request *request)
{
    struct op *op = op_init(request);
    int err = 0;

    if (op->into_sink &&
        cached_is_resident(file, request->offset, request->length)) {
        lend(op);
        return;
    }
    if (!op->into_sink && !file->config->direct && may_try_read(op))
        err = cached_read(op);
    if (err || op->done == request->length)
        op_complete(op, err);
    else
        ring_submit(ring_current(file), op);
}

/* A durable write waits for the storage: beside others, not behind them. */
static void submit_write(struct file *file, struct abd_request *request)
{
    struct op *op = op_init(request);
    bool fua = request->flags & ABD_REQ_FUA;
    int err = 0;

    if (file->config->direct && (!fua || file_has_dsync(file))) {
        ring_submit(ring_current(file), op);
        return;
    }
    if (!file->config->direct && (file->in_memory || !fua) &&
        !file_is_changing(file))
        err = cached_write(op);
    if (err || op->done == request->length)
        op_complete(op, err);
    else if (fua)
        blocking_start(op);
    else
        writer_add(&ring_current(file)->writer, op);
}

static void file_submit(struct abd_request *request)
{
    struct file *file = file_of(request);

    switch (request->op) {
    case ABD_OP_READ:
        submit_read(file, request);
        break;
    case ABD_OP_WRITE:
        submit_write(file, request);
        break;
    default:
        blocking_start(op_init(request));
    }
}

static void file_kick(struct abd_disk *disk)
{
    ring_kick(ring_current(disk->state));
}

static int file_create(struct abd_instance *instance)
{
    instance->state = calloc(1, sizeof(struct file_config));
    if (!instance->state) {
        abd_log(instance, NULL, ABD_ERROR, "%s", strerrordesc_np(ENOMEM));
        return ENOMEM;
    }
    return 0;
}

static int file_configure(struct abd_instance *instance, const char *key,
                          const char *value)
{
    struct file_config *config = instance->state;

    if (strcmp(key, "direct") == 0)
        return abd_parse_bool(instance, value, &config->direct);
    if (strcmp(key, "file") == 0) {
        char *path;
        int err = abd_absolute_path(instance, value, &path);
        if (err)
            return err;
        free(config->path);
        config->path = path;
        return 0;
    }
    abd_log(instance, NULL, ABD_ERROR,
            "unknown parameter \"%s\": allowed are file=PATH and direct=BOOL",
            key);
    return EINVAL;
}

static int file_ready(struct abd_instance *instance)
{
    const struct file_config *config = instance->state;

    if (!config->path) {
        abd_log(instance, NULL, ABD_ERROR,
                "parameter file=PATH is required: which file is the disk?");
        return EINVAL;
    }
    return file_check(instance, config->path);
}

static void file_destroy(struct abd_instance *instance)
{
    struct file_config *config = instance->state;

    if (!config)
        return;
    free(config->path);
    free(config);
    instance->state = NULL;
}

static const struct abd_parameter parameters[] = {
    {"file", "[file=]PATH  (required) the file or block device"},
    {"direct", "direct=BOOL  pass by the page cache (default: false)"},
    {NULL, NULL},
};

static const struct abd_debug_flag debug_flags[] = {
    {"io_uring", &file_debug.io_uring},   {"nowait", &file_debug.nowait},
    {"cachestat", &file_debug.cachestat}, {"dsync", &file_debug.dsync},
    {"lend_min", &file_debug.lend_min},   {NULL, NULL},
};

static const struct abd_plugin plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "file",
    .longname = "abdkit file plugin",
    .description = "a file or block device as a disk",
    .parameters = parameters,
    .magic_key = "file",
    .debug_flags = debug_flags,
    .scratch_size = sizeof(struct op),
    .create = file_create,
    .config = file_configure,
    .ready = file_ready,
    .destroy = file_destroy,
    .open = file_open,
    .submit = file_submit,
    .kick = file_kick,
    .close = file_close,
};

_Static_assert(sizeof(struct op) <= 256, "scratch has 256 bytes");

__attribute__((visibility("default"))) const struct abd_plugin *
abd_plugin_entry(void)
{
    return &plugin;
}
