/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Files that exist while the server runs: the pidfile, and whatever else is to
 * be removed at the end (sockets, a private folder). */
#ifndef ABD_SERVER_LEFTOVERS_H
#define ABD_SERVER_LEFTOVERS_H

#include <stdbool.h>

/* Writes the process id, replacing what was there in one step, and remembers
 * the file.  0 or an errno value, after a message. */
int leftovers_write_pidfile(const char *path);

/* Remembers something that was created, to be removed (path: borrowed for
 * ever, absolute). */
void leftovers_add(const char *path, bool is_folder);

/* To be called before the process gives up its privileges: what is written and
 * removed later will still be with them.  pidfile: the path (NULL: none).  0 or
 * an errno value, after a message. */
int leftovers_keep_privileges(const char *pidfile);

/* Removes what was remembered, the last first, if it is still the same.  Once;
 * any thread, async-signal-safe. */
void leftovers_remove(void);

#endif
