/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Who the process is: -u, -g, --swap, --exit-with-parent. */
#ifndef ABD_SERVER_PRIVILEGES_H
#define ABD_SERVER_PRIVILEGES_H

#include <stdbool.h>
#include <sys/types.h>

/* Names or numbers; (uid_t)-1 and (gid_t)-1: not to be changed. */
struct identity {
    uid_t uid;
    gid_t gid;
    const char *name; /* of the user; NULL: a number that has none */
};

/* Looks the names up (NULL: not given).  0 or an errno value, after a message.
 */
int privileges_find(const char *user, const char *group, struct identity *ret);

/* Becomes that for ever.  Before there are threads of ours.  0 or an errno
 * value, after a message. */
int privileges_drop(const struct identity *identity);

/* Locks all memory, present and future.  While still privileged. */
int privileges_lock_memory(void);

/* Asks for SIGTERM when the parent ends; parent: who it was at the start.
 * After privileges_drop(), which would undo it.  0 or an errno value, after a
 * message (also if the parent has ended already). */
int privileges_exit_with_parent(pid_t parent);

#endif
