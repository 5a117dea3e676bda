/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Going into the background, and what stdin, stdout and stderr are then. */
#ifndef ABD_SERVER_BACKGROUND_H
#define ABD_SERVER_BACKGROUND_H

#include <stdbool.h>

/* Opens /dev/null for each of fds 0 to 2 that is not open, so that no socket
 * gets such a number and is mistaken for it.  0 or an errno value. */
int background_fill_stdio(void);

/* Forks, before there are threads.  It returns in the child; the parent waits
 * for background_release() and exits with 0, or as the child does if that ends
 * before.  0 or an errno value, after a message. */
int background_enter(void);

/* Clients can connect: lets the parent go, leaves the session, the directory
 * and the terminal (stderr stays if keep_stderr).  Does nothing in the
 * foreground.  false: the parent was killed meanwhile, so the server is not
 * wanted. */
bool background_release(bool keep_stderr);

/* For -s: takes fds 0 and 1 away from everybody else (0 is then /dev/null, 1
 * what 2 is).  0 or an errno value, after a message. */
int background_take_stdio(int *ret_in, int *ret_out);

#endif
