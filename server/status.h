/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the server is doing, for people and programs: a unix socket that answers
 * each connection with one JSON object and closes it. */
#ifndef ABD_SERVER_STATUS_H
#define ABD_SERVER_STATUS_H

/* Starts to answer on a listening socket, which it takes over (-1: --status was
 * not given; does nothing).  Main thread, once the loops run, before clients
 * are accepted.  The file is removed by leftovers.h.  0 or an errno value,
 * after a message. */
int status_start(int fd);
/* Ends it: afterwards nothing of the server is looked at.  Main thread, after
 * the drain.  Without status_start() it does nothing. */
void status_stop(void);

/* --status-of PATH: asks the server there, and prints the answer for people on
 * stdout.  Returns the exit status, after a message if that is not 0. */
int status_of(const char *path);

#endif
