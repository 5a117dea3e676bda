/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A client's side of the transmission phase's headers; the server's side, which
 * runs for each request, is inline in the header.  No state; any thread. */
#include "wire/message.h"

#include <assert.h>

unsigned nbd_request_encode(const struct nbd_request *request, bool extended,
                            uint8_t *to)
{
    store_be32(to, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
    store_be16(to + 4, request->flags);
    store_be16(to + 6, request->type);
    store_be64(to + 8, request->cookie);
    store_be64(to + 16, request->offset);
    if (extended) {
        store_be64(to + 24, request->length);
        return NBD_EXTENDED_REQUEST_SIZE;
    }
    /* Who asks for more has not negotiated extended headers. */
    assert(request->length <= UINT32_MAX);
    store_be32(to + 24, (uint32_t)request->length);
    return NBD_REQUEST_SIZE;
}
