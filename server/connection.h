/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A connection: one client, from accept to close.
 *
 *     HANDSHAKE -> TRANSMISSION -> ENDING -> (gone)
 *         |                           ^
 *         +---------------------------+
 *
 * It is touched by one thread, that of its worker.  While it is in the
 * handshake it may move to another worker (connection_move); it has no request
 * then.  It is freed when its last request has ended, its disk has been put
 * back and nothing points to it any more. */
#ifndef ABD_SERVER_CONNECTION_H
#define ABD_SERVER_CONNECTION_H

#include "abd-plugin.h"

#include "base/list.h"
#include "loop/memory.h"
#include "server/disk.h"
#include "server/stream.h"
#include "wire/message.h"

#include <stdbool.h>
#include <stdint.h>

struct handshake;
struct worker;

/* What was negotiated: plain data, so that it can be handed on. */
struct negotiated {
    enum nbd_reply_style style;
    bool no_zeroes;
    bool allocation; /* base:allocation was selected */
    bool fixed;      /* the client knows fixed newstyle */
    uint32_t allocation_id;
    uint16_t transmission_flags;
    uint64_t size;
    uint32_t block_min, block_preferred, block_max;
};

/* The command that is being received. */
struct job;

struct connection {
    struct list link; /* worker->connections */
    struct worker *worker;
    struct stream stream;
    struct abd_watch in_watch, out_watch;
    struct abd_client client;
    char address[112];
    enum connection_state {
        CONNECTION_HANDSHAKE,
        CONNECTION_TRANSMISSION,
        CONNECTION_ENDING,
    } state;

    struct negotiated negotiated;
    struct handshake *handshake; /* NULL once it is over */
    struct disk *disk;           /* NULL: none yet */
    struct lane *lane;           /* of the disk, on this worker */
    bool admitted;

    /* Registry of all clients (listener.c). */
    struct list registry_link;

    /* Receiving (transmission.c). */
    struct {
        uint8_t *buffer;     /* received, not parsed; the connection holds it */
        unsigned start, end; /* what of it is left */
        uint8_t head[32];    /* a header that came in two parts */
        unsigned head_n;
        struct job *job; /* the command that is under way; NULL: the next
                            bytes are a header */
        uint64_t drop;   /* payload bytes to be read and dropped */
        bool ended;      /* no more will be received */
        struct list ready_link; /* worker->ready */
        struct list room_link;  /* lane->connections */
        struct memory_waiter memory_waiter;
        enum {
            RECEIVE_READY,
            RECEIVE_WAITS_ROOM,
            RECEIVE_WAITS_MEMORY,
        } waits;
    } receive;

    /* Sending (reply.c). */
    struct {
        struct list queue; /* requests whose reply or chunk is to be sent */
        uint64_t sent;     /* bytes of the first that have left */
        struct list link;  /* worker->sending */
        bool blocked;      /* the socket is full */
        uint64_t blocked_ns;
    } send;

    unsigned jobs;      /* commands not answered yet */
    uint64_t held;      /* bytes of the arena that they hold */
    struct list parts;  /* requests in flight */
    bool disconnecting; /* NBD_CMD_DISC seen: end when all is answered */
    bool broken;        /* nothing more can be sent */
    uint64_t stalled_ns; /* since when it makes no progress; 0: it does */
    struct {
        uint64_t requests, bytes_read, bytes_written, errors;
    } counted;
    struct loop_message message; /* moving, ending */
};

/* Takes the descriptors over and begins the handshake on the worker; any
 * thread.  0 or an errno value. */
int connection_create(struct worker *worker, int in, int out,
                      const char *address);

/* Moves it to another worker and calls arrived there.  In the handshake only. */
void connection_move(struct connection *connection, struct worker *to,
                     void (*arrived)(struct connection *connection));

/* The handshake is over: requests follow.  connection->disk has been got and
 * admitted, negotiated filled in.  Takes over the stream's watches. */
void connection_begin_transmission(struct connection *connection);

/* Ends it as soon as possible: what is in flight is cancelled and awaited, what
 * is queued is not sent.  Safe at any time on its thread; it is freed later,
 * never inside. */
void connection_close(struct connection *connection);

/* Ends it in good order once all that it asked for is answered. */
void connection_finish(struct connection *connection);

/* Called whenever something has ended: frees it if that was the last. */
void connection_check_end(struct connection *connection);

#endif
