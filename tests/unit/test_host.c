/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What plugins call while they are configured, and what a person then reads. */
#include "tests/unit/loop_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <sys/stat.h>
#include <termios.h>

#include "abd-plugin.h"
#include "base/log.h"
#include "loop/host.h"

static const struct abd_instance instance = {.name = "plug"};
static char logged[8192];

/* Runs fn in a child, whose exit status is returned; logged: what it said. */
static int told(void (*fn)(void))
{
    return run_in_child(fn, logged, sizeof logged);
}

static bool says(const char *text)
{
    bool found = strstr(logged, text) != NULL;

    if (!found)
        print_error("expected \"%s\" in \"%s\"\n", text, logged);
    return found;
}

/* In the child: an assertion that ends it. */
static void must(bool condition, int line)
{
    if (condition)
        return;
    fprintf(stderr, "line %d\n", line);
    _exit(1);
}
#define MUST(condition) must(condition, __LINE__)

static void log_all(void)
{
    struct abd_disk disk = {.instance = (struct abd_instance *)&instance,
                            .export_name = "a\n\"b"};
    struct abd_disk plain = {.instance = (struct abd_instance *)&instance,
                             .export_name = ""};

    abd_log(&instance, NULL, ABD_ERROR, "first %d", 1);
    abd_log(&instance, &disk, ABD_WARNING, "second");
    abd_log(NULL, &disk, ABD_WARNING, "third");
    abd_log(NULL, &plain, ABD_INFO, "fourth");
    abd_log(NULL, NULL, ABD_INFO, "fifth");
    abd_log(&instance, NULL, ABD_DEBUG, "invisible");
    log_set_verbose(true);
    abd_log(&instance, NULL, ABD_DEBUG, "visible");
}

static void logs_under_the_name_of_instance_and_export(void **state)
{
    (void)state;
    assert_int_equal(told(log_all), 0);
    assert_true(says("plug: error: first 1\n") || says("plug: first 1\n"));
    assert_true(says("export \"a\\"));
    assert_true(says("second\n") && says("third\n"));
    assert_true(says("fourth\n") && says("fifth\n"));
    assert_null(strstr(logged, "invisible"));
    assert_true(says(": visible\n"));
}

static void parse_wrong(void)
{
    uint64_t number = 7;
    bool truth = true;

    MUST(abd_parse_size(&instance, "1Q", &number) != 0);
    MUST(abd_parse_size(&instance, "99999999999999999999", &number) != 0);
    MUST(abd_parse_bool(&instance, "perhaps", &truth) != 0);
    MUST(abd_parse_number(&instance, "11", 10, &number) != 0);
    MUST(abd_parse_delay(&instance, "1 week\n", &number) != 0);
    MUST(number == 7 && truth);
}

static void parse_right(void)
{
    uint64_t number = 0;
    bool truth = false;

    MUST(abd_parse_size(&instance, "1G", &number) == 0 && number == UINT64_C(1)
                                                                        << 30);
    MUST(abd_parse_bool(&instance, "yes", &truth) == 0 && truth);
    MUST(abd_parse_number(&instance, "0x10", 16, &number) == 0 && number == 16);
    MUST(abd_parse_delay(&instance, "64ms", &number) == 0 &&
         number == 64000000);
}

static void what_cannot_be_parsed_is_quoted_with_the_reason(void **state)
{
    (void)state;
    assert_int_equal(told(parse_right), 0);
    assert_string_equal(logged, "");
    assert_int_equal(told(parse_wrong), 0);
    assert_true(says("plug: "));
    assert_true(says("\"1Q\": "));
    assert_true(says("\"99999999999999999999\": "));
    assert_true(says("\"perhaps\": "));
    assert_true(says("\"11\": "));
    assert_true(says("\"1 week\\"));
}

static void look_for_paths(void)
{
    char *path = NULL;

    MUST(chdir("/usr") == 0);
    /* Without a remembered directory: the current one. */
    MUST(abd_absolute_path(&instance, "x", &path) == 0 &&
         strcmp(path, "/usr/x") == 0);
    free(path);
    MUST(host_remember_directory() == 0);
    MUST(chdir("/") == 0);
    MUST(abd_absolute_path(&instance, "a/../b", &path) == 0 &&
         strcmp(path, "/usr/a/../b") == 0);
    free(path);
    MUST(abd_absolute_path(&instance, "/etc/x", &path) == 0 &&
         strcmp(path, "/etc/x") == 0);
    free(path);
    MUST(host_remember_directory() == 0);
    MUST(abd_absolute_path(&instance, "x", &path) == 0 &&
         strcmp(path, "/x") == 0);
    free(path);
    path = NULL;
    MUST(abd_absolute_path(&instance, "", &path) == EINVAL && !path);
}

static void relative_paths_are_as_of_the_start(void **state)
{
    (void)state;
    assert_int_equal(told(look_for_paths), 0);
    assert_true(says("an empty path"));
}

static void be_nowhere(void)
{
    char directory[] = "/tmp/abdkit-test-XXXXXX";
    char *path = NULL;

    MUST(mkdtemp(directory) && chdir(directory) == 0 && rmdir(directory) == 0);
    MUST(host_remember_directory() == ENOENT);
    MUST(abd_absolute_path(&instance, "x", &path) == ENOENT && !path);
    MUST(abd_absolute_path(&instance, "/x", &path) == 0);
    free(path);
}

static void a_directory_that_is_gone_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(told(be_nowhere), 0);
    assert_true(says("\"x\": the current directory is gone"));
}

/* A file with this content; it is open at the returned descriptor only. */
static int file_with(const char *content, size_t length, char *path)
{
    int fd;

    strcpy(path, "/tmp/abdkit-test-XXXXXX");
    fd = mkstemp(path);
    MUST(fd >= 0 && write(fd, content, length) == (ssize_t)length &&
         lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

static void expect_secret(const char *text, const char *secret)
{
    char *read = NULL;

    MUST(abd_read_secret(&instance, text, &read) == 0);
    MUST(strcmp(read, secret) == 0);
    free(read);
}

static void expect_no_secret(const char *text, int error)
{
    char *read = NULL;

    MUST(abd_read_secret(&instance, text, &read) == error);
    MUST(!read);
}

static void read_secrets(void)
{
    char path[32];
    char text[64];
    int fds[2];
    int fd;

    expect_secret("plain", "plain");
    expect_secret("", "");
    fd = file_with("first\nsecond\n", 13, path);
    snprintf(text, sizeof text, "+%s", path);
    expect_secret(text, "first");
    MUST(host_remember_directory() == 0 && chdir("/tmp") == 0 &&
         host_remember_directory() == 0 && chdir("/") == 0);
    snprintf(text, sizeof text, "+%s", strrchr(path, '/') + 1);
    expect_secret(text, "first");
    snprintf(text, sizeof text, "-%d", fd);
    expect_secret(text, "first");
    MUST(fcntl(fd, F_GETFD) < 0);
    unlink(path);
    fd = file_with("", 0, path);
    snprintf(text, sizeof text, "-%d", fd);
    expect_secret(text, "");
    unlink(path);
    /* Without the end of a line, from something that is no file. */
    MUST(pipe(fds) == 0 && write(fds[1], "piped", 5) == 5 &&
         close(fds[1]) == 0);
    snprintf(text, sizeof text, "-%d", fds[0]);
    expect_secret(text, "piped");
}

static void secrets_come_from_text_file_and_descriptor(void **state)
{
    (void)state;
    assert_int_equal(told(read_secrets), 0);
    assert_string_equal(logged, "");
}

static void read_wrong_secrets(void)
{
    static char large[4097];
    char path[32];
    char text[64];
    int fd = open("/", O_RDONLY);

    MUST(fd >= 0 && dup2(open("/dev/null", O_RDONLY), 0) == 0);
    expect_no_secret("-", ENOTTY);
    expect_no_secret("-0", EINVAL);
    expect_no_secret("-2", EINVAL);
    expect_no_secret("-999", EBADF);
    expect_no_secret("-x", EINVAL);
    expect_no_secret("+", EINVAL);
    expect_no_secret("+/nonexistent/file", ENOENT);
    snprintf(text, sizeof text, "-%d", fd);
    expect_no_secret(text, EISDIR);
    memset(large, 'x', sizeof large);
    fd = file_with(large, sizeof large, path);
    snprintf(text, sizeof text, "-%d", fd);
    expect_no_secret(text, EINVAL);
    fd = open(path, O_RDWR);
    MUST(ftruncate(fd, 4096) == 0);
    close(fd);
    large[4096] = '\0';
    snprintf(text, sizeof text, "+%s", path);
    expect_secret(text, large);
    unlink(path);
}

static void wrong_secrets_are_refused_with_a_reason(void **state)
{
    (void)state;
    assert_int_equal(told(read_wrong_secrets), 0);
    assert_true(says("plug: "));
    assert_true(says("standard input is not a terminal"));
    assert_true(says("\"-2\": must not be standard input, output or error"));
    assert_true(says("\"-999\": is not an open file descriptor"));
    assert_true(says("\"+/nonexistent/file\": No such file or directory"));
    assert_true(says("Is a directory"));
    assert_true(says("longer than 4096 bytes"));
    assert_true(says("an empty path"));
}

static void read_from_terminal(void)
{
    struct termios mode;
    char echoed[64];
    ssize_t n;
    int terminal;
    int keyboard;

    MUST(openpty(&keyboard, &terminal, NULL, NULL, NULL) == 0 &&
         dup2(terminal, 0) == 0);
    /* Typed as soon as the prompt is there, which is after the echo is off:
     * so the prompt goes through a pipe to a child that types. */
    {
        int prompt[2];

        MUST(pipe(prompt) == 0);
        if (fork() == 0) {
            MUST(read(prompt[0], echoed, 1) == 1 &&
                 write(keyboard, "hidden\n", 7) == 7);
            _exit(0);
        }
        MUST(dup2(prompt[1], 2) == 2);
    }
    expect_secret("-", "hidden");
    MUST(tcgetattr(0, &mode) == 0 && (mode.c_lflag & ECHO));
    /* Of what was typed nothing came back. */
    MUST(fcntl(keyboard, F_SETFL, O_NONBLOCK) == 0);
    n = read(keyboard, echoed, sizeof echoed - 1);
    echoed[n > 0 ? n : 0] = '\0';
    MUST(!strstr(echoed, "hidden"));
}

static void a_terminal_is_asked_without_echo(void **state)
{
    (void)state;
    assert_int_equal(told(read_from_terminal), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logs_under_the_name_of_instance_and_export),
        cmocka_unit_test(what_cannot_be_parsed_is_quoted_with_the_reason),
        cmocka_unit_test(relative_paths_are_as_of_the_start),
        cmocka_unit_test(a_directory_that_is_gone_is_an_error),
        cmocka_unit_test(secrets_come_from_text_file_and_descriptor),
        cmocka_unit_test(wrong_secrets_are_refused_with_a_reason),
        cmocka_unit_test(a_terminal_is_asked_without_echo),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
