/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* How bytes travel: the only place that knows what is below a connection.
 *
 * Two descriptors (they may be the same), each a socket, a pipe or a file.
 * Nothing here blocks: EAGAIN says that readiness is to be waited for. */
#ifndef ABD_SERVER_STREAM_H
#define ABD_SERVER_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct stream {
    int in, out;
    bool in_socket, out_socket;
    bool can_send_file;
    /* What the descriptors' flags were, to be restored (they may be shared with
     * other processes: -s). -1: unchanged. */
    int in_flags, out_flags;
    bool out_is_nonblocking, sent_file;
};

/* Takes the descriptors over.  0 or an errno value (they are then closed). */
int stream_init(struct stream *stream, int in, int out);
/* Closes them. */
void stream_finish(struct stream *stream);

/* 0 and the bytes got (0: the peer has ended), or an errno value. */
int stream_receive(struct stream *stream, struct iovec *places, unsigned n,
                   size_t *ret_got);
/* 0 and the bytes that were taken, or an errno value.  more: further bytes
 * follow at once. */
int stream_send(struct stream *stream, struct iovec *pieces, unsigned n,
                bool more, size_t *ret_sent);
/* Sends a range of a file; a range that ends early because the file does gives
 * 0 with fewer bytes, at last 0 bytes.  Only if can_send_file. */
int stream_send_file(struct stream *stream, int fd, uint64_t offset,
                     size_t length, bool more, size_t *ret_sent);
/* No more will be sent: the peer reads to the end. */
/* Bytes that were sent and not read yet (TCP: not acknowledged), as far as the
 * kernel knows; 0 if it does not. */
uint64_t stream_unsent(const struct stream *stream);
void stream_shutdown_send(struct stream *stream);

#endif
