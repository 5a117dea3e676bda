/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What plugins call to end requests, on any thread. */
#include "tools/check/request.h"
#include "tools/check/rules.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check_error(const struct request *request, const char *function,
                        int error)
{
    rules_try(RULE_ERRORS);
    if (error < 0 || error > 4095)
        rules_break(RULE_ERRORS, request_who(request),
                    "%s() with error %d, which is no errno value", function,
                    error);
}

LOOP_EXPORTED void abd_complete(struct abd_request *pub, int error)
{
    struct request *request = request_claim(pub, "abd_complete", GUARD_DONE);

    check_error(request, "abd_complete", error);
    if (!error && pub->op == ABD_OP_READ && !pub->data && !request->loan.pieces)
        rules_stop(RULE_LENT_PIECES, request_who(request),
                   "%s, which has no data, was ended by abd_complete(), not by "
                   "abd_complete_lent()",
                   guard_describe(request->record));
    request->error = error;
    request_done(request);
}

LOOP_EXPORTED void abd_fail(struct abd_request *pub, int error, uint64_t at,
                            const char *format, ...)
{
    struct request *request = request_claim(pub, "abd_fail", GUARD_DONE);
    char text[256];
    va_list args;

    check_error(request, "abd_fail", error);
    if (error == 0)
        rules_break(RULE_ERRORS, request_who(request),
                    "abd_fail() with error 0");
    if (at != ABD_NO_OFFSET && at >= pub->length)
        rules_break(RULE_ERRORS, request_who(request),
                    "abd_fail(): the first failed byte is %" PRIu64 " in %s",
                    at, guard_describe(request->record));
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    request->error = error ? error : EIO;
    request->error_at = at;
    request_done(request);
}

/* --- lending --- */

static void check_pieces(const struct request *request,
                         const struct abd_piece *pieces, unsigned n)
{
    const struct disk *disk = request->frames[request->depth].disk;
    const char *who = request_who(request);
    const char *what = guard_describe(request->record);
    uint64_t left = request->pub->length;

    rules_try(RULE_LENT_PIECES);
    if (request->pub->op != ABD_OP_READ || !(disk->pub->flags & ABD_DISK_LENDS))
        rules_stop(
            RULE_LENT_PIECES, who, "abd_complete_lent() for %s, but %s", what,
            request->pub->op == ABD_OP_READ ? "the disk is not ABD_DISK_LENDS"
                                            : "only READs can be lent");
    if (n == 0 || n > ABD_PIECES_MAX)
        rules_stop(RULE_LENT_PIECES, who, "%u pieces were lent for %s", n,
                   what);
    for (unsigned i = 0; i < n; i++) {
        const struct abd_piece *piece = &pieces[i];

        if (piece->kind > ABD_PIECE_FILE)
            rules_stop(RULE_LENT_PIECES, who, "piece %u is of kind %u", i,
                       piece->kind);
        if (piece->kind == ABD_PIECE_MEMORY && !piece->data)
            rules_stop(RULE_LENT_PIECES, who, "piece %u has no data", i);
        if (piece->length == 0 || piece->length > left)
            rules_stop(RULE_LENT_PIECES, who,
                       "piece %u of %u is %" PRIu64 " bytes, where %" PRIu64
                       " are left of %s",
                       i, n, piece->length, left, what);
        left -= piece->length;
    }
    if (left)
        rules_stop(RULE_LENT_PIECES, who,
                   "the pieces leave %" PRIu64 " bytes of %s", left, what);
}

LOOP_EXPORTED void abd_complete_lent(struct abd_request *pub,
                                     const struct abd_piece *pieces, unsigned n,
                                     void (*release)(void *arg), void *arg)
{
    struct request *request =
        request_claim(pub, "abd_complete_lent", GUARD_DONE);

    check_pieces(request, pieces, n);
    if (!release)
        rules_stop(RULE_LENT_PIECES, request_who(request),
                   "abd_complete_lent() without release()");
    request->loan.copy = calloc(n, sizeof *pieces);
    if (!request->loan.copy)
        host_die("there is no memory left");
    memcpy(request->loan.copy, pieces, n * sizeof *pieces);
    request->loan.pieces = pieces;
    request->loan.who = request_who(request);
    request->loan.n = n;
    request->loan.release = release;
    request->loan.arg = arg;
    request->error = 0;
    request_done(request);
}

/* --- extents --- */

LOOP_EXPORTED bool abd_add_extent(struct abd_request *pub, uint64_t length,
                                  uint32_t flags)
{
    const struct guard_record *record = guard_find(pub, GUARD_REQUEST);
    struct request *request;
    const struct disk *disk;

    if (!record || atomic_load(&record->state) != GUARD_PLUGINS ||
        pub->op != ABD_OP_EXTENTS)
        rules_stop(RULE_OWNER, record ? guard_blame(record) : host_busy_with(),
                   "abd_add_extent() to what is no EXTENTS request of its own");
    request = record->object;
    disk = request->frames[request->depth].disk;
    rules_try(RULE_EXTENTS);
    if (flags & ~(uint32_t)(ABD_EXTENT_HOLE | ABD_EXTENT_ZERO))
        rules_break(RULE_EXTENTS, request_who(request),
                    "an extent with unknown flags %#x", flags);
    if (length == 0)
        return true; /* no promise is broken, and nothing said */
    if (request->extents_length >= pub->length ||
        request->extents_n == REQUEST_EXTENTS)
        return false;
    if (length > disk->pub->size - pub->offset - request->extents_length) {
        rules_break(RULE_EXTENTS, request_who(request),
                    "an extent of %" PRIu64 " bytes, from %" PRIu64
                    " on, reaches past the end of the disk (%s)",
                    length, pub->offset + request->extents_length,
                    guard_describe(record));
        return false;
    }
    request->extents[request->extents_n++] =
        (struct abd_extent){.length = length, .flags = flags};
    request->extents_length += length;
    return request->extents_length < pub->length &&
           request->extents_n < REQUEST_EXTENTS && !(pub->flags & ABD_REQ_ONE);
}

LOOP_EXPORTED bool abd_cancelled(const struct abd_request *pub)
{
    const struct guard_record *record = guard_find(pub, GUARD_REQUEST);

    if (!record)
        rules_stop(RULE_OWNER, host_busy_with(),
                   "abd_cancelled(%p): that is no request", (const void *)pub);
    if (atomic_load(&record->state) == GUARD_ENDED)
        rules_stop(RULE_AFTER_END, guard_blame(record),
                   "abd_cancelled() of %s, which has ended",
                   guard_describe(record));
    return atomic_load(&record->is_cancelled);
}
