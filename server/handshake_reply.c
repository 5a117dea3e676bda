/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The output of a handshake.
 *
 * One growing buffer: replies are small, and a client that does not read them
 * is not read from, so it never holds more than the replies to one option.  On
 * the connection's thread. */
#include "server/handshake_reply.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "server/handshake_state.h"
#include "server/limits.h"

/* The texts of errors: a sentence and a quoted name. */
#define ERROR_TEXT 512

static int output_grow(struct handshake *handshake, size_t needed)
{
    size_t size = handshake->output.size ? handshake->output.size : 512;
    uint8_t *bytes;

    if (needed > LIMIT_HANDSHAKE_OUTPUT)
        return EOVERFLOW;
    while (size < needed)
        size *= 2;
    bytes = realloc(handshake->output.bytes, size);
    if (!bytes)
        return ENOMEM;
    handshake->output.bytes = bytes;
    handshake->output.size = size;
    return 0;
}

uint8_t *handshake_append(struct handshake *handshake, size_t length)
{
    size_t end = handshake->output.end;
    int err;

    if (handshake->state == HANDSHAKE_FAILED)
        return NULL;
    if (length > handshake->output.size - end) {
        err = output_grow(handshake, end + length);
        if (err) {
            handshake_fail(handshake, "no room for a reply of %zu bytes: %s",
                           length, strerror(err));
            return NULL;
        }
    }
    handshake->output.end += length;
    return handshake->output.bytes + end;
}

void handshake_reply(struct handshake *handshake, uint32_t reply,
                     const void *first, uint32_t first_length,
                     const void *second, uint32_t second_length)
{
    uint32_t length = first_length + second_length;
    uint8_t *to = handshake_append(handshake, NBD_OPTION_REPLY_SIZE + length);

    if (!to)
        return;
    nbd_option_reply_encode(handshake->option, reply, length, to);
    to += NBD_OPTION_REPLY_SIZE;
    if (first_length > 0)
        memcpy(to, first, first_length);
    if (second_length > 0)
        memcpy(to + first_length, second, second_length);
}

void handshake_ack(struct handshake *handshake)
{
    handshake_reply(handshake, NBD_REP_ACK, NULL, 0, NULL, 0);
}

void handshake_error(struct handshake *handshake, uint32_t reply,
                     const char *format, ...)
{
    char text[ERROR_TEXT];
    size_t length;
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    length = strlen(text);
    /* The buffer's end may have cut a character in two. */
    if (length > sizeof text - 4)
        length = text_cut_utf8(text, length, sizeof text - 4);
    log_write(ABD_DEBUG, handshake->connection->address, "%s: %s: %.*s",
              nbd_option_name(handshake->option), nbd_rep_name(reply),
              (int)length, text);
    handshake_reply(handshake, reply, text, (uint32_t)length, NULL, 0);
}

bool handshake_has_output(const struct handshake *handshake)
{
    return handshake->output.start < handshake->output.end;
}

int handshake_flush(struct handshake *handshake)
{
    while (handshake_has_output(handshake)) {
        struct iovec piece = {
            .iov_base = handshake->output.bytes + handshake->output.start,
            .iov_len = handshake->output.end - handshake->output.start,
        };
        size_t sent;
        int err = stream_send(&handshake->connection->stream, &piece, 1, false,
                              &sent);

        if (err)
            return err;
        handshake->output.start += sent;
    }
    if (handshake->output.size > 4096)
        handshake_free_output(handshake);
    handshake->output.start = handshake->output.end = 0;
    return 0;
}

void handshake_free_output(struct handshake *handshake)
{
    free(handshake->output.bytes);
    handshake->output.bytes = NULL;
    handshake->output.start = handshake->output.end = handshake->output.size =
        0;
}
