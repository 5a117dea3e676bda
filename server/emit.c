/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What a reply looks like on the wire.  See emit.h. */
#include "server/emit.h"

#include "server/connection.h"
#include "server/job.h"
#include "server/request.h"
#include "server/worker.h"

#include "base/text.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* --- the row --- */

static void emit_bytes(struct emitter *emitter, const void *bytes, uint64_t n)
{
    emitter->total += n;
    if (emitter->full)
        return;
    if (emitter->skip >= n) {
        emitter->skip -= n;
        return;
    }
    if (emitter->n == LIMIT_IOVECS) {
        emitter->full = true;
        return;
    }
    emitter->iovecs[emitter->n].iov_base =
        (char *)(uintptr_t)bytes + emitter->skip;
    emitter->iovecs[emitter->n++].iov_len = n - emitter->skip;
    emitter->bytes += n - emitter->skip;
    emitter->skip = 0;
}

/* Bytes that live on the caller's stack. */
static void emit_head(struct emitter *emitter, const uint8_t *head, unsigned n)
{
    uint8_t *copy;

    if (emitter->full || emitter->skip >= n ||
        emitter->heads_n >= LIMIT_IOVECS) {
        emitter->full |= emitter->heads_n >= LIMIT_IOVECS;
        emit_bytes(emitter, head, n); /* nothing of it is kept */
        return;
    }
    copy = emitter->heads + emitter->heads_n++ * NBD_REPLY_HEAD_MAX;
    memcpy(copy, head, n);
    emit_bytes(emitter, copy, n);
}

static void emit_zeroes(struct emitter *emitter, uint64_t n)
{
    while (n > 0) {
        uint64_t some = n < ZEROES_SIZE ? n : ZEROES_SIZE;

        emit_bytes(emitter, worker_zeroes(), some);
        n -= some;
    }
}

static void emit_file(struct emitter *emitter, int fd, uint64_t offset,
                      uint64_t n)
{
    emitter->total += n;
    if (emitter->full)
        return;
    if (emitter->skip >= n) {
        emitter->skip -= n;
        return;
    }
    emitter->file = true;
    emitter->fd = fd;
    emitter->fd_offset = offset + emitter->skip;
    emitter->fd_length = n - emitter->skip;
    emitter->skip = 0;
    emitter->full = true;
}

/* --- data --- */

/* One lent piece, at the given place in the part.  What a file has lost since
 * it was lent is sent as zeroes (and reported by an error chunk). */
static void emit_piece(struct emitter *emitter, const struct part *part,
                       const struct abd_piece *piece, uint64_t at)
{
    uint64_t good = piece->length;

    switch (piece->kind) {
    case ABD_PIECE_MEMORY:
        emit_bytes(emitter, piece->data, piece->length);
        break;
    case ABD_PIECE_HOLE:
        emit_zeroes(emitter, piece->length);
        break;
    default:
        if (part->file_failed_at < at + piece->length)
            good = part->file_failed_at > at ? part->file_failed_at - at : 0;
        if (good)
            emit_file(emitter, piece->fd, piece->fd_offset, good);
        if (good < piece->length)
            emit_zeroes(emitter, piece->length - good);
    }
}

/* All of a part's data, holes as zeroes. */
static void emit_data(struct emitter *emitter, const struct request *part)
{
    uint64_t at = 0;

    if (!part->lent.pieces) {
        emit_bytes(emitter, part->pub.data, part->part.length);
        return;
    }
    for (unsigned i = 0; i < part->lent.n; i++) {
        emit_piece(emitter, &part->part, &part->lent.pieces[i], at);
        at += part->lent.pieces[i].length;
    }
}

/* --- chunks --- */

static void emit_chunk(struct emitter *emitter,
                       const struct connection *connection,
                       const struct job *job, uint16_t flags, uint16_t type,
                       uint64_t length, const uint8_t *fixed, unsigned fixed_n)
{
    uint8_t head[NBD_REPLY_HEAD_MAX];
    unsigned n = nbd_chunk_encode(connection->negotiated.style, flags, type,
                                  job->cookie, job->offset, length, head);

    if (fixed_n)
        memcpy(head + n, fixed, fixed_n);
    emit_head(emitter, head, n + fixed_n);
}

static void emit_data_chunk(struct emitter *emitter,
                            const struct connection *connection,
                            const struct job *job, uint16_t flags, uint64_t at,
                            uint64_t length)
{
    uint8_t fixed[8];

    store_be64(fixed, job->offset + at);
    emit_chunk(emitter, connection, job, flags, NBD_REPLY_TYPE_OFFSET_DATA,
               length + 8, fixed, 8);
}

static void emit_hole_chunk(struct emitter *emitter,
                            const struct connection *connection,
                            const struct job *job, uint16_t flags, uint64_t at,
                            uint64_t length)
{
    uint8_t fixed[12];

    store_be64(fixed, job->offset + at);
    store_be32(fixed + 8, (uint32_t)length);
    emit_chunk(emitter, connection, job, flags, NBD_REPLY_TYPE_OFFSET_HOLE, 12,
               fixed, 12);
}

/* A lent part: runs of holes and runs of data are chunks of their own. */
static void emit_lent_chunks(struct emitter *emitter,
                             const struct connection *connection,
                             const struct request *part, uint16_t last_flags)
{
    const struct job *job = part->part.job;
    const struct abd_piece *pieces = part->lent.pieces;
    unsigned n = part->lent.n;
    uint64_t at = 0;

    for (unsigned i = 0; i < n;) {
        bool hole = pieces[i].kind == ABD_PIECE_HOLE;
        uint64_t length = 0;
        uint16_t flags;
        unsigned end = i;

        for (; end < n && (pieces[end].kind == ABD_PIECE_HOLE) == hole; end++)
            length += pieces[end].length;
        flags = end == n ? last_flags : 0;
        if (hole) {
            emit_hole_chunk(emitter, connection, job, flags,
                            part->part.offset + at, length);
        } else {
            uint64_t piece_at = at;

            emit_data_chunk(emitter, connection, job, flags,
                            part->part.offset + at, length);
            for (unsigned k = i; k < end; k++) {
                emit_piece(emitter, &part->part, &pieces[k], piece_at);
                piece_at += pieces[k].length;
            }
        }
        at += length;
        i = end;
    }
}

static bool has_file(const struct request *part)
{
    for (unsigned i = 0; part->lent.pieces && i < part->lent.n; i++) {
        if (part->lent.pieces[i].kind == ABD_PIECE_FILE)
            return true;
    }
    return false;
}

/* The same for all that one reply carries. */
static bool reply_has_file(const struct request *carrier)
{
    const struct job *job = carrier->part.job;

    if (has_file(carrier))
        return true;
    list_for_each (link, &job->all) {
        if (has_file(container_of(link, struct request, part.link)))
            return true;
    }
    return false;
}

/* The error that the client is told: only those that the protocol allows for
 * this command. */
static uint32_t error_of(const struct job *job, uint32_t block_max)
{
    uint32_t error = nbd_error_from_errno(job->error);
    bool fast = job->type == NBD_CMD_WRITE_ZEROES &&
                job->flags & NBD_CMD_FLAG_FAST_ZERO;
    bool long_one = job->type == NBD_CMD_READ
                        ? (job->flags & NBD_CMD_FLAG_DF) != 0
                        : job->type != NBD_CMD_WRITE && job->length > block_max;

    if (error == NBD_ENOTSUP && !fast)
        return NBD_EIO;
    if (error == NBD_EOVERFLOW && !long_one)
        return job->type == NBD_CMD_READ ? NBD_EIO : NBD_EINVAL;
    return error;
}

static void emit_error_chunk(struct emitter *emitter,
                             const struct connection *connection,
                             const struct job *job)
{
    const char *text = job->error_text ? job->error_text : "";
    size_t length = text_cut_utf8(text, strlen(text), NBD_MAX_STRING);
    bool placed = job->error_at != ABD_NO_OFFSET;
    uint8_t fixed[6], offset[8];

    if (!text_is_utf8(text, length))
        length = 0;
    store_be32(fixed, error_of(job, connection->negotiated.block_max));
    store_be16(fixed + 4, (uint16_t)length);
    emit_chunk(emitter, connection, job, NBD_REPLY_FLAG_DONE,
               placed ? NBD_REPLY_TYPE_ERROR_OFFSET : NBD_REPLY_TYPE_ERROR,
               6 + length + (placed ? 8 : 0), fixed, 6);
    if (length)
        emit_bytes(emitter, text, length);
    if (placed) {
        store_be64(offset, job->offset + job->error_at);
        emit_head(emitter, offset, 8);
    }
}

static void emit_none_chunk(struct emitter *emitter,
                            const struct connection *connection,
                            const struct job *job)
{
    emit_chunk(emitter, connection, job, NBD_REPLY_FLAG_DONE,
               NBD_REPLY_TYPE_NONE, 0, NULL, 0);
}

/* --- BLOCK_STATUS --- */

static unsigned descriptor_size(const struct connection *connection)
{
    return connection->negotiated.style == NBD_EXTENDED ? 16 : 8;
}

void emit_prepare_extents(const struct connection *connection,
                          struct request *part)
{
    const struct job *job = part->part.job;
    uint8_t *to = (uint8_t *)part->extents;

    if (part->extents_n == 0)
        request_add_extent(part, part->part.length, 0);
    for (unsigned i = 0; i < part->extents_n; i++) {
        struct abd_extent extent = part->extents[i]; /* to overtakes it not */

        if (job->flags & NBD_CMD_FLAG_REQ_ONE &&
            extent.length > part->part.length)
            extent.length = part->part.length;
        if (connection->negotiated.style == NBD_EXTENDED) {
            store_be64(to, extent.length);
            store_be64(to + 8, extent.flags);
            to += 16;
        } else {
            uint32_t most =
                UINT32_MAX & ~(connection->negotiated.block_min - 1);

            if (extent.length > most)
                extent.length = most;
            store_be32(to, (uint32_t)extent.length);
            store_be32(to + 4, extent.flags);
            to += 8;
        }
    }
}

static void emit_status_chunk(struct emitter *emitter,
                              const struct connection *connection,
                              const struct request *part)
{
    const struct job *job = part->part.job;
    uint64_t bytes = part->extents_n * descriptor_size(connection);
    bool extended = connection->negotiated.style == NBD_EXTENDED;
    uint8_t fixed[8];

    store_be32(fixed, connection->negotiated.allocation_id);
    store_be32(fixed + 4, part->extents_n);
    emit_chunk(emitter, connection, job, NBD_REPLY_FLAG_DONE,
               extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT
                        : NBD_REPLY_TYPE_BLOCK_STATUS,
               bytes + (extended ? 8 : 4), fixed, extended ? 8 : 4);
    emit_bytes(emitter, part->extents, bytes);
}

/* --- replies --- */

/* The parts of a whole read, in order. */
static void emit_whole_data(struct emitter *emitter, const struct job *job)
{
    uint64_t wanted = 0;

    if (list_is_empty(&job->all)) {
        emit_data(emitter, job->head);
        return;
    }
    /* They ended in any order, and there are few. */
    while (wanted < job->length) {
        uint64_t before = wanted;

        list_for_each (link, &job->all) {
            const struct request *part =
                container_of(link, struct request, part.link);

            if (part->part.offset == wanted) {
                emit_data(emitter, part);
                wanted += part->part.length;
            }
        }
        assert(wanted > before);
    }
}

static void emit_simple(struct emitter *emitter,
                        const struct connection *connection,
                        const struct job *job)
{
    uint8_t *head = emitter->heads + emitter->heads_n * NBD_REPLY_HEAD_MAX;
    uint32_t error =
        job->error ? error_of(job, connection->negotiated.block_max) : 0;

    /* Written where it is sent from: by far the most frequent of all. */
    nbd_simple_reply_encode(job->cookie, error, head);
    emit_bytes(emitter, head, NBD_SIMPLE_REPLY_SIZE);
    emitter->heads_n++;
    emitter->full |= emitter->heads_n == LIMIT_IOVECS;
    if (job->type == NBD_CMD_READ && !job->error)
        emit_whole_data(emitter, job);
}

static void emit_structured(struct emitter *emitter,
                            const struct connection *connection,
                            const struct request *part)
{
    const struct job *job = part->part.job;
    bool trailer = part->part.final;
    bool data = job->type == NBD_CMD_READ && !part->part.failed &&
                !(job->whole && job->error && !job->file_failed);
    uint16_t flags = 0;

    if (data) {
        bool file = reply_has_file(part);

        if (part->part.final && !job->error && !file) {
            flags = NBD_REPLY_FLAG_DONE;
            trailer = false;
        }
        if (job->whole) {
            emit_data_chunk(emitter, connection, job, flags, 0, job->length);
            emit_whole_data(emitter, job);
        } else if (part->lent.pieces) {
            emit_lent_chunks(emitter, connection, part, flags);
        } else {
            emit_data_chunk(emitter, connection, job, flags, part->part.offset,
                            part->part.length);
            emit_bytes(emitter, part->pub.data, part->part.length);
        }
    } else if (job->type == NBD_CMD_BLOCK_STATUS && !job->error) {
        emit_status_chunk(emitter, connection, part);
        trailer = false;
    }
    if (trailer && job->error)
        emit_error_chunk(emitter, connection, job);
    else if (trailer)
        emit_none_chunk(emitter, connection, job);
}

void emit_part(struct emitter *emitter, const struct connection *connection,
               struct request *part)
{
    emitter->total = 0;
    if (connection->negotiated.style == NBD_SIMPLE)
        emit_simple(emitter, connection, part->part.job);
    else
        emit_structured(emitter, connection, part);
    part->part.reply_length = emitter->total;
}
