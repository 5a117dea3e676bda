/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* --run: a command that lives as long as it wants, and the server with it. */
#ifndef ABD_SERVER_CAPTIVE_H
#define ABD_SERVER_CAPTIVE_H

#include <stdbool.h>
#include <sys/types.h>

/* What the command finds in shell variables; "" where there is none. */
struct captive_variables {
    const char *uri, *unix_path, *export_name;
    unsigned port; /* 0: none */
};

struct captive {
    pid_t pid;
    int pidfd; /* readable when it has ended; -1: no command */
};

/* Starts it by /bin/sh.  0 or an errno value, after a message. */
int captive_start(const char *command,
                  const struct captive_variables *variables,
                  struct captive *ret);

/* The server ends before the command: asks it to end, too. */
void captive_terminate(const struct captive *captive);

/* Waits for its end for at most that many milliseconds.  Returns its exit
 * status (128 and the signal), or -1: it goes on. */
int captive_finish(struct captive *captive, int milliseconds);

#endif
