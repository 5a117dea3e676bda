/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What a handshake sends: replies are appended to its output buffer, which the
 * handshake sends as the socket takes it.  If there is no memory for it, or it
 * would be more than LIMIT_HANDSHAKE_OUTPUT, the handshake fails. */
#ifndef ABD_SERVER_HANDSHAKE_REPLY_H
#define ABD_SERVER_HANDSHAKE_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct handshake;

/* Room for length bytes at the end of the output, which count as written; NULL:
 * the handshake has failed. */
uint8_t *handshake_append(struct handshake *handshake, size_t length);

/* A reply to the option at hand, of at most two parts (NULL: empty). */
void handshake_reply(struct handshake *handshake, uint32_t reply,
                     const void *first, uint32_t first_length,
                     const void *second, uint32_t second_length);
void handshake_ack(struct handshake *handshake);
/* An error reply, with a text for people. */
void handshake_error(struct handshake *handshake, uint32_t reply,
                     const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Is there anything left to be sent? */
bool handshake_has_output(const struct handshake *handshake);
/* Sends what the socket takes: 0 when all has left, EAGAIN, or an errno value.
 */
int handshake_flush(struct handshake *handshake);
void handshake_free_output(struct handshake *handshake);

#endif
