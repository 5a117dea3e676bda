/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Where messages go.
 *
 * Everything that a person is told passes through here: one line a message, to
 * stderr, to syslog or nowhere.  The destination is chosen at start-up; writing
 * is allowed from any thread, and a line is never torn.  common/ and client/
 * themselves do not log (they return errors); servers and tools do. */
#ifndef ABD_BASE_LOG_H
#define ABD_BASE_LOG_H

#include "abd-plugin.h" /* enum abd_level */

#include <stdarg.h>
#include <stdbool.h>

enum log_destination { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_NULL };

/* program: the word in front of each line, and syslog's ident; borrowed for
 * ever.  Before the first call: stderr, and no word. */
void log_open(enum log_destination destination, const char *program);

/* ABD_DEBUG messages are dropped unless verbose; so is the work of formatting
 * them where the caller asks log_is_verbose() first. */
void log_set_verbose(bool verbose);
bool log_is_verbose(void);

/* scope: who speaks ("memory", "export \"db1\""), or NULL.  Control characters
 * of the text are shown as \xNN, so what a client sends can't forge a line.  A
 * text longer than the buffer (4 KiB) is cut. */
void log_write(enum abd_level level, const char *scope, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void log_write_v(enum abd_level level, const char *scope, const char *format,
                 va_list args) __attribute__((format(printf, 3, 0)));
/* How many errors have been said (or would have been): who calls foreign code
 * sees whether it has explained its failure.  Any thread. */
unsigned log_errors(void);

#endif
