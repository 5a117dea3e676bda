/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Deals options out to those who answer them, after what holds for all of them:
 * the old newstyle knows only one, and a server that is ending refuses.  The
 * options that are only a word are answered here.  On the connection's thread.
 */
#include "server/option.h"

#include <inttypes.h>
#include <stddef.h>

#include "base/log.h"
#include "server/handshake_reply.h"
#include "server/handshake_state.h"
#include "server/limits.h"
#include "server/option_export.h"
#include "server/option_list.h"
#include "server/option_meta.h"
#include "server/settings.h"

/* The client may send data with it, which is ignored. */
static void option_abort(struct handshake *handshake)
{
    handshake_ack(handshake);
    if (handshake->state != HANDSHAKE_FAILED)
        handshake_set_state(handshake, HANDSHAKE_LEAVING);
}

/* For options that have no data: refuses it. */
static bool has_data(struct handshake *handshake)
{
    if (handshake->length == 0)
        return false;
    handshake_error(handshake, NBD_REP_ERR_INVALID,
                    "this option must not have data");
    return true;
}

static void option_starttls(struct handshake *handshake)
{
    if (!has_data(handshake))
        handshake_error(handshake, NBD_REP_ERR_POLICY,
                        "this server does not use TLS");
}

static void option_structured_reply(struct handshake *handshake)
{
    struct negotiated *negotiated = &handshake->connection->negotiated;

    if (has_data(handshake))
        return;
    if (settings.no_structured) {
        handshake_error(handshake, NBD_REP_ERR_UNSUP,
                        "structured replies are switched off");
        return;
    }
    if (negotiated->style == NBD_EXTENDED) {
        handshake_error(handshake, NBD_REP_ERR_EXT_HEADER_REQD,
                        "extended headers are already in use");
        return;
    }
    negotiated->style = NBD_STRUCTURED;
    handshake_ack(handshake);
}

static void option_extended_headers(struct handshake *handshake)
{
    if (has_data(handshake))
        return;
    if (settings.no_structured) {
        handshake_error(handshake, NBD_REP_ERR_UNSUP,
                        "extended headers are switched off");
        return;
    }
    handshake->connection->negotiated.style = NBD_EXTENDED;
    handshake_ack(handshake);
}

static void option_unknown(struct handshake *handshake)
{
    handshake_error(handshake, NBD_REP_ERR_UNSUP, "unknown option %" PRIu32,
                    handshake->option);
}

/* True: it was refused, whatever it is. */
static bool refused(struct handshake *handshake)
{
    log_write(ABD_DEBUG, handshake->connection->address,
              "option %" PRIu32 " (%s), %" PRIu32 " bytes of data",
              handshake->option, nbd_option_name(handshake->option),
              handshake->length);
    if (handshake->option == NBD_OPT_ABORT)
        return false;
    if (handshake->draining) {
        if (handshake->option == NBD_OPT_EXPORT_NAME) {
            handshake_fail(handshake, "the server is shutting down");
            return true;
        }
        handshake_error(handshake, NBD_REP_ERR_SHUTDOWN,
                        "the server is shutting down");
        if (handshake->state != HANDSHAKE_FAILED)
            handshake_set_state(handshake, HANDSHAKE_LEAVING);
        return true;
    }
    if (!handshake->connection->negotiated.fixed &&
        handshake->option != NBD_OPT_EXPORT_NAME) {
        handshake_fail(handshake, "%s without fixed newstyle",
                       nbd_option_name(handshake->option));
        return true;
    }
    return false;
}

void option_answer(struct handshake *handshake)
{
    if (refused(handshake))
        return;
    switch (handshake->option) {
    case NBD_OPT_EXPORT_NAME:
        option_export_by_name(handshake);
        break;
    case NBD_OPT_ABORT:
        option_abort(handshake);
        break;
    case NBD_OPT_LIST:
        if (!has_data(handshake))
            option_list(handshake);
        break;
    case NBD_OPT_STARTTLS:
        option_starttls(handshake);
        break;
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        option_info(handshake);
        break;
    case NBD_OPT_STRUCTURED_REPLY:
        option_structured_reply(handshake);
        break;
    case NBD_OPT_LIST_META_CONTEXT:
        option_list_meta_context(handshake);
        break;
    case NBD_OPT_SET_META_CONTEXT:
        option_set_meta_context(handshake);
        break;
    case NBD_OPT_EXTENDED_HEADERS:
        option_extended_headers(handshake);
        break;
    default:
        option_unknown(handshake);
        break;
    }
}

void option_answer_too_big(struct handshake *handshake)
{
    if (refused(handshake))
        return;
    switch (handshake->option) {
    case NBD_OPT_EXPORT_NAME:
        handshake_fail(handshake, "an export name of %" PRIu32 " bytes",
                       handshake->length);
        break;
    case NBD_OPT_ABORT:
        option_abort(handshake);
        break;
    default:
        if (handshake->option == NBD_OPT_SET_META_CONTEXT)
            option_meta_forget(handshake);
        handshake_error(handshake, NBD_REP_ERR_TOO_BIG,
                        "an option has at most %d bytes of data", LIMIT_OPTION);
        break;
    }
}
