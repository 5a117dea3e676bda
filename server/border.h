/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The border above a disk: where requests enter a layer.
 *
 * What the server does so that plugins needn't, in one place: queueing when the
 * disk has as many requests as it takes, cutting, zeroes written where there is
 * no ZERO, flushes where FUA is emulated.  All of it works on the request's own
 * frame, so nothing can run out in the middle. */
#ifndef ABD_SERVER_BORDER_H
#define ABD_SERVER_BORDER_H

#include <stdbool.h>
#include <stdint.h>

struct disk;
struct lane;
struct request;
struct worker;

/* Hands a request (in state SERVER) to a disk, as frames[depth].  pub's op,
 * flags, offset, length and data say what it is.  It ends in any case. */
void border_enter(struct request *request, struct disk *disk);

/* Sets pub to what the layer of the innermost frame was given (of an operation
 * in pieces: the piece that is under way). */
void border_show(struct request *request);

/* The innermost frame was ended: goes on at the border, or returns true if the
 * frame is really finished, with *error what it ended with. */
bool border_ended(struct request *request, int *error);

/* The request is cancelled while it waits at a border: ends it if it has not
 * begun. */
void border_cancel(struct request *request);

/* Room in the lane, so that border_enter() would not queue. */
bool lane_has_room(const struct lane *lane);
/* Tells the first connection that waits for room, if there is some: whoever was
 * told before may not have used it. */
void lane_offer_room(struct lane *lane);
/* A request has left the lane: others may enter. */
void lane_left(struct lane *lane);

#endif
