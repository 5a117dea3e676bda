/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What a reply looks like on the wire: a part of a job as a row of pieces.
 *
 * Nothing is stored: the row is worked out anew for each attempt to send, and
 * what has left already is skipped.  So a reply costs no memory beyond the
 * request that it answers. */
#ifndef ABD_SERVER_EMIT_H
#define ABD_SERVER_EMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct connection;
struct request;

/* Collects pieces until it is full, and counts the bytes of all. */
struct emitter {
    struct iovec *iovecs; /* room for LIMIT_IOVECS */
    uint8_t *heads;       /* as many headers */
    unsigned n, heads_n;
    uint64_t skip;  /* bytes of the current reply that have left already */
    uint64_t total; /* bytes of the current reply */
    uint64_t bytes; /* collected */
    bool full;
    /* A range of a file comes next, behind what was collected. */
    bool file;
    int fd;
    uint64_t fd_offset, fd_length;
};

/* Adds the reply (or chunk) that the part carries; sets part.reply_length. */
void emit_part(struct emitter *emitter, const struct connection *connection,
               struct request *part);

/* Turns the extents of a BLOCK_STATUS into what travels, in place; once, when
 * the request has ended. */
void emit_prepare_extents(const struct connection *connection,
                          struct request *part);

#endif
