/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The log: what a line looks like, what is dropped, that nothing a stranger
 * sends forges a line, and that lines of many threads are not torn.
 *
 * Standard error is a pipe while a message is written.  syslog() is this file's
 * own, so that what would be sent can be looked at, and the log is compiled
 * into this file, so that its write can be interrupted and cut short. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include <cmocka.h>

static unsigned write_interrupts; /* so many calls fail first */
static size_t write_at_most;      /* bytes in one call; 0: all */

static ssize_t obstructed_write(int fd, const void *data, size_t length)
{
    if (write_interrupts > 0) {
        write_interrupts--;
        errno = EINTR;
        return -1;
    }
    if (write_at_most > 0 && length > write_at_most)
        length = write_at_most;
    return write(fd, data, length);
}

#define write obstructed_write
#include "common/base/log.c"
#undef write

static char syslog_ident[64], syslog_text[8192];
static int syslog_priority, syslog_calls;

/* In front of the C library's, and in front of its checked variant, which
 * _FORTIFY_SOURCE would call. */
void openlog(const char *ident, int option, int facility)
{
    (void)option;
    (void)facility;
    snprintf(syslog_ident, sizeof syslog_ident, "%s", ident);
}

__attribute__((format(printf, 2, 3))) void syslog(int priority,
                                                  const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(syslog_text, sizeof syslog_text, format, args);
    va_end(args);
    syslog_priority = priority;
    syslog_calls++;
}

void __syslog_chk(int priority, int flag, const char *format, ...);
__attribute__((format(printf, 3, 4))) void __syslog_chk(int priority, int flag,
                                                        const char *format, ...)
{
    va_list args;

    (void)flag;
    va_start(args, format);
    vsnprintf(syslog_text, sizeof syslog_text, format, args);
    va_end(args);
    syslog_priority = priority;
    syslog_calls++;
}

static int real_stderr, pipe_end;
static char captured[65536];

static void capture(void)
{
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    real_stderr = dup(STDERR_FILENO);
    assert_true(real_stderr >= 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    close(ends[1]);
    pipe_end = ends[0];
}

/* Returns what has been written since capture(). */
static const char *end_capture(void)
{
    size_t length = 0;
    ssize_t got;

    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    while ((got = read(pipe_end, captured + length,
                       sizeof captured - 1 - length)) > 0)
        length += (size_t)got;
    close(pipe_end);
    captured[length] = '\0';
    return captured;
}

static int defaults(void **state)
{
    (void)state;
    log_open(LOG_TO_STDERR, "abdkit");
    log_set_verbose(false);
    syslog_calls = 0;
    return 0;
}

/* Must be the first test: it looks at what is before log_open(). */
static void writes_to_stderr_before_it_is_opened(void **state)
{
    (void)state;
    capture();
    log_write(ABD_ERROR, NULL, "early");
    log_write(ABD_INFO, "memory", "early");
    log_write(ABD_DEBUG, NULL, "dropped");
    assert_string_equal(end_capture(), "error: early\nmemory: early\n");
}

static void a_line_names_program_scope_and_level(void **state)
{
    (void)state;
    capture();
    log_write(ABD_ERROR, "file", "open %s: %s", "/x", "no");
    log_write(ABD_WARNING, "file", "slow");
    log_write(ABD_INFO, "file", "ready");
    log_write(ABD_ERROR, NULL, "%d", 42);
    log_write(ABD_ERROR, "", "no scope");
    assert_string_equal(end_capture(), "abdkit: file: error: open /x: no\n"
                                       "abdkit: file: warning: slow\n"
                                       "abdkit: file: ready\n"
                                       "abdkit: error: 42\n"
                                       "abdkit: error: no scope\n");
}

static void debug_messages_need_verbose(void **state)
{
    (void)state;
    assert_false(log_is_verbose());
    capture();
    log_write(ABD_DEBUG, "loop", "dropped");
    log_set_verbose(true);
    assert_true(log_is_verbose());
    log_write(ABD_DEBUG, "loop", "kept");
    log_set_verbose(false);
    log_write(ABD_DEBUG, "loop", "dropped");
    assert_string_equal(end_capture(), "abdkit: loop: debug: kept\n");
}

static void strangers_cannot_forge_a_line(void **state)
{
    (void)state;
    capture();
    log_write(ABD_INFO, "export \"a\nb\"", "%s",
              "x\nabdkit: error: fake\r\x1b[2J\x7f\xc2\x9b\xff gr\xc3\xbc");
    assert_string_equal(end_capture(),
                        "abdkit: export \"a\\x0ab\": "
                        "x\\x0aabdkit: error: fake\\x0d\\x1b[2J\\x7f\\xc2\\x9b"
                        "\\xff gr\xc3\xbc\n");
}

static void assert_cut_line(const char *line)
{
    size_t length = strlen(line);

    assert_in_range(length, PIPE_BUF - 8, PIPE_BUF);
    assert_string_equal(line + length - 4, "...\n");
    assert_ptr_equal(strchr(line, '\n'), line + length - 1);
    assert_true(text_is_utf8(line, length));
}

static void a_long_line_is_cut_between_characters(void **state)
{
    static char text[3 * PIPE_BUF + 1];

    (void)state;
    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'x', shift);
        for (size_t i = shift; i + 3 < sizeof text; i += 3)
            memcpy(text + i, "\xe2\x82\xac", 3);
        capture();
        log_write(ABD_ERROR, "scope", "%s", text);
        assert_cut_line(end_capture());
    }
    memset(text, '\x01', sizeof text - 1);
    capture();
    log_write(ABD_ERROR, "scope", "%s", text);
    assert_cut_line(end_capture());
    capture();
    log_write(ABD_ERROR, text, "%s", "scope too long");
    assert_cut_line(end_capture());
}

static void a_line_that_just_fits_is_not_cut(void **state)
{
    static const char prefix[] = "abdkit: ";
    static char text[PIPE_BUF];
    size_t fits = PIPE_BUF - strlen("...\n") - strlen(prefix);

    (void)state;
    memset(text, 'x', sizeof text);
    text[fits] = '\0';
    capture();
    log_write(ABD_INFO, NULL, "%s", text);
    end_capture();
    assert_int_equal(strlen(captured), strlen(prefix) + fits + 1);
    assert_memory_equal(captured + strlen(prefix), text, fits);
    text[fits] = 'x';
    text[fits + 1] = '\0';
    capture();
    log_write(ABD_INFO, NULL, "%s", text);
    assert_cut_line(end_capture());
}

static void errno_survives(void **state)
{
    (void)state;
    capture();
    errno = ENOENT;
    log_write(ABD_ERROR, NULL, "open: %s", strerror(errno));
    assert_int_equal(errno, ENOENT);
    assert_string_equal(end_capture(),
                        "abdkit: error: open: No such file or directory\n");
}

static void a_line_survives_signals_and_short_writes(void **state)
{
    (void)state;
    capture();
    write_interrupts = 3;
    write_at_most = 1;
    errno = EDOM;
    log_write(ABD_ERROR, "loop", "whole");
    write_at_most = 0;
    assert_int_equal(errno, EDOM);
    assert_int_equal(write_interrupts, 0);
    assert_string_equal(end_capture(), "abdkit: loop: error: whole\n");
}

static void a_text_that_cannot_be_formatted_shows_its_format(void **state)
{
    (void)state;
    capture();
    /* No wide character above 127 has bytes in the C locale. */
    log_write(ABD_ERROR, NULL, "name %ls", L"\x20ac");
    assert_string_equal(end_capture(), "abdkit: error: name %ls\n");
}

static void a_closed_stderr_is_no_catastrophe(void **state)
{
    int saved = dup(STDERR_FILENO);

    (void)state;
    assert_true(saved >= 0);
    close(STDERR_FILENO);
    errno = EDOM;
    log_write(ABD_ERROR, NULL, "nobody reads this");
    assert_int_equal(errno, EDOM);
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    close(saved);
}

static void to_syslog_go_priority_and_text(void **state)
{
    (void)state;
    log_open(LOG_TO_SYSLOG, "abdkit");
    assert_string_equal(syslog_ident, "abdkit");
    capture();
    log_write(ABD_ERROR, "file", "100%% of %s", "%s\n");
    assert_string_equal(syslog_text, "file: error: 100% of %s\\x0a");
    assert_int_equal(syslog_priority, LOG_ERR);
    log_write(ABD_WARNING, NULL, "w");
    assert_string_equal(syslog_text, "warning: w");
    assert_int_equal(syslog_priority, LOG_WARNING);
    log_write(ABD_INFO, NULL, "i");
    assert_string_equal(syslog_text, "i");
    assert_int_equal(syslog_priority, LOG_INFO);
    log_write(ABD_DEBUG, NULL, "d");
    assert_int_equal(syslog_calls, 3);
    log_set_verbose(true);
    log_write(ABD_DEBUG, NULL, "d");
    assert_string_equal(syslog_text, "debug: d");
    assert_int_equal(syslog_priority, LOG_DEBUG);
    assert_int_equal(syslog_calls, 4);
    assert_string_equal(end_capture(), "");
}

static void to_null_goes_nothing(void **state)
{
    (void)state;
    log_open(LOG_TO_NULL, "abdkit");
    capture();
    log_write(ABD_ERROR, NULL, "nothing");
    assert_string_equal(end_capture(), "");
    assert_int_equal(syslog_calls, 0);
}

enum { THREADS = 4, LINES = 400, LINE_LENGTH = 3000 };

static void *write_lines(void *argument)
{
    char text[LINE_LENGTH + 1];

    memset(text, *(const char *)argument, LINE_LENGTH);
    text[LINE_LENGTH] = '\0';
    for (unsigned i = 0; i < LINES; i++)
        log_write(ABD_INFO, NULL, "%s", text);
    return NULL;
}

/* The line is the prefix and LINE_LENGTH times the same letter. */
static bool is_whole(const char *line, size_t length)
{
    static const char prefix[] = "abdkit: ";
    size_t start = strlen(prefix);

    if (length != start + LINE_LENGTH || memcmp(line, prefix, start) != 0)
        return false;
    for (size_t i = start; i < length; i++) {
        if (line[i] != line[start])
            return false;
    }
    return line[start] >= 'a' && line[start] < 'a' + THREADS;
}

static void lines_of_many_threads_are_not_torn(void **state)
{
    static char letters[THREADS];
    unsigned seen[THREADS] = {0}, torn = 0;
    pthread_t threads[THREADS];
    ssize_t length;
    size_t size = 0;
    char *text = NULL;
    FILE *reader;

    (void)state;
    capture();
    reader = fdopen(dup(pipe_end), "r");
    assert_non_null(reader);
    for (int i = 0; i < THREADS; i++) {
        letters[i] = (char)('a' + i);
        assert_int_equal(
            pthread_create(&threads[i], NULL, write_lines, &letters[i]), 0);
    }
    for (unsigned i = 0; i < THREADS * LINES; i++) {
        length = getline(&text, &size, reader);
        if (length > 0 && is_whole(text, (size_t)length - 1))
            seen[text[strlen("abdkit: ")] - 'a']++;
        else
            torn++;
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    fclose(reader);
    free(text);
    assert_string_equal(end_capture(), "");
    assert_int_equal(torn, 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(seen[i], LINES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_to_stderr_before_it_is_opened),
        cmocka_unit_test_setup(a_line_names_program_scope_and_level, defaults),
        cmocka_unit_test_setup(debug_messages_need_verbose, defaults),
        cmocka_unit_test_setup(strangers_cannot_forge_a_line, defaults),
        cmocka_unit_test_setup(a_long_line_is_cut_between_characters, defaults),
        cmocka_unit_test_setup(a_line_that_just_fits_is_not_cut, defaults),
        cmocka_unit_test_setup(errno_survives, defaults),
        cmocka_unit_test_setup(a_line_survives_signals_and_short_writes,
                               defaults),
        cmocka_unit_test_setup(a_text_that_cannot_be_formatted_shows_its_format,
                               defaults),
        cmocka_unit_test_setup(a_closed_stderr_is_no_catastrophe, defaults),
        cmocka_unit_test_setup(to_syslog_go_priority_and_text, defaults),
        cmocka_unit_test_setup(to_null_goes_nothing, defaults),
        cmocka_unit_test_setup(lines_of_many_threads_are_not_torn, defaults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
