/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Listening sockets and the count of clients.
 *
 * Loop 0 watches the sockets and deals new connections to the loops in turn.
 * At --max-connections the oldest unfinished handshake gives way; without one
 * nothing is accepted until somebody leaves: who is being served is never
 * dropped. */
#ifndef ABD_SERVER_LISTENER_H
#define ABD_SERVER_LISTENER_H

struct connection;

/* Takes the listening socket over.  Main thread, before the loops run.  0 or an
 * errno value. */
int listener_add(int fd);
/* Starts accepting: posts to loop 0.  Main thread. */
void listeners_start(void);
/* Stops accepting and closes the sockets; then calls done on loop 0.  Main
 * thread. */
void listeners_stop(void (*done)(void *arg), void *arg);

/* For connection.c, on the connection's thread: a handshake begins, it has
 * ended well (the client is being served), the connection is gone.  Each takes
 * the registry's lock for a moment. */
void registry_add(struct connection *connection);
void registry_served(struct connection *connection);
void registry_remove(struct connection *connection);
/* How many clients there are, of any state. */
unsigned registry_count(void);

#endif
