/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Everything that a client or a plugin can make grow has its bound here, with
 * the reason. */
#ifndef ABD_SERVER_LIMITS_H
#define ABD_SERVER_LIMITS_H

#include <stdint.h>

#define MIB    (UINT64_C(1) << 20)
#define SECOND UINT64_C(1000000000)

/* Layers on one command line: a request has a frame for each. */
#define LIMIT_LAYERS 32

/* The data of one option.  A name and a description take at most 4096 bytes
 * each, 512 information requests 1 KiB; the longest sensible list of metadata
 * queries fits.  A longer option is read and dropped up to
 * LIMIT_OPTION_DROPPED and answered with NBD_REP_ERR_TOO_BIG, past that the
 * client is disconnected. */
#define LIMIT_OPTION         (32 * 1024)
#define LIMIT_OPTION_DROPPED (1024 * 1024)
/* Options of one client: nobody needs more before making a choice. */
#define LIMIT_OPTIONS 1024
/* What may wait to be sent to a client in the handshake before it is no longer
 * read from (a LIST of many exports is held whole). */
#define LIMIT_HANDSHAKE_OUTPUT (4 * MIB)
/* Exports in one LIST. */
#define LIMIT_LISTED_EXPORTS 10000

/* Open disks that nobody uses.  They stay open for the next client. */
#define LIMIT_IDLE_DISKS 64

/* The largest payload of one command, in either direction. */
#define LIMIT_PAYLOAD (64 * MIB)
/* What a disk takes at once unless it says otherwise. */
#define LIMIT_TRANSFER (1 * MIB)
/* Requests in a disk, unless it says otherwise; beyond, clients are not read
 * from.  64 clients with 64 requests each fit, and one with 4096. */
#define LIMIT_REQUESTS 4096
/* Pieces of a READ or WRITE (each is a request), and pieces of a ZERO, TRIM or
 * CACHE (one after the other): 64 GiB of zeroes written by 1 MiB. */
#define LIMIT_PAYLOAD_PIECES 1024
#define LIMIT_PIECES         65536
/* Extents gathered for one EXTENTS request: a 64 KiB buffer of 16 bytes each.
 */
#define LIMIT_EXTENTS 4096

/* The buffer a loop receives into: many requests with one system call. */
#define LIMIT_RECEIVE (256 * 1024)
/* Payloads up to this are copied out of it; longer ones are received in place.
 */
#define LIMIT_COPIED_PAYLOAD (32 * 1024)
/* Requests taken from one connection before the others have their turn. */
#define LIMIT_BATCH 256
/* ... and bytes of memory that it may take before replies are sent, so that it
 * is seen whether the client reads them. */
#define LIMIT_BATCH_BYTES (4 * MIB)
/* A client whose socket is full, and that holds this part of all memory, gets
 * no more until it has read something. */
#define LIMIT_UNREAD_PART 16
/* Commands of one client that may be unanswered while it does not read: enough
 * to go on working for a client whose network is slow for a moment. */
#define LIMIT_UNREAD_REPLIES 1024
/* Iovecs of one sendmsg, and bytes: more than a socket buffer is useless. */
#define LIMIT_IOVECS 1024

/* A client inside a payload, or with replies that it has not read, must move
 * one of so many parts of what it holds in this time while others wait for it,
 * or the server ends: all of it is through after 40 s. */
#define LIMIT_STALL_NS   (5 * SECOND)
#define LIMIT_STALL_PART 8
/* Requests that a client may hold while others wait for one. */
#define LIMIT_REQUESTS_WHEN_SHORT 64
/* Askers of the status socket that are not done yet: past that the one that has
 * been reading its answer for longest gives way.  And how long it may take to
 * read it. */
#define LIMIT_STATUS_CLIENTS 32
#define LIMIT_STATUS_NS      (10 * SECOND)
/* After a client was told that it did wrong and will be disconnected. */
#define LIMIT_LINGER_NS (2 * SECOND)

/* SO_SNDBUF of unix sockets: chosen by measurement, see docs/performance.md. */
#define SEND_BUFFER (512 * 1024)

#endif
