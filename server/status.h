/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the server is doing, for people and programs: a unix socket that answers
 * each connection with one JSON object and closes it. */
#ifndef ABD_SERVER_STATUS_H
#define ABD_SERVER_STATUS_H

/* Creates the socket of --status (settings.status_path; NULL: does nothing) and
 * what serves it.  Main thread, after server_create() and before clients can
 * connect; the file is left to leftovers.h.  0 or an errno value, after a
 * message. */
int status_start(void);
/* Ends it: afterwards nothing of the server is looked at.  Main thread, after
 * the drain.  Without status_start() it does nothing. */
void status_stop(void);

/* --status-of PATH: asks the server there, and prints the answer for people on
 * stdout.  Returns the exit status, after a message if that is not 0. */
int status_of(const char *path);

#endif
