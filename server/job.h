/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A job: one command of a client, and the requests that carry it out.
 *
 * Most commands are one request.  A long READ or WRITE becomes several, its
 * parts, each with memory of its own.  The job lives in the request of its
 * first part, the head, which therefore stays until the job is answered.
 *
 * While it is still being received (or waits for memory, or for room in the
 * disk) it is the connection's command. */
#ifndef ABD_SERVER_JOB_H
#define ABD_SERVER_JOB_H

#include "base/list.h"
#include "loop/memory.h"
#include "wire/message.h"

#include <stdbool.h>
#include <stdint.h>

struct connection;
struct request;

struct job {
    struct connection *connection;
    struct request *head;
    uint64_t cookie, offset, length;
    uint16_t type, flags; /* the protocol's */
    bool whole;           /* one reply when all parts have ended */
    bool file_failed;     /* after its header had left */
    bool issued;          /* no further part will come */
    unsigned parts;       /* in flight */
    unsigned unsent;      /* replies and chunks queued */
    struct list all;      /* whole: struct part, in order */
    uint64_t started_ns;

    /* The first error: what the client is told. */
    int error;
    uint64_t error_at; /* from the start of the job, or ABD_NO_OFFSET */
    char *error_text;  /* malloc'ed */
};

/* One request of a job. */
struct part {
    struct job *job;
    struct list link; /* connection->parts while in flight, then job->all */
    struct list reply_link; /* connection->send.queue */
    uint64_t offset;        /* from the start of the job */
    uint64_t length;
    void *buffer; /* of the arena, or NULL */
    uint64_t buffer_size;
    uint64_t reply_length;   /* once it has been worked out; else UINT64_MAX */
    uint64_t file_failed_at; /* of its data: from here on zeroes are sent */
    bool failed, final;      /* final: the reply ends with this one */
    struct job own;          /* used if it is the head */
};

/* A command on its way from its header to its last part. */
struct command {
    enum command_state {
        COMMAND_NONE,    /* the next bytes are a header */
        COMMAND_ISSUE,   /* parts are to be made */
        COMMAND_RECEIVE, /* the part's payload is being received */
        COMMAND_PAYLOAD, /* BLOCK_STATUS's list of contexts, likewise */
        COMMAND_DROP,    /* the rest of a payload that nobody wants */
    } state;
    struct nbd_request header;
    uint64_t length; /* of its effect */
    enum memory_use use;
    int error;        /* what it is answered with, without asking the disk */
    const char *why;  /* for people, or NULL */
    uint64_t issued;  /* bytes for which there are parts */
    uint64_t drop;    /* bytes of payload to drop */
    bool dropped;     /* they have been */
    uint64_t at_hand; /* bytes of payload that lie in the receive buffer */
    struct job *job;  /* NULL: no part yet */
    struct request *part; /* the one being received */
    bool spare;           /* a request is kept for the part after it (take.c) */
    uint64_t received;    /* bytes of it */
    uint8_t payload[40];  /* effect length, up to 8 context ids */
    unsigned payload_n;
};

/* Checks a header just received and begins the command: connection->
 * receive.command (command.c).  False: the stream can't be followed any more,
 * disconnect. */
bool command_begin(struct connection *connection,
                   const struct nbd_request *header);
/* The list of context ids is complete: checks it. */
void command_payload_complete(struct connection *connection);

/* What the next step of the command needs, all at once: requests, room in the
 * disk, memory.  Returns false if something is missing; the connection is then
 * queued where it will be, and transmission_resume()d later. */
bool command_take(struct connection *connection);

/* Gives back the request that was kept for a further part: there is none. */
void command_release_spare(struct connection *connection);

/* The payload of command.part is complete (or there is none): submits it.
 * in_place: the payload, if it is to be used where it lies. */
void command_submit(struct connection *connection, void *in_place);
/* What nobody wanted has been read. */
void command_dropped(struct connection *connection);
/* The command's error is answered by the part that was taken for it. */
void command_answer_error(struct connection *connection);

/* A range of a file that was lent to the reply carried by part can't be sent:
 * zeroes are, and an error follows. */
void job_file_failed(struct job *job, struct request *part, int fd,
                     uint64_t fd_offset, int error);

/* Gives back what a command holds that will never be complete.  Replies have
 * been discarded before. */
void command_abandon(struct connection *connection);

/* The request of a part has come back (take.c gives this to it). */
void part_ended(struct request *part, int error);

/* A part's reply has been sent, or never will be: gives everything back. */
void part_sent(struct request *part);

#endif
