/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The specification's names for the protocol's numbers, for messages; and the
 * protocol's errors for those of the system.  No state; any thread. */
#include "wire/nbd.h"

#include <errno.h>

/* The name in the specification and in nbd.h are the same word. */
#define NAME(constant)                                                         \
    case constant:                                                             \
        return #constant

const char *nbd_option_name(uint32_t option)
{
    switch (option) {
        NAME(NBD_OPT_EXPORT_NAME);
        NAME(NBD_OPT_ABORT);
        NAME(NBD_OPT_LIST);
        NAME(NBD_OPT_STARTTLS);
        NAME(NBD_OPT_INFO);
        NAME(NBD_OPT_GO);
        NAME(NBD_OPT_STRUCTURED_REPLY);
        NAME(NBD_OPT_LIST_META_CONTEXT);
        NAME(NBD_OPT_SET_META_CONTEXT);
        NAME(NBD_OPT_EXTENDED_HEADERS);
    default:
        return "unknown";
    }
}

const char *nbd_rep_name(uint32_t reply)
{
    switch (reply) {
        NAME(NBD_REP_ACK);
        NAME(NBD_REP_SERVER);
        NAME(NBD_REP_INFO);
        NAME(NBD_REP_META_CONTEXT);
        NAME(NBD_REP_ERR_UNSUP);
        NAME(NBD_REP_ERR_POLICY);
        NAME(NBD_REP_ERR_INVALID);
        NAME(NBD_REP_ERR_PLATFORM);
        NAME(NBD_REP_ERR_TLS_REQD);
        NAME(NBD_REP_ERR_UNKNOWN);
        NAME(NBD_REP_ERR_SHUTDOWN);
        NAME(NBD_REP_ERR_BLOCK_SIZE_REQD);
        NAME(NBD_REP_ERR_TOO_BIG);
        NAME(NBD_REP_ERR_EXT_HEADER_REQD);
    default:
        return "unknown";
    }
}

const char *nbd_command_name(uint32_t command)
{
    switch (command) {
        NAME(NBD_CMD_READ);
        NAME(NBD_CMD_WRITE);
        NAME(NBD_CMD_DISC);
        NAME(NBD_CMD_FLUSH);
        NAME(NBD_CMD_TRIM);
        NAME(NBD_CMD_CACHE);
        NAME(NBD_CMD_WRITE_ZEROES);
        NAME(NBD_CMD_BLOCK_STATUS);
        NAME(NBD_CMD_RESIZE);
    default:
        return "unknown";
    }
}

const char *nbd_reply_type_name(uint32_t type)
{
    switch (type) {
        NAME(NBD_REPLY_TYPE_NONE);
        NAME(NBD_REPLY_TYPE_OFFSET_DATA);
        NAME(NBD_REPLY_TYPE_OFFSET_HOLE);
        NAME(NBD_REPLY_TYPE_BLOCK_STATUS);
        NAME(NBD_REPLY_TYPE_BLOCK_STATUS_EXT);
        NAME(NBD_REPLY_TYPE_ERROR);
        NAME(NBD_REPLY_TYPE_ERROR_OFFSET);
    default:
        return "unknown";
    }
}

const char *nbd_error_name(uint32_t error)
{
    switch (error) {
        NAME(NBD_EPERM);
        NAME(NBD_EIO);
        NAME(NBD_ENOMEM);
        NAME(NBD_EINVAL);
        NAME(NBD_ENOSPC);
        NAME(NBD_EOVERFLOW);
        NAME(NBD_ENOTSUP);
        NAME(NBD_ESHUTDOWN);
    default:
        return "unknown";
    }
}

uint32_t nbd_error_from_errno(int err)
{
    switch (err) {
    case EPERM:
    case EACCES:
    case EROFS:
        return NBD_EPERM;
    case ENOMEM:
        return NBD_ENOMEM;
    case EINVAL:
        return NBD_EINVAL;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return NBD_ENOSPC;
    case EOVERFLOW:
        return NBD_EOVERFLOW;
    case ENOTSUP:
        return NBD_ENOTSUP;
    case ESHUTDOWN:
        return NBD_ESHUTDOWN;
    default:
        /* Not EINVAL: the client did nothing wrong that we know of. */
        return NBD_EIO;
    }
}
