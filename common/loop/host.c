/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What plugins call while they are configured: logging under their name, and
 * parsing of what a person wrote.  Each failure is logged here, with the text
 * that was wrong (never a secret's), and returned as an errno value.  Main
 * thread, but for abd_log(), which any thread may call. */
#include "loop/host.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "abd-loop.h"
#include "abd-plugin.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/text.h"
#include "loop/loop.h"

#define SECRET_MAX  4096 /* bytes; longer is a mistake, not a password */
#define QUOTED_SIZE 256

/* Where the process was started; set once.  NULL: it is still there. */
static char *start_directory;

int host_remember_directory(void)
{
    char *directory = getcwd(NULL, 0);

    if (!directory)
        return errno;
    free(start_directory);
    start_directory = directory;
    return 0;
}

static const char *scope_of(const struct abd_instance *instance)
{
    return instance ? instance->name : NULL;
}

/* Logs the text and what is wrong with it (NULL: what err says); returns err.
 */
static int refuse(const struct abd_instance *instance, const char *text,
                  const char *why, int err)
{
    char quoted[QUOTED_SIZE];
    char buf[128];

    if (err)
        log_write(ABD_ERROR, scope_of(instance), "%s: %s",
                  text_quote(text, strlen(text), quoted, sizeof quoted),
                  why ? why : strerror_r(err, buf, sizeof buf));
    return err;
}

LOOP_EXPORTED void abd_log(const struct abd_instance *instance,
                           const struct abd_disk *disk, enum abd_level level,
                           const char *format, ...)
{
    char quoted[QUOTED_SIZE];
    char scope[QUOTED_SIZE + 128];
    const char *name = scope_of(instance);
    va_list args;

    if (level == ABD_DEBUG && !log_is_verbose())
        return;
    if (disk && !name)
        name = scope_of(disk->instance);
    /* The default export has no name worth showing. */
    if (disk && disk->export_name && disk->export_name[0]) {
        text_quote(disk->export_name, strlen(disk->export_name), quoted,
                   sizeof quoted);
        snprintf(scope, sizeof scope, "%s%sexport %s", name ? name : "",
                 name ? ": " : "", quoted);
        name = scope;
    }
    va_start(args, format);
    log_write_v(level, name, format, args);
    va_end(args);
}

LOOP_EXPORTED int abd_parse_size(const struct abd_instance *instance,
                                 const char *text, uint64_t *ret)
{
    const char *why = NULL;
    int err = parse_size(text, ret, &why);

    return refuse(instance, text, why, err);
}

LOOP_EXPORTED int abd_parse_bool(const struct abd_instance *instance,
                                 const char *text, bool *ret)
{
    const char *why = NULL;
    int err = parse_bool(text, ret, &why);

    return refuse(instance, text, why, err);
}

LOOP_EXPORTED int abd_parse_number(const struct abd_instance *instance,
                                   const char *text, uint64_t max,
                                   uint64_t *ret)
{
    const char *why = NULL;
    int err = parse_number(text, max, ret, &why);

    return refuse(instance, text, why, err);
}

LOOP_EXPORTED int abd_parse_delay(const struct abd_instance *instance,
                                  const char *text, uint64_t *ret_ns)
{
    const char *why = NULL;
    int err = parse_delay(text, ret_ns, &why);

    return refuse(instance, text, why, err);
}

LOOP_EXPORTED int abd_absolute_path(const struct abd_instance *instance,
                                    const char *path, char **ret)
{
    _cleanup_free_ char *here = NULL;
    const char *base = start_directory;
    char *whole;

    if (!path[0])
        return refuse(instance, path, "an empty path", EINVAL);
    if (path[0] == '/') {
        whole = strdup(path);
    } else {
        if (!base)
            base = here = getcwd(NULL, 0);
        if (!base)
            return refuse(instance, path, "the current directory is gone",
                          errno);
        if (asprintf(&whole, "%s%s%s", base, strcmp(base, "/") ? "/" : "",
                     path) < 0)
            whole = NULL;
    }
    if (!whole)
        return refuse(instance, path, NULL, ENOMEM);
    *ret = whole;
    return 0;
}

/* Stands for a reason that has been told already. */
static const char logged[] = "";

/* Reads to the end of the line or the file, whichever comes first.  No
 * buffering: what follows the line is somebody else's. */
static int read_line(int fd, char **ret, const char **ret_why)
{
    _cleanup_free_ char *line = calloc(1, SECRET_MAX + 1);
    size_t length = 0;

    *ret_why = NULL;
    if (!line)
        return ENOMEM;
    for (;;) {
        char byte;
        ssize_t n = read(fd, &byte, 1);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int err = errno;

            explicit_bzero(line, SECRET_MAX);
            return err;
        }
        if (n == 0 || byte == '\n')
            break;
        if (length == SECRET_MAX) {
            *ret_why = "the secret is longer than 4096 bytes";
            explicit_bzero(line, SECRET_MAX);
            return EINVAL;
        }
        line[length++] = byte;
    }
    *ret = take_pointer(line);
    return 0;
}

/* Asks at the terminal, with echo off. */
static int ask(const struct abd_instance *instance, char **ret,
               const char **ret_why)
{
    struct termios before;
    struct termios silent;
    int err;

    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &before) < 0) {
        *ret_why = "standard input is not a terminal";
        return ENOTTY;
    }
    silent = before;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) < 0) {
        *ret_why = "can't turn off the terminal's echo";
        return errno;
    }
    /* The prompt comes last: from now on it is safe to type. */
    fprintf(stderr, "%s%spassword: ", instance ? instance->name : "",
            instance ? " " : "");
    err = read_line(STDIN_FILENO, ret, ret_why);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    fputc('\n', stderr);
    return err;
}

/* The descriptor is the server's from here on, and closed. */
static int read_descriptor(const char *text, char **ret, const char **ret_why)
{
    _cleanup_close_ int fd = -1;
    uint64_t number;
    int err = parse_number(text, INT_MAX, &number, ret_why);

    if (err)
        return err;
    if (number <= STDERR_FILENO) {
        *ret_why = "must not be standard input, output or error";
        return EINVAL;
    }
    fd = (int)number;
    if (fcntl(fd, F_GETFD) < 0) {
        *ret_why = "is not an open file descriptor";
        fd = -1;
        return EBADF;
    }
    return read_line(fd, ret, ret_why);
}

static int read_secret_file(const struct abd_instance *instance,
                            const char *path, char **ret, const char **ret_why)
{
    _cleanup_free_ char *whole = NULL;
    _cleanup_close_ int fd = -1;
    int err = abd_absolute_path(instance, path, &whole);

    *ret_why = logged;
    if (err)
        return err;
    *ret_why = NULL;
    fd = open(whole, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return errno;
    return read_line(fd, ret, ret_why);
}

LOOP_EXPORTED int abd_read_secret(const struct abd_instance *instance,
                                  const char *text, char **ret)
{
    const char *why = NULL;
    int err;

    if (strcmp(text, "-") == 0) {
        err = ask(instance, ret, &why);
    } else if (text[0] == '-') {
        err = read_descriptor(text + 1, ret, &why);
    } else if (text[0] == '+') {
        err = read_secret_file(instance, text + 1, ret, &why);
    } else {
        *ret = strdup(text);
        if (*ret)
            return 0;
        /* The text is the secret. */
        log_write(ABD_ERROR, scope_of(instance), "not enough memory");
        return ENOMEM;
    }
    if (err && why != logged)
        refuse(instance, text, why, err);
    return err;
}
