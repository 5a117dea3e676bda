/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Messages to stderr or syslog, from any thread.
 *
 * A line is put together on the caller's stack and leaves in one write of at
 * most PIPE_BUF bytes.  The kernel keeps such a write in one piece on pipes,
 * files and terminals, so lines of several threads (and processes) are not torn
 * although no lock is held. */
#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "base/text.h"

/* Set once at start-up, before there are threads; verbose at any time. */
static enum log_destination log_destination;
static const char *log_program;
static atomic_bool log_verbose;
static atomic_uint errors;

struct line {
    /* Filled up to limit at most, which leaves room for "..." and a newline. */
    char text[PIPE_BUF];
    size_t length, limit;
    bool cut;
};

static const char *level_word(enum abd_level level)
{
    switch (level) {
    case ABD_ERROR:
        return "error: ";
    case ABD_WARNING:
        return "warning: ";
    case ABD_DEBUG:
        return "debug: ";
    case ABD_INFO:
        break;
    }
    return "";
}

static int level_priority(enum abd_level level)
{
    switch (level) {
    case ABD_ERROR:
        return LOG_ERR;
    case ABD_WARNING:
        return LOG_WARNING;
    case ABD_DEBUG:
        return LOG_DEBUG;
    case ABD_INFO:
        break;
    }
    return LOG_INFO;
}

static void line_add(struct line *line, const char *text)
{
    size_t left = strlen(text);

    while (left > 0 && !line->cut) {
        char shown[TEXT_SHOWN_MAX];
        size_t length = text_show_next(&text, &left, shown);

        if (length > line->limit - line->length) {
            line->cut = true;
        } else {
            memcpy(line->text + line->length, shown, length);
            line->length += length;
        }
    }
}

static void line_add_scope(struct line *line, const char *scope)
{
    if (scope && *scope) {
        line_add(line, scope);
        line_add(line, ": ");
    }
}

static void line_end(struct line *line)
{
    if (line->cut) {
        memcpy(line->text + line->length, "...", 3);
        line->length += 3;
    }
}

/* One write, unless a signal or a full terminal divides it; what cannot be
 * written is lost, as there is nobody to tell. */
static void write_all(const char *text, size_t length)
{
    while (length > 0) {
        ssize_t written = write(STDERR_FILENO, text, length);

        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return;
        text += written;
        length -= (size_t)written;
    }
}

void log_open(enum log_destination destination, const char *program)
{
    log_destination = destination;
    log_program = program;
    if (destination == LOG_TO_SYSLOG)
        openlog(program, LOG_PID, LOG_DAEMON);
}

unsigned log_errors(void)
{
    return atomic_load_explicit(&errors, memory_order_relaxed);
}

void log_set_verbose(bool verbose)
{
    atomic_store_explicit(&log_verbose, verbose, memory_order_relaxed);
}

bool log_is_verbose(void)
{
    return atomic_load_explicit(&log_verbose, memory_order_relaxed);
}

void log_write_v(enum abd_level level, const char *scope, const char *format,
                 va_list args)
{
    if (level == ABD_ERROR)
        atomic_fetch_add_explicit(&errors, 1, memory_order_relaxed);
    if (log_destination == LOG_TO_NULL)
        return;
    if (level == ABD_DEBUG && !log_is_verbose())
        return;

    int saved = errno; /* the caller may still need it */
    struct line line;
    char text[PIPE_BUF];
    int length = vsnprintf(text, sizeof text, format, args);

    line.length = 0;
    line.limit = sizeof line.text - strlen("...\n");
    line.cut = false;
    if (log_destination == LOG_TO_STDERR)
        line_add_scope(&line, log_program);
    line_add_scope(&line, scope);
    line_add(&line, level_word(level));
    /* A format that fails (a wide character that has no bytes) still tells
     * more than silence. */
    line_add(&line, length < 0 ? format : text);
    line.cut = line.cut || length >= (int)sizeof text;
    line_end(&line);

    if (log_destination == LOG_TO_STDERR) {
        line.text[line.length++] = '\n';
        write_all(line.text, line.length);
    } else {
        syslog(level_priority(level), "%.*s", (int)line.length, line.text);
    }
    errno = saved;
}

void log_write(enum abd_level level, const char *scope, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_write_v(level, scope, format, args);
    va_end(args);
}
