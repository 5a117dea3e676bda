/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A process that keeps the privileges which the server gives up, for two
 * things: writing the pidfile and removing, at the end, what was created.  So
 * these may lie in folders that the user of -u cannot write to. */
#ifndef ABD_SERVER_CARETAKER_H
#define ABD_SERVER_CARETAKER_H

#include <stdbool.h>

/* Its two tasks, carried out in its process; int: 0 or an errno value. */
struct caretaker_tasks {
    int (*write_pidfile)(const char *path);
    void (*remove)(void);
};

/* Starts it, before the privileges are given up.  It ends when it has removed
 * everything, also if the server has died.  0 or an errno value. */
int caretaker_start(const char *pidfile, const struct caretaker_tasks *tasks);
bool caretaker_is_there(void);

/* Wait until it is done.  The second one is async-signal-safe. */
int caretaker_write_pidfile(void);
void caretaker_remove(void);

#endif
