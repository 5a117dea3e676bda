/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Feeds a stream of request headers, compact and extended.  What is decoded
 * must encode to the same bytes, and what is refused has another magic. */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <string.h>

#include "wire/message.h"

static void check_chunk(const struct nbd_request *request,
                        enum nbd_reply_style style, unsigned expected)
{
    uint8_t chunk[NBD_REPLY_HEAD_MAX];
    unsigned size =
        nbd_chunk_encode(style, request->flags, request->type, request->cookie,
                         request->offset, request->length, chunk);

    assert(size == expected);
    assert(load_be16(chunk + 6) == request->type);
    assert(load_be64(chunk + 8) == request->cookie);
}

static void feed(const uint8_t *data, size_t size, bool extended)
{
    unsigned length = extended ? NBD_EXTENDED_REQUEST_SIZE : NBD_REQUEST_SIZE;
    uint32_t magic = extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC;

    for (; size >= length; data += length, size -= length) {
        struct nbd_request request;
        uint8_t again[NBD_EXTENDED_REQUEST_SIZE];

        if (!nbd_request_decode(data, extended, &request)) {
            assert(load_be32(data) != magic);
            return; /* the stream is lost */
        }
        assert(nbd_request_encode(&request, extended, again) == length);
        assert(memcmp(again, data, length) == 0);
        assert(nbd_command_name(request.type));
        check_chunk(&request, NBD_STRUCTURED, NBD_STRUCTURED_REPLY_SIZE);
        check_chunk(&request, NBD_EXTENDED, NBD_EXTENDED_REPLY_SIZE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    feed(data, size, false);
    feed(data, size, true);
    return 0;
}
