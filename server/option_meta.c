/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Metadata contexts: there is one, base:allocation, and every export has it
 * (one that knows nothing of its extents is all data).  So nothing is opened
 * here, and nobody is asked whether the export exists: what is selected holds
 * if that name is chosen in the end.  On the connection's thread. */
#include "server/option_meta.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "server/handshake_reply.h"
#include "server/handshake_state.h"

#define ALLOCATION "base:allocation"
#define WILDCARD   "base:"

static bool is(struct nbd_string query, const char *text)
{
    return query.length == strlen(text) &&
           memcmp(query.text, text, query.length) == 0;
}

/* Parses and checks what both options have in common.  False: an error was
 * sent. */
static bool parse(struct handshake *handshake, struct nbd_meta_request *ret)
{
    if (handshake->connection->negotiated.style == NBD_SIMPLE) {
        handshake_error(handshake, NBD_REP_ERR_INVALID,
                        "structured replies must be negotiated first");
        return false;
    }
    switch (nbd_meta_request_parse(handshake->data, handshake->length, ret)) {
    case NBD_PARSED:
        return true;
    case NBD_PARSED_TOO_BIG:
        handshake_error(handshake, NBD_REP_ERR_TOO_BIG,
                        "a name or query has at most %d bytes", NBD_MAX_STRING);
        return false;
    default:
        handshake_error(handshake, NBD_REP_ERR_INVALID,
                        "the option's data is malformed");
        return false;
    }
}

/* Queries of other namespaces, and for what base: does not have, select
 * nothing. */
static bool selects(struct nbd_meta_request *request, bool wildcard)
{
    bool found = false;

    for (uint32_t i = 0; i < request->queries; i++) {
        struct nbd_string query = nbd_meta_request_next(request);

        found |= is(query, ALLOCATION) || (wildcard && is(query, WILDCARD));
    }
    return found;
}

static void reply_context(struct handshake *handshake, uint32_t id)
{
    uint8_t head[4];

    store_be32(head, id);
    handshake_reply(handshake, NBD_REP_META_CONTEXT, head, sizeof head,
                    ALLOCATION, sizeof ALLOCATION - 1);
}

void option_list_meta_context(struct handshake *handshake)
{
    struct nbd_meta_request request;

    if (!parse(handshake, &request))
        return;
    if (request.queries == 0 || selects(&request, true))
        reply_context(handshake, 0);
    handshake_ack(handshake);
}

void option_set_meta_context(struct handshake *handshake)
{
    struct nbd_meta_request request;

    option_meta_forget(handshake);
    if (!parse(handshake, &request))
        return;
    if (selects(&request, false)) {
        handshake->meta_name = strndup(request.name.text, request.name.length);
        if (!handshake->meta_name) {
            handshake_fail(handshake, "out of memory");
            return;
        }
        reply_context(handshake, ALLOCATION_ID);
    }
    handshake_ack(handshake);
}

void option_meta_forget(struct handshake *handshake)
{
    free(handshake->meta_name);
    handshake->meta_name = NULL;
}

bool option_meta_selected(const struct handshake *handshake, const char *name)
{
    return handshake->meta_name && strcmp(handshake->meta_name, name) == 0;
}
