/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The command line: spellings, values, what goes together, and that each
 * message names what was wrong. */
#include "server/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "captured.h"
#include "server/settings.h"
#include "server/suggest.h"

static struct options options;

/* Parses words separated by blanks. */
static int parse(const char *line)
{
    static char copy[1024];
    char *argv[64] = {(char[]){"abdkit"}};
    int argc = 1;

    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    return options_parse(argc, argv, &options);
}

static void assert_parsed(const char *line)
{
    if (parse(line) != 0)
        fail_msg("refused: %s", line);
}

/* The message must have all of the texts (end: NULL). */
static void assert_refused(const char *line, ...)
{
    struct capture capture;
    const char *said;
    va_list texts;
    int err;

    capture_start(&capture);
    err = parse(line);
    said = capture_end(&capture);
    if (!err)
        fail_msg("accepted: %s", line);
    va_start(texts, line);
    for (const char *text; (text = va_arg(texts, const char *)) != NULL;)
        if (!strstr(said, text))
            fail_msg("%s: no \"%s\" in: %s", line, text, said);
    va_end(texts);
}

static void has_the_documented_defaults(void **state)
{
    (void)state;
    assert_parsed("null");
    assert_string_equal(options.plugin, "null");
    assert_true(options.tcp);
    assert_int_equal(options.family, AF_UNSPEC);
    assert_false(options.foreground);
    assert_int_equal(settings.memory, 80 << 20);
    assert_int_equal(settings.max_connections, 100);
    assert_int_equal(settings.work_threads, 16);
    assert_int_equal(settings.threads, 16);
    assert_true(settings.loops >= 1 && settings.loops <= 4);
    assert_int_equal(settings.handshake_timeout_ns, 10000000000);
    assert_int_equal(settings.drain_timeout_ns, 30000000000);
    assert_int_equal(settings.mask_handshake, UINT32_MAX);
    assert_string_equal(settings.export_name, "");
}

static void every_spelling_means_the_same(void **state)
{
    static const char *const readonly[] = {"-r", "--readonly", "--read-only"};
    static const char *const single[] = {"-s", "--single", "--stdin"};
    static const char *const oldstyle[] = {"-o", "--oldstyle", "--old-style"};
    static const char *const newstyle[] = {"-n", "--newstyle", "--new-style"};
    static const char *const export[] = {"-e x", "--export x",
                                         "--export-name=x", "--exportname=x"};
    char line[64];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        snprintf(line, sizeof line, "%s null", readonly[i]);
        assert_parsed(line);
        assert_true(settings.read_only);
        snprintf(line, sizeof line, "%s null", single[i]);
        assert_parsed(line);
        assert_true(options.single && options.foreground && !options.tcp);
        snprintf(line, sizeof line, "%s null", oldstyle[i]);
        assert_parsed(line);
        assert_true(settings.oldstyle);
        snprintf(line, sizeof line, "-o %s null", newstyle[i]);
        assert_parsed(line);
        assert_false(settings.oldstyle);
    }
    for (unsigned i = 0; i < 4; i++) {
        snprintf(line, sizeof line, "%s null", export[i]);
        assert_parsed(line);
        assert_string_equal(settings.export_name, "x");
    }
}

static void options_may_stand_behind_the_plugin(void **state)
{
    (void)state;
    assert_parsed("-f null a=1 -r b --memory 1G -- -c");
    assert_string_equal(options.plugin, "null");
    assert_int_equal(options.parameters.n, 3);
    assert_string_equal(options.parameters.at[0], "a=1");
    assert_string_equal(options.parameters.at[1], "b");
    assert_string_equal(options.parameters.at[2], "-c");
    assert_true(settings.read_only);
    assert_int_equal(settings.memory, 1 << 30);
}

static void lists_keep_their_order(void **state)
{
    (void)state;
    assert_parsed(
        "--filter a --filter=b --plugin-path /x::/y --plugin-path z null");
    assert_int_equal(options.filters.n, 2);
    assert_string_equal(options.filters.at[0], "a");
    assert_string_equal(options.filters.at[1], "b");
    assert_int_equal(options.plugin_path.n, 3);
    assert_string_equal(options.plugin_path.at[0], "/x");
    assert_string_equal(options.plugin_path.at[1], "/y");
    assert_int_equal(options.plugin_path.at[2][0], '/');
    assert_null(options.plugin_path.at[3]);
}

static void paths_become_absolute(void **state)
{
    (void)state;
    assert_parsed("-U sock -P run/pid --status st null");
    assert_int_equal(options.unix_path[0], '/');
    assert_non_null(strstr(options.unix_path, "/sock"));
    assert_non_null(strstr(options.pidfile, "/run/pid"));
    assert_int_equal(settings.status_path[0], '/');
    assert_parsed("-U - null");
    assert_string_equal(options.unix_path, "-");
}

static void values_out_of_range_name_the_range(void **state)
{
    (void)state;
    assert_refused("--memory 3M null", "--memory", "\"3M\"", "4M", NULL);
    assert_refused("--memory 2T null", "1T", NULL);
    assert_refused("--memory x null", "--memory", "\"x\"", NULL);
    assert_refused("--loops 0 null", "--loops", "from 1 to 64", NULL);
    assert_refused("--loops 65 null", "from 1 to 64", NULL);
    assert_refused("--max-connections 0 null", "--max-connections", NULL);
    assert_refused("--work-threads -1 null", "--work-threads", NULL);
    assert_refused("-t 0 null", "--threads", NULL);
    assert_refused("--handshake-timeout 1y null", "--handshake-timeout", "1y",
                   NULL);
    assert_refused("--mask-handshake 0x100000000 null", "--mask-handshake",
                   NULL);
    assert_refused("--log x null", "stderr, syslog and null", NULL);
    assert_refused("-p 65536 null", "-p 65536", NULL);
    assert_refused("--vsock -p 4294967295 null", "4294967294", NULL);
    assert_parsed("--memory 4M --loops 64 --mask-handshake 0xffffffff null");
    assert_parsed("--vsock -p 4294967294 null");
    assert_parsed("-p 65535 null");
}

static void unknown_options_are_named(void **state)
{
    (void)state;
    assert_refused("--memroy=5M null", "--memroy", "did you mean --memory?",
                   NULL);
    assert_refused("--frobnicate null", "\"--frobnicate\"", "--help", NULL);
    assert_refused("-Z null", "\"-Z\"", NULL);
    assert_refused("-rZ null", "\"-Z\"", NULL);
    assert_refused("--verbose=1 null", "--verbose takes no value", NULL);
    assert_refused("null -p", "-p needs a value", NULL);
    assert_refused("null --port", "--port needs a value", NULL);
    assert_refused("--ex null", "--export", "--exit-with-parent", NULL);
    assert_refused("", "which plugin?", NULL);
    assert_parsed("--verb null");
}

static void what_is_not_built_in_says_so(void **state)
{
    (void)state;
    assert_refused("--tls on null", "TLS is not built", NULL);
    assert_refused("--tls=require null", "TLS is not built", NULL);
    assert_refused("--tls maybe null", "off, on and require", NULL);
    assert_refused("--tls-certificates x null", "TLS", NULL);
    assert_refused("--tls-psk x null", "TLS", NULL);
    assert_refused("--tls-verify-peer null", "TLS", NULL);
    assert_refused("--selinux-label x null", "SELinux", NULL);
    assert_parsed("--tls=off null");
}

static void listeners_can_be_combined(void **state)
{
    (void)state;
    assert_parsed("-U x null");
    assert_false(options.tcp);
    assert_parsed("-U x -p 1 null");
    assert_true(options.tcp);
    assert_parsed("-U x -i ::1 null");
    assert_true(options.tcp);
    assert_parsed("--vsock -p 1 null");
    assert_false(options.tcp);
    assert_parsed("--vsock -i 127.0.0.1 null");
    assert_true(options.tcp);
    assert_parsed("-4 -6 null");
    assert_int_equal(options.family, AF_INET6);
    assert_refused("-s -U x null", "-s", "-U", NULL);
    assert_refused("-s -p 1 null", "-p", NULL);
    assert_refused("-s --vsock null", "--vsock", NULL);
    assert_refused("-s --run true null", "--run", NULL);
    assert_refused("-s --print-uri null", "--print-uri", NULL);
}

static void a_superserver_excludes_all_else(void **state)
{
    char pid[32];

    (void)state;
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    setenv("LISTEN_FDS", "2", 1);
    setenv("LISTEN_PID", "1", 1);
    assert_parsed("null");
    assert_int_equal(options.activated, 0);
    setenv("LISTEN_PID", pid, 1);
    assert_parsed("null");
    assert_int_equal(options.activated, 2);
    assert_true(options.foreground && !options.tcp);
    assert_null(getenv("LISTEN_FDS"));
    static const char *const lines[] = {
        "-U x null",    "-p 1 null",       "-i ::1 null",     "-s null",
        "--vsock null", "--run true null", "--print-uri null"};
    for (unsigned i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        setenv("LISTEN_FDS", "1", 1);
        setenv("LISTEN_PID", pid, 1);
        assert_refused(lines[i], "LISTEN_FDS", "cannot be combined", NULL);
    }
    setenv("LISTEN_FDS", "0", 1);
    setenv("LISTEN_PID", pid, 1);
    assert_refused("null", "LISTEN_FDS", NULL);
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_PID");
}

static void debug_flags_are_checked(void **state)
{
    (void)state;
    assert_parsed("-D memory.x=1 -D server.requests=1 null");
    assert_int_equal(options.debug_flags.n, 1);
    assert_string_equal(options.debug_flags.at[0], "memory.x=1");
    assert_int_equal(settings.debug_requests, 1);
    assert_refused("-D x null", "NAME.FLAG=N", NULL);
    assert_refused("-D .x=1 null", "NAME.FLAG=N", NULL);
    assert_refused("-D x.=1 null", "NAME.FLAG=N", NULL);
    assert_refused("-D x.y=z null", "x.y=z", NULL);
    assert_refused("-D server.y=1 null", "server.requests", NULL);
}

static void finds_the_closest_word(void **state)
{
    struct suggestion suggestion = {.word = "memroy"};

    (void)state;
    assert_int_equal(suggest_distance("memroy", "memory", 3), 1);
    assert_int_equal(suggest_distance("abc", "abc", 3), 0);
    assert_int_equal(suggest_distance("abc", "", 5), 3);
    assert_int_equal(suggest_distance("kitten", "sitting", 5), 3);
    assert_int_equal(suggest_distance("abc", "xyz", 1), 2);
    suggest_consider(&suggestion, "unix");
    assert_null(suggestion.best);
    suggest_consider(&suggestion, "memo");
    suggest_consider(&suggestion, "memory");
    suggest_consider(&suggestion, "memroyed");
    assert_string_equal(suggestion.best, "memory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_the_documented_defaults),
        cmocka_unit_test(every_spelling_means_the_same),
        cmocka_unit_test(options_may_stand_behind_the_plugin),
        cmocka_unit_test(lists_keep_their_order),
        cmocka_unit_test(paths_become_absolute),
        cmocka_unit_test(values_out_of_range_name_the_range),
        cmocka_unit_test(unknown_options_are_named),
        cmocka_unit_test(what_is_not_built_in_says_so),
        cmocka_unit_test(listeners_can_be_combined),
        cmocka_unit_test(a_superserver_excludes_all_else),
        cmocka_unit_test(debug_flags_are_checked),
        cmocka_unit_test(finds_the_closest_word),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
