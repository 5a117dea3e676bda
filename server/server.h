/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The server as a whole, for main.c.  All of it is called on the main thread.
 *
 *     server_create -> (layers' start) -> server_run ... server_end
 */
#ifndef ABD_SERVER_SERVER_H
#define ABD_SERVER_SERVER_H

#include <stdbool.h>

/* Makes the arena, the loops and the workers as settings and chain say, and
 * starts the loops (so after the process has gone into the background and given
 * up its privileges).  0 or an errno value, after a message. */
int server_create(void);

/* Readable when something happened that the main thread must look at. */
int server_event_fd(void);
/* What happened since the last look; clears it and the fd. */
struct server_events {
    bool shutdown;  /* a plugin called abd_shutdown() */
    bool last_left; /* a client has gone and it was the last */
};
struct server_events server_take_events(void);
/* For anybody: sets an event.  Any thread, async-signal-safe. */
void server_notify_shutdown(void);
void server_notify_last_left(void);

/* One client over the given descriptors (-s).  0 or an errno value. */
int server_serve(int in, int out);

/* Drains: listeners, handshakes, requests, connections, disks.  Waits at most
 * the drain timeout, then cancels and waits a second more.  abort_fd: readable
 * means that the user is impatient (a second signal), the wait ends at once.
 * Returns true if everything ended in time; false after a message that says
 * what did not (or without one, if the user was impatient).  After true no
 * plugin code runs on the loops any more. */
bool server_drain(int abort_fd);

#endif
