/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Requests of the disk.
 *
 * Whole blocks are written to the log at once, or wait for room in it, in
 * order.  A change that covers blocks in part is a *patch*: it holds the range,
 * reads the blocks at its two edges, and then writes whole blocks; every other
 * change that touches a held range waits behind it (I13).  An answer is held
 * while somebody else may own the volume (P3). */
#include "object.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A request under way. */
struct io {
    struct list link; /* in one of the disk's lists */
    struct abd_request *request;
    int error;
    /* In whole blocks, what it touches. */
    uint64_t first, count;
    uint8_t *edges; /* the first block and the last, where they are touched in
                       part only */
    unsigned edges_left; /* to be read */
    bool holds;
    struct list behind; /* of a holder: who waits for it */
    struct list hold_link;
    struct writer_wait wait;
    struct reader_read read, second;
};

static struct object_disk *disk_of(const struct abd_request *request)
{
    return request->disk->state;
}

static void change(struct io *io);

/* --- the end of a request --- */

static void say(struct io *io)
{
    struct abd_request *request = io->request;
    const struct volume *volume = &disk_of(request)->volume;
    int error = io->error;

    free(io->edges);
    if (!error)
        error = volume_check(volume);
    if (error && io->read.why[0])
        abd_fail(request, error,
                 io->read.error_block * BLOCK_SIZE > request->offset
                     ? io->read.error_block * BLOCK_SIZE - request->offset
                     : 0,
                 "%s", io->read.why);
    else if (error && volume->why[0])
        abd_fail(request, error, ABD_NO_OFFSET, "%s", volume->why);
    else
        abd_complete(request, error);
    free(io);
}

static void finish(struct io *io, int error)
{
    struct object_disk *disk = disk_of(io->request);

    io->error = error;
    volume_breathe(&disk->volume);
    if (disk->volume.suspicious)
        list_append(&disk->held, &io->link);
    else
        say(io);
}

void object_io_trusted(struct object_disk *disk)
{
    struct list *link;

    while ((link = list_take_first(&disk->held)))
        say(container_of(link, struct io, link));
}

/* --- reads --- */

static bool is_whole(const struct abd_request *request)
{
    return (request->offset | request->length) % BLOCK_SIZE == 0;
}

static uint64_t head_of(const struct abd_request *request)
{
    return request->offset % BLOCK_SIZE;
}

static uint64_t tail_of(const struct abd_request *request)
{
    return (request->offset + request->length) % BLOCK_SIZE;
}

/* The parts of the edges that were asked for. */
static void copy_edges(const struct io *io)
{
    const struct abd_request *request = io->request;
    uint64_t head = head_of(request), tail = tail_of(request);
    uint8_t *data = request->data;

    if (io->read.first)
        memcpy(data, io->read.first + head,
               io->count == 1 ? request->length : BLOCK_SIZE - head);
    if (io->read.last)
        memcpy(data + request->length - tail, io->read.last, tail);
}

static void finish_read(struct io *io)
{
    if (!io->read.error && io->edges)
        copy_edges(io);
    finish(io, io->read.error);
}

static void on_read(struct reader_read *read)
{
    finish_read(container_of(read, struct io, read));
}

static void start_read(struct io *io)
{
    struct object_disk *disk = disk_of(io->request);

    io->read.block = io->first;
    io->read.count = io->count;
    io->read.into = io->request->data;
    io->read.done = on_read;
    io->read.reads_on = true;
    if (!is_whole(io->request)) {
        uint64_t head = head_of(io->request), tail = tail_of(io->request);

        io->edges = malloc((size_t)2 * BLOCK_SIZE);
        if (!io->edges) {
            finish(io, ENOMEM);
            return;
        }
        if (head || io->count == 1) {
            io->read.first = io->edges;
            io->read.into += head ? BLOCK_SIZE - head : 0;
        }
        if (tail && io->count > 1)
            io->read.last = io->edges + BLOCK_SIZE;
    }
    if (reader_start(&disk->volume.reader, &io->read))
        finish_read(io);
}

/* --- changes --- */

static void on_flushed(struct writer_wait *wait, int error)
{
    finish(container_of(wait, struct io, wait), error);
}

static void flush(struct io *io)
{
    struct object_disk *disk = disk_of(io->request);

    io->wait.done = on_flushed;
    if (writer_flush(&disk->volume.writer, &io->wait))
        finish(io, 0);
}

/* It is in the log's buffers: those behind it may go on. */
static void changed(struct io *io, int error)
{
    if (io->holds) {
        struct list *link;

        io->holds = false;
        list_remove(&io->hold_link);
        while ((link = list_take_first(&io->behind)))
            change(container_of(link, struct io, link));
    }
    if (!error && io->request->flags & ABD_REQ_FUA)
        flush(io);
    else
        finish(io, error);
}

/* The bytes of the request that lie at this place of it; a ZERO has zeroes. */
static void patch(const struct abd_request *request, uint8_t *to, uint64_t from,
                  uint64_t length)
{
    if (request->op == ABD_OP_WRITE)
        memcpy(to, (const uint8_t *)request->data + from, length);
    else
        memset(to, 0, length);
}

/* The first block and the last of a patch, with what they held before, as they
 * shall be; the last one is at edges + BLOCK_SIZE, if there are two. */
static void patch_edges(struct io *io)
{
    const struct abd_request *request = io->request;
    uint64_t head = head_of(request), tail = tail_of(request);
    uint64_t n = BLOCK_SIZE - head;

    if (io->count == 1) {
        patch(request, io->edges + head, 0, request->length);
        return;
    }
    if (head)
        patch(request, io->edges + head, 0, n);
    if (tail)
        patch(request, io->edges + BLOCK_SIZE, request->length - tail, tail);
}

/* What is written in whole blocks, at most three parts. */
static unsigned parts_of(const struct io *io, struct writer_part parts[3])
{
    const struct abd_request *request = io->request;
    uint64_t head = head_of(request), tail = tail_of(request);
    uint64_t inner = io->count - (head ? 1 : 0) - (tail ? 1 : 0);
    unsigned n = 0;

    if (io->count == 1 && (head || tail)) {
        parts[n++] = (struct writer_part){io->edges, 1};
        return n;
    }
    if (head)
        parts[n++] = (struct writer_part){io->edges, 1};
    if (inner)
        parts[n++] = (struct writer_part){(const uint8_t *)request->data +
                                              (head ? BLOCK_SIZE - head : 0),
                                          (uint32_t)inner};
    if (tail)
        parts[n++] = (struct writer_part){io->edges + BLOCK_SIZE, 1};
    return n;
}

/* A ZERO: its edges are written, what lies between is marked. */
static int append_zero(struct writer *writer, struct io *io)
{
    const struct abd_request *request = io->request;
    uint64_t head = head_of(request), tail = tail_of(request);
    enum log_op op = request->flags & ABD_REQ_MAY_TRIM ? LOG_TRIM : LOG_ZERO;
    uint64_t inner_less = (head ? 1 : 0) + (tail ? 1 : 0);
    struct writer_part edge = {io->edges, 1};
    int err;

    if (io->count == 1 && (head || tail))
        return writer_write(writer, io->first, &edge, 1);
    err = writer_prepare(writer, 2, 3);
    /* The blocks last: they may fill the object, which is sealed then. */
    if (!err && io->count > inner_less)
        err = writer_mark(writer, op, io->first + (head ? 1 : 0),
                          io->count - inner_less);
    if (!err && head)
        err = writer_write(writer, io->first, &edge, 1);
    if (!err && tail) {
        edge.data += BLOCK_SIZE;
        err = writer_write(writer, io->first + io->count - 1, &edge, 1);
    }
    return err;
}

static int append(struct io *io)
{
    struct object_disk *disk = disk_of(io->request);
    struct writer *writer = &disk->volume.writer;
    struct writer_part parts[3];
    int err = volume_check(&disk->volume);

    if (err)
        return err;
    switch (io->request->op) {
    case ABD_OP_WRITE:
        return writer_write(writer, io->first, parts, parts_of(io, parts));
    case ABD_OP_ZERO:
        return append_zero(writer, io);
    default:
        return writer_mark(writer, LOG_TRIM, io->first, io->count);
    }
}

/* Into the log, or into the queue for it. */
static void append_or_wait(struct io *io)
{
    struct object_disk *disk = disk_of(io->request);
    int err = EAGAIN;

    if (list_is_empty(&disk->waiting))
        err = append(io);
    if (err == EAGAIN)
        list_append(&disk->waiting, &io->link);
    else
        changed(io, err);
}

void object_io_room(void *arg)
{
    struct object_disk *disk = arg;

    while (!list_is_empty(&disk->waiting)) {
        struct io *io = container_of(disk->waiting.next, struct io, link);
        int err = append(io);

        if (err == EAGAIN)
            return;
        list_remove(&io->link);
        changed(io, err);
    }
}

/* --- patches --- */

static void edges_are_there(struct io *io)
{
    if (io->second.error)
        io->read = io->second;
    if (io->read.error) {
        changed(io, io->read.error);
        return;
    }
    patch_edges(io);
    append_or_wait(io);
}

static void edge_is_there(struct io *io)
{
    if (--io->edges_left == 0)
        edges_are_there(io);
}

static void on_first_edge(struct reader_read *read)
{
    edge_is_there(container_of(read, struct io, read));
}

static void on_second_edge(struct reader_read *read)
{
    edge_is_there(container_of(read, struct io, second));
}

static void read_edge(struct io *io, struct reader_read *read, uint64_t block,
                      uint8_t *into, void (*done)(struct reader_read *read))
{
    read->block = block;
    read->count = 1;
    read->into = into;
    read->done = done;
    io->edges_left++;
    if (reader_start(&disk_of(io->request)->volume.reader, read))
        edge_is_there(io);
}

static void start_patch(struct io *io)
{
    struct object_disk *disk = disk_of(io->request);
    bool head = head_of(io->request) != 0, tail = tail_of(io->request) != 0;

    io->edges = malloc((size_t)2 * BLOCK_SIZE);
    if (!io->edges) {
        finish(io, ENOMEM);
        return;
    }
    io->holds = true;
    list_init(&io->behind);
    list_append(&disk->holds, &io->hold_link);
    io->edges_left = 1; /* until both have been asked for */
    if (head || io->count == 1)
        read_edge(io, &io->read, io->first, io->edges, on_first_edge);
    if (tail && io->count > 1)
        read_edge(io, &io->second, io->first + io->count - 1,
                  io->edges + BLOCK_SIZE, on_second_edge);
    edge_is_there(io);
}

/* Who is patching what this one touches? */
static struct io *holder_of(const struct object_disk *disk, const struct io *io)
{
    list_for_each (link, &disk->holds) {
        struct io *holder = container_of(link, struct io, hold_link);

        if (io->first < holder->first + holder->count &&
            holder->first < io->first + io->count)
            return holder;
    }
    return NULL;
}

static void change(struct io *io)
{
    struct object_disk *disk = disk_of(io->request);
    struct io *holder = holder_of(disk, io);

    if (holder)
        list_append(&holder->behind, &io->link);
    else if (is_whole(io->request) || io->request->op == ABD_OP_TRIM)
        append_or_wait(io);
    else
        start_patch(io);
}

/* --- the others --- */

static void tell_extents(struct io *io)
{
    struct abd_request *request = io->request;
    const struct object_disk *disk = disk_of(request);
    uint64_t block = io->first, end = io->first + io->count;
    uint64_t skip = head_of(request);
    bool more = true;

    while (more && block < end) {
        struct extent extent = map_at(disk->volume.map, block, end);
        uint32_t flags = 0;

        if (extent.kind == EXTENT_HOLE)
            flags = ABD_EXTENT_HOLE | ABD_EXTENT_ZERO;
        else if (extent.kind == EXTENT_ZERO)
            flags = ABD_EXTENT_ZERO;
        more = abd_add_extent(request, extent.count * BLOCK_SIZE - skip, flags);
        block += extent.count;
        skip = 0;
    }
    finish(io, 0);
}

/* TRIM concerns only blocks that lie in it as a whole. */
static void start_trim(struct io *io)
{
    const struct abd_request *request = io->request;
    uint64_t first = (request->offset + BLOCK_SIZE - 1) / BLOCK_SIZE;
    uint64_t end = (request->offset + request->length) / BLOCK_SIZE;

    if (first >= end) {
        finish(io, 0);
        return;
    }
    io->first = first;
    io->count = end - first;
    change(io);
}

void object_io_init(struct object_disk *disk)
{
    list_init(&disk->waiting);
    list_init(&disk->holds);
    list_init(&disk->held);
}

void object_submit(struct abd_request *request)
{
    struct object_disk *disk = disk_of(request);
    struct io *io = calloc(1, sizeof *io);
    uint64_t end = request->offset + request->length;

    if (!io) {
        abd_complete(request, ENOMEM);
        return;
    }
    io->request = request;
    io->first = request->offset / BLOCK_SIZE;
    io->count = (end + BLOCK_SIZE - 1) / BLOCK_SIZE - io->first;
    volume_breathe(&disk->volume);
    if (volume_check(&disk->volume)) {
        say(io);
        return;
    }
    switch (request->op) {
    case ABD_OP_READ:
        start_read(io);
        break;
    case ABD_OP_WRITE:
    case ABD_OP_ZERO:
        change(io);
        break;
    case ABD_OP_TRIM:
        start_trim(io);
        break;
    case ABD_OP_FLUSH:
        flush(io);
        break;
    case ABD_OP_EXTENTS:
        tell_extents(io);
        break;
    default:
        finish(io, EINVAL);
        break;
    }
}
