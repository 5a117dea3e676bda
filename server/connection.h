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
#include "server/admission.h"
#include "server/disk.h"
#include "server/job.h"
#include "server/request.h"
#include "server/stall.h"
#include "server/stream.h"
#include "wire/message.h"

#include <stdatomic.h>
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

struct connection {
    struct list link; /* worker->connections */
    struct worker *worker;
    struct stream stream;
    struct abd_watch in_watch, out_watch; /* one descriptor: in_watch only */
    uint32_t in_events, out_events;       /* what they ask for; 0: stopped */
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
    struct admission admission; /* which disks said so */

    /* Registry of all clients (listener.c). */
    struct list registry_link;

    /* Receiving (transmission.c). */
    struct {
        uint8_t *buffer;     /* received, not parsed; the connection holds it */
        unsigned start, end; /* what of it is left */
        uint8_t head[32];    /* a header that came in two parts */
        unsigned head_n;
        struct command command; /* the one that is under way */
        struct pace pace;       /* of its payload */
        bool hung_up;           /* the socket said so while nothing was read */
        bool stopped;           /* nothing more is to be received */
        bool fed;               /* the requests it waited for are there now */
        struct list ready_link; /* worker->ready */
        struct list room_link;  /* lane->connections */
        struct request_waiter request_waiter;
        struct memory_waiter memory_waiter;
        enum {
            RECEIVE_READY,
            RECEIVE_WAITS_ROOM,    /* in the disk: lane->connections */
            RECEIVE_WAITS_REQUEST, /* for the pool: request_waiter */
            RECEIVE_WAITS_MEMORY,  /* for buffers: memory_waiter */
            RECEIVE_WAITS_REPLIES, /* for the client to read some */
        } waits;
        bool always; /* a regular file: can't be watched, is always ready */
    } receive;

    /* Sending (reply.c). */
    struct {
        struct list queue; /* requests whose reply or chunk is to be sent */
        uint64_t sent;     /* bytes of the first that have left */
        struct list link;  /* worker->sending */
        struct pace pace;  /* since there was something to send */
        bool blocked;      /* the socket is full: out_watch waits */
    } send;

    unsigned jobs; /* commands not answered yet */
    uint64_t held; /* bytes of the arena that they hold */
    unsigned requests_held;
    struct list parts;  /* struct part, in flight */
    bool disconnecting; /* NBD_CMD_DISC seen: end when all is answered */
    bool broken;        /* nothing more can be sent */
    uint64_t since_ns;  /* when it was accepted */
    struct traffic traffic;
    /* One at a time: arriving, moving (then with who is to be called there),
     * ending. */
    struct loop_message message;
    void (*arrived)(struct connection *connection);
    struct disk_put put;
    bool ending; /* the message or put that ends it is under way */

    /* abd_disconnect(), from any thread: sent once. */
    atomic_bool disconnect_asked;
    bool disconnect_arrived;
    struct loop_message disconnect_message;
    _Atomic(struct abd_loop *) home; /* where it is, or is moving to */
    atomic_bool moving;
};

/* Takes the descriptors over and begins the handshake on the worker; any
 * thread.  0 or an errno value. */
int connection_create(struct worker *worker, int in, int out,
                      const char *address);

/* Moves it to another worker and calls arrived there.  In the handshake only.
 */
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

/* A command has been answered (or never will be): goes on reading, or ends the
 * connection if that was all that it waited for. */
void connection_job_ended(struct connection *connection);
/* Something else has ended (the handshake): ends it if that was the last. */
void connection_check_end(struct connection *connection);

/* The client can't be sent anything any more. */
void connection_send_failed(struct connection *connection);

/* What readiness it waits for, as its state says. */
void connection_update_watches(struct connection *connection);

/* The server is ending: what is in flight is awaited, then it is closed. */
void connection_drain(struct connection *connection);

#endif
