/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The registry of clients as the listener sees it; connections use the three
 * functions in listener.h.  All of this is for loop 0. */
#ifndef ABD_SERVER_REGISTRY_H
#define ABD_SERVER_REGISTRY_H

#include "loop/loop.h"

#include <stdbool.h>

/* Room for one more client: it counts from now on, until registry_unreserve(),
 * or as the client that calls registry_add() next.  False: there are as many as
 * may be. */
bool registry_reserve(void);
void registry_unreserve(void);

/* Sends message once when the next client leaves.  It may be asked for again at
 * any time.  False: there is room right now, nothing will be sent. */
bool registry_await_room(struct loop_message *message);
/* The same, whether there is room or not. */
void registry_await_leaver(struct loop_message *message);
/* To be called when the message has arrived. */
void registry_took_message(void);

/* Makes the oldest unfinished handshake give way, if it can be found: it may
 * have just been served, or be moving to another loop.  So the caller has to
 * look again soon.  False: there is no handshake, only a client's end helps. */
bool registry_evict_oldest(void);

#endif
