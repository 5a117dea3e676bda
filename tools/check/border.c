/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What stands between a filter and the disk below: requests that the disk
 * can't take as they are go on in parts, each with memory of its own.  (From
 * the outside only what the outermost disk takes is submitted.)  Loop thread.
 */
#include "tools/check/request.h"
#include "tools/check/rules.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE      4096
#define ZEROES    (UINT64_C(1) << 20)
#define PARTS_MAX 65536

static uint64_t below_alignment(const struct disk *disk)
{
    if (disk->pub->data_alignment)
        return disk->pub->data_alignment;
    return disk->pub->flags & ABD_DISK_INLINE ? 1 : PAGE;
}

/* Which the filter may not ask for. */
static bool is_wrong(const struct request *request, const struct disk *disk)
{
    const struct abd_request *pub = request->pub;
    uint64_t unit = disk->block_min;

    if (pub->op == ABD_OP_FLUSH)
        return false;
    return pub->length == 0 || pub->offset > disk->pub->size ||
           pub->length > disk->pub->size - pub->offset || pub->offset % unit ||
           pub->length % unit;
}

/* Where a READ's data goes that comes in parts. */
static char *destination(const struct request *request)
{
    if (request->pub->data)
        return request->pub->data;
    return (char *)(request->loan.pieces + 1);
}

static void free_own(void *arg)
{
    free(arg);
}

/* For a READ without data that comes in parts: memory of the kit is lent. */
static void lend_own(struct request *request)
{
    size_t length = request->pub->length;
    struct abd_piece *piece = calloc(1, sizeof *piece + length);

    request->loan.copy = calloc(1, sizeof *piece);
    if (!piece || !request->loan.copy)
        host_die("there is no memory left");
    *piece = (struct abd_piece){.kind = ABD_PIECE_MEMORY,
                                .fd = -1,
                                .length = length,
                                .data = piece + 1};
    *request->loan.copy = *piece;
    request->loan.pieces = piece;
    request->loan.n = 1;
    request->loan.release = free_own;
    request->loan.arg = piece;
    request->loan.who = "abdkit-check";
}

static void on_part_ended(struct request *part)
{
    struct request *request = part->parent;

    if (part->error && !request->error)
        request->error = part->error;
    if (request->pub->op == ABD_OP_READ && !part->error)
        memcpy(destination(request) + part->part_at, part->pub->data,
               part->pub->length);
    for (unsigned i = 0; i < part->extents_n; i++) {
        if (request->extents_n < REQUEST_EXTENTS) {
            request->extents[request->extents_n++] = part->extents[i];
            request->extents_length += part->extents[i].length;
        }
    }
    list_remove(&part->child_link);
    request->parts_n--;
    request_retire(part);
    request_release(part);
    if (request->parts_n == 0)
        request_end_here(request, request->error);
}

static void start_part(struct request *request, struct disk *disk, uint32_t op,
                       uint64_t at, uint64_t length)
{
    const struct abd_request *pub = request->pub;
    uint64_t random = pub->id;
    struct request *part = request_new(op, op == pub->op ? pub->flags : 0,
                                       pub->offset + at, length);

    part->parent = request;
    part->part_at = at;
    part->ended = on_part_ended;
    if (op == ABD_OP_READ || op == ABD_OP_WRITE)
        request_take_data(part, disk, &random);
    if (op == ABD_OP_WRITE && pub->data)
        memcpy(part->data, (const char *)pub->data + at, length);
    else if (op == ABD_OP_WRITE)
        memset(part->data, 0, length);
    list_append(&request->children, &part->child_link);
    request_submit(part, disk, pub->client);
}

/* Parts never stop at the border again: they fit. */
static void cut(struct request *request, struct disk *disk, uint32_t op)
{
    uint64_t max = disk_longest(disk, op);
    uint64_t length = request->pub->length;
    uint64_t at = 0;

    if (op == ABD_OP_WRITE && max > ZEROES)
        max = ZEROES;
    max = max / disk->block_min * disk->block_min;
    request->error = 0;
    if (op == ABD_OP_READ && !request->pub->data)
        lend_own(request);
    if (length / max >= PARTS_MAX) {
        request_end_here(request, EOVERFLOW);
        return;
    }
    if (op == ABD_OP_EXTENTS && length > max)
        length = max; /* less than asked is an answer, too */
    request->parts_n = (unsigned)((length + max - 1) / max);
    for (; at < length; at += max)
        start_part(request, disk, op, at,
                   length - at < max ? length - at : max);
}

static bool is_unaligned(const struct request *request, const struct disk *disk)
{
    return request->pub->data &&
           (uintptr_t)request->pub->data % below_alignment(disk);
}

static bool stops_op(struct request *request, struct disk *disk)
{
    uint32_t op = request->pub->op;

    if (disk_has(disk, op))
        return false;
    if (op == ABD_OP_ZERO && !(request->pub->flags & ABD_REQ_FAST))
        cut(request, disk, ABD_OP_WRITE);
    else if (op == ABD_OP_ZERO)
        request_end_here(request, ENOTSUP);
    else
        request_end_here(request, op == ABD_OP_EXTENTS ? 0 : EINVAL);
    return true;
}

bool border_stops(struct request *request, struct disk *disk)
{
    const struct abd_request *pub = request->pub;

    if (request->parent && request->ended == on_part_ended)
        return false;
    rules_try(RULE_BELOW);
    if (is_wrong(request, disk)) {
        rules_break(RULE_BELOW, disk->above->layer->plugin.name,
                    "%u: %lu bytes at %lu is not what the disk below takes",
                    pub->op, (unsigned long)pub->length,
                    (unsigned long)pub->offset);
        request_end_here(request, EINVAL);
        return true;
    }
    if (stops_op(request, disk))
        return true;
    if (pub->op == ABD_OP_READ && !pub->data &&
        (!(disk->pub->flags & ABD_DISK_LENDS) ||
         pub->length < disk->pub->lend_min)) {
        rules_break(RULE_BELOW, disk->above->layer->plugin.name,
                    "a READ without data for a disk that does not lend so");
        request_end_here(request, EINVAL);
        return true;
    }
    if (pub->length > disk_longest(disk, pub->op) ||
        is_unaligned(request, disk)) {
        cut(request, disk, pub->op);
        return true;
    }
    return false;
}
