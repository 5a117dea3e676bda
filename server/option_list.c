/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* NBD_OPT_LIST: names and descriptions, from a layer that lists them.  Nothing
 * is opened.  On the connection's thread. */
#include "server/option_list.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "server/exports.h"
#include "server/handshake_reply.h"
#include "server/handshake_state.h"

static void reply_error(struct handshake *handshake, int err)
{
    uint32_t reply = NBD_REP_ERR_PLATFORM;

    if (err == EPERM || err == EACCES)
        reply = NBD_REP_ERR_POLICY;
    else if (err == ESHUTDOWN)
        reply = NBD_REP_ERR_SHUTDOWN;
    handshake_error(handshake, reply, "the exports cannot be listed: %s",
                    strerror(err));
}

static void reply_server(struct handshake *handshake,
                         const struct listed_export *listed)
{
    uint32_t rest = listed->name_length + listed->description_length;
    uint8_t head[4];

    store_be32(head, listed->name_length);
    /* The description lies behind the name. */
    handshake_reply(handshake, NBD_REP_SERVER, head, sizeof head, listed->name,
                    rest);
}

static void on_list(struct exports *exports, void *arg)
{
    struct handshake *handshake = arg;
    enum handshake_state next = HANDSHAKE_HEADER;
    struct listed_export listed;
    uint64_t position = 0;

    if (handshake->stopped) {
        handshake_abandon(handshake);
        return;
    }
    if (handshake->draining) {
        handshake_error(handshake, NBD_REP_ERR_SHUTDOWN,
                        "the server is shutting down");
        next = HANDSHAKE_LEAVING;
    } else if (exports_error(exports)) {
        reply_error(handshake, exports_error(exports));
    } else {
        while (exports_next(exports, &position, &listed))
            reply_server(handshake, &listed);
        handshake_ack(handshake);
    }
    exports_free(exports);
    handshake->exports = NULL;
    handshake_resume(handshake, next);
}

void option_list(struct handshake *handshake)
{
    handshake->exports =
        exports_ask(&handshake->connection->client, on_list, handshake);
    if (handshake->exports)
        handshake_wait(handshake);
    else
        handshake_fail(handshake, "out of memory");
}
