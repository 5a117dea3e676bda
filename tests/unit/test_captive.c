/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* --run: the URI, the command's variables, signals and exit status. */
#include "server/captive.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "captured.h"
#include "server/uri.h"

/* No command here takes that long. */
#define LONG_MS 20000

/* Runs it to its end; returns the status and all that it wrote to stderr. */
static int run(const char *command, const struct captive_variables *variables,
               struct capture *capture)
{
    struct captive captive = {.pidfd = -1};
    int status;

    capture_start(capture);
    assert_int_equal(captive_start(command, variables, &captive), 0);
    status = captive_finish(&captive, LONG_MS);
    capture_end(capture);
    assert_int_equal(captive.pidfd, -1);
    return status;
}

static const struct captive_variables nothing = {
    .uri = "", .unix_path = "", .export_name = ""};

static void uris_are_as_the_nbd_project_defines_them(void **state)
{
    static const struct {
        struct uri_parts parts;
        const char *uri;
    } cases[] = {
        {{.tcp_port = 10809, .export_name = ""}, "nbd://localhost:10809/"},
        {{.host = "::", .tcp_port = 1, .export_name = "a"},
         "nbd://localhost:1/a"},
        {{.host = "0.0.0.0", .tcp_port = 1, .export_name = "a"},
         "nbd://localhost:1/a"},
        {{.host = "::1", .tcp_port = 1, .export_name = ""}, "nbd://[::1]:1/"},
        {{.host = "h.example", .tcp_port = 1, .export_name = "a b?/%'\xc3\xa9"},
         "nbd://h.example:1/a%20b%3F%2F%25%27%C3%A9"},
        {{.vsock_port = 5, .export_name = ""}, "nbd+vsock://1:5/"},
        {{.unix_path = "/a b/s", .tcp_port = 1, .export_name = "x"},
         "nbd+unix:///x?socket=/a%20b/s"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *uri = uri_make(&cases[i].parts);

        assert_string_equal(uri, cases[i].uri);
        free(uri);
    }
}

static void the_command_has_its_variables_unharmed(void **state)
{
    const struct captive_variables variables = {
        .uri = "nbd://x/?a=*&b",
        .unix_path = "/tmp/it's $HOME `id`\\",
        .export_name = "''\n\"",
        .port = 10809,
    };
    struct capture capture;

    (void)state;
    setenv("tls", "2", 1);
    assert_int_equal(run("printf '<%s>' \"$uri\" \"$nbd\" \"$unixsocket\" "
                         "\"$port\" \"$exportname\" \"${tls-unset}\" >&2",
                         &variables, &capture),
                     0);
    unsetenv("tls");
    assert_string_equal(capture.text,
                        "<nbd://x/?a=*&b><nbd://x/?a=*&b>"
                        "</tmp/it's $HOME `id`\\><10809><''\n\"><unset>");
    assert_int_equal(run("printf '<%s>' \"$port\" >&2", &nothing, &capture), 0);
    assert_string_equal(capture.text, "<>");
}

static void the_exit_status_is_the_commands(void **state)
{
    struct capture capture;

    (void)state;
    assert_int_equal(run("exit 0", &nothing, &capture), 0);
    assert_int_equal(run("exit 77", &nothing, &capture), 77);
    assert_string_equal(capture.text, "");
    assert_int_equal(run("kill -9 $$", &nothing, &capture), 128 + 9);
    assert_non_null(strstr(capture.text, "signal 9"));
    assert_int_equal(run("no-such-command 2>&-", &nothing, &capture), 127);
}

static void the_command_can_be_asked_to_end(void **state)
{
    struct captive captive;
    struct capture capture;
    sigset_t term, before;

    (void)state;
    /* As in the server, which waits for signals by other means. */
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, &before);
    signal(SIGPIPE, SIG_IGN);
    capture_start(&capture);
    assert_int_equal(captive_start("exec sleep 60", &nothing, &captive), 0);
    assert_int_equal(captive_finish(&captive, 0), -1);
    captive_terminate(&captive);
    assert_int_equal(captive_finish(&captive, LONG_MS), 128 + SIGTERM);
    capture_end(&capture);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

static void the_command_has_ordinary_signals(void **state)
{
    struct capture capture;
    unsigned long long blocked, ignored;
    sigset_t term, before;

    (void)state;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, &before);
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(
        run("grep -E 'Sig(Blk|Ign)' /proc/self/status >&2", &nothing, &capture),
        0);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &before, NULL);
    assert_int_equal(
        sscanf(capture.text, "SigBlk: %llx SigIgn: %llx", &blocked, &ignored),
        2);
    assert_int_equal(blocked, 0);
    assert_int_equal(ignored & 1ULL << (SIGPIPE - 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uris_are_as_the_nbd_project_defines_them),
        cmocka_unit_test(the_command_has_its_variables_unharmed),
        cmocka_unit_test(the_exit_status_is_the_commands),
        cmocka_unit_test(the_command_can_be_asked_to_end),
        cmocka_unit_test(the_command_has_ordinary_signals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
