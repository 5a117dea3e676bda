/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The transmission phase's headers: bytes <-> structs.
 *
 * No I/O, no state, no allocation.  Encoders write to memory that the caller
 * says is large enough by using the size constants. */
#ifndef ABD_WIRE_MESSAGE_H
#define ABD_WIRE_MESSAGE_H

#include "base/bytes.h"
#include "wire/nbd.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    NBD_REQUEST_SIZE = 28,
    NBD_EXTENDED_REQUEST_SIZE = 32,
    NBD_SIMPLE_REPLY_SIZE = 16,
    NBD_STRUCTURED_REPLY_SIZE = 20,
    NBD_EXTENDED_REPLY_SIZE = 32,
    /* the largest header together with the fixed part of its payload */
    NBD_REPLY_HEAD_MAX = 32 + 14,
};

/* A request's header, compact or extended. */
struct nbd_request {
    uint16_t flags, type;
    uint64_t cookie, offset, length;
};

/* False: the magic is wrong, the stream is lost. */
static inline bool nbd_request_decode(const uint8_t *from, bool extended,
                                      struct nbd_request *ret)
{
    if (load_be32(from) !=
        (extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC))
        return false;
    ret->flags = load_be16(from + 4);
    ret->type = load_be16(from + 6);
    ret->cookie = load_be64(from + 8);
    ret->offset = load_be64(from + 16);
    ret->length = extended ? load_be64(from + 24) : load_be32(from + 24);
    return true;
}

/* Returns the number of bytes written: 28 or 32. */
unsigned nbd_request_encode(const struct nbd_request *request, bool extended,
                            uint8_t *to);

/* What a connection negotiated decides how its replies look. */
enum nbd_reply_style { NBD_SIMPLE, NBD_STRUCTURED, NBD_EXTENDED };

/* Each writes a header and returns its size. */
static inline unsigned nbd_simple_reply_encode(uint64_t cookie, uint32_t error,
                                               uint8_t *to)
{
    store_be32(to, NBD_SIMPLE_REPLY_MAGIC);
    store_be32(to + 4, error);
    store_be64(to + 8, cookie);
    return NBD_SIMPLE_REPLY_SIZE;
}

/* A chunk of a structured (style NBD_STRUCTURED) or extended reply; length is
 * that of the chunk's payload, request_offset that of the client's request
 * (an extended reply repeats it). */
static inline unsigned nbd_chunk_encode(enum nbd_reply_style style,
                                        uint16_t flags, uint16_t type,
                                        uint64_t cookie,
                                        uint64_t request_offset,
                                        uint64_t length, uint8_t *to)
{
    store_be16(to + 4, flags);
    store_be16(to + 6, type);
    store_be64(to + 8, cookie);
    if (style == NBD_STRUCTURED) {
        store_be32(to, NBD_STRUCTURED_REPLY_MAGIC);
        store_be32(to + 16, (uint32_t)length);
        return NBD_STRUCTURED_REPLY_SIZE;
    }
    store_be32(to, NBD_EXTENDED_REPLY_MAGIC);
    store_be64(to + 16, request_offset);
    store_be64(to + 24, length);
    return NBD_EXTENDED_REPLY_SIZE;
}

#endif
