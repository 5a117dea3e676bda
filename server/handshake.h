/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The handshake phase of one connection: newstyle (fixed or not) and oldstyle.
 *
 * It reads exactly the bytes it needs, never more: what a client pipelines
 * behind its choice stays in the socket, so it survives the move to another
 * loop, and a later STARTTLS can see whether there is any.  All of it is one
 * state machine driven by readiness and by the end of what it asked for (a
 * disk, the list of exports). */
#ifndef ABD_SERVER_HANDSHAKE_H
#define ABD_SERVER_HANDSHAKE_H

#include <stdbool.h>

struct connection;

/* On the connection's thread, once.  Ends in connection_begin_transmission()
 * or connection_close(). */
void handshake_begin(struct connection *connection);
/* The server is ending: from now on options are answered with
 * NBD_REP_ERR_SHUTDOWN; an idle client is disconnected. */
void handshake_drain(struct connection *connection);
/* The connection is being closed: stops everything of the handshake.  Returns
 * false if something is still under way (a disk is being opened); then it calls
 * connection_check_end() when that is over. */
bool handshake_stop(struct connection *connection);

#endif
