/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The command line.
 *
 * One table says of each option how it is spelled, what takes its value and
 * what is allowed; getopt_long() finds the row.  As with nbdkit, options may
 * stand behind the plugin's name, too, until a "--".  Main thread, once. */
#include "server/options.h"

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "abd-loop.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "loop/loop.h"
#include "server/limits.h"
#include "server/option_check.h"
#include "server/option_values.h"
#include "server/settings.h"
#include "server/suggest.h"

struct settings settings;

/* What getopt_long() returns for the option of a row, beside its letter. */
#define ROW_BASE 256

/* The one that is being filled in; its address is in the table. */
static struct options parsed;

static const struct option_row rows[] = {
    {"ipv4-only", '4', ALONE, option_family, &parsed.family, AF_INET, 0},
    {"ipv6-only", '6', ALONE, option_family, &parsed.family, AF_INET6, 0},
    {"debug", 'D', VALUE, option_debug, &parsed.debug_flags, 0, 0},
    {"drain-timeout", 0, VALUE, option_delay, &settings.drain_timeout_ns, 0, 0},
    {"dump-config", 0, ALONE, option_action, &parsed, ACTION_DUMP_CONFIG, 0},
    {"dump-plugin", 0, ALONE, option_action, &parsed, ACTION_DUMP_PLUGIN, 0},
    {"exit-with-parent", 0, ALONE, option_true, &parsed.exit_with_parent, 0, 0},
    {"export", 0, VALUE, option_export_name, &settings.export_name, 0, 0},
    {"export-name", 'e', VALUE, option_export_name, &settings.export_name, 0,
     0},
    {"exportname", 0, VALUE, option_export_name, &settings.export_name, 0, 0},
    {"filter", 0, VALUE, option_append, &parsed.filters, 0, 0},
    {"filter-path", 0, VALUE, option_folders, &parsed.filter_path, 0, 0},
    {"foreground", 'f', ALONE, option_true, &parsed.foreground, 0, 0},
    {"no-fork", 0, ALONE, option_true, &parsed.foreground, 0, 0},
    {"group", 'g', VALUE, option_text, &parsed.group, 0, 0},
    {"handshake-timeout", 0, VALUE, option_delay,
     &settings.handshake_timeout_ns, 0, 0},
    {"help", 0, ALONE, option_action, &parsed, ACTION_HELP, 0},
    {"ip-addr", 0, VALUE, option_text, &parsed.ip_address, 0, 0},
    {"ipaddr", 'i', VALUE, option_text, &parsed.ip_address, 0, 0},
    {"keepalive", 0, ALONE, option_true, &settings.keepalive, 0, 0},
    {"log", 0, VALUE, option_log, &parsed, 0, 0},
    {"long-options", 0, ALONE, option_action, &parsed, ACTION_LONG_OPTIONS, 0},
    {"loops", 0, VALUE, option_number, &settings.loops, 1, LOOPS_MAX},
    {"mask-handshake", 0, VALUE, option_number, &settings.mask_handshake, 0,
     UINT32_MAX},
    {"max-connections", 0, VALUE, option_number, &settings.max_connections, 1,
     1000000},
    {"memory", 0, VALUE, option_size, &settings.memory, 4 * MIB,
     UINT64_C(1) << 40},
    {"new-style", 0, ALONE, option_false, &settings.oldstyle, 0, 0},
    {"newstyle", 'n', ALONE, option_false, &settings.oldstyle, 0, 0},
    {"no-sr", 0, ALONE, option_true, &settings.no_structured, 0, 0},
    {"old-style", 0, ALONE, option_true, &settings.oldstyle, 0, 0},
    {"oldstyle", 'o', ALONE, option_true, &settings.oldstyle, 0, 0},
    {"pid-file", 0, VALUE, option_path, &parsed.pidfile, 0, 0},
    {"pidfile", 'P', VALUE, option_path, &parsed.pidfile, 0, 0},
    {"plugin-path", 0, VALUE, option_folders, &parsed.plugin_path, 0, 0},
    {"port", 'p', VALUE, option_text, &parsed.port, 0, 0},
    {"print-uri", 0, ALONE, option_true, &parsed.print_uri, 0, 0},
    {"read-only", 0, ALONE, option_true, &settings.read_only, 0, 0},
    {"readonly", 'r', ALONE, option_true, &settings.read_only, 0, 0},
    {"run", 0, VALUE, option_text, &parsed.run, 0, 0},
    {"selinux-label", 0, VALUE, option_not_built_in, NULL, 0, 0, "SELinux"},
    {"short-options", 0, ALONE, option_action, &parsed, ACTION_SHORT_OPTIONS,
     0},
    {"single", 's', ALONE, option_true, &parsed.single, 0, 0},
    {"status", 0, VALUE, option_path, &settings.status_path, 0, 0},
    {"status-of", 0, VALUE, option_status_of, &parsed, 0, 0},
    {"stdin", 0, ALONE, option_true, &parsed.single, 0, 0},
    {"swap", 0, ALONE, option_true, &parsed.swap, 0, 0},
    {"threads", 't', VALUE, option_number, &settings.threads, 1, 65536},
    {"timeout", 0, VALUE, option_delay, &settings.handshake_timeout_ns, 0, 0},
    {"tls", 0, VALUE, option_tls, NULL, 0, 0},
    {"tls-certificates", 0, VALUE, option_not_built_in, NULL, 0, 0, "TLS"},
    {"tls-psk", 0, VALUE, option_not_built_in, NULL, 0, 0, "TLS"},
    {"tls-verify-peer", 0, ALONE, option_not_built_in, NULL, 0, 0, "TLS"},
    {"unix", 'U', VALUE, option_unix, &parsed.unix_path, 0, 0},
    {"user", 'u', VALUE, option_text, &parsed.user, 0, 0},
    {"verbose", 'v', ALONE, option_verbose, NULL, 0, 0},
    {"version", 'V', ALONE, option_action, &parsed, ACTION_VERSION, 0},
    {"vsock", 0, ALONE, option_true, &parsed.vsock, 0, 0},
    {"work-threads", 0, VALUE, option_number, &settings.work_threads, 1, 1024},
};
#define ROWS (sizeof rows / sizeof rows[0])

static bool is_hidden(const struct option_row *row)
{
    return strcmp(row->name, "long-options") == 0 ||
           strcmp(row->name, "short-options") == 0;
}

void options_print_long(void)
{
    for (size_t i = 0; i < ROWS; i++)
        if (!is_hidden(&rows[i]))
            printf("--%s\n", rows[i].name);
}

void options_print_short(void)
{
    for (size_t i = 0; i < ROWS; i++)
        if (rows[i].letter)
            printf("-%c\n", rows[i].letter);
}

static unsigned default_loops(void)
{
    cpu_set_t cpus;
    int n =
        sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;

    return n < 1 ? 1 : n > 4 ? 4 : (unsigned)n;
}

static void set_defaults(void)
{
    struct strings *const lists[] = {&parsed.filters, &parsed.parameters,
                                     &parsed.debug_flags, &parsed.plugin_path,
                                     &parsed.filter_path};

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        free(lists[i]->at);
    option_values_forget();
    parsed = (struct options){.family = AF_UNSPEC};
    settings = (struct settings){
        .loops = default_loops(),
        .threads = 16,
        .work_threads = 16,
        .memory = 80 * MIB,
        .max_connections = 100,
        .export_name = "",
        .mask_handshake = UINT32_MAX,
        .handshake_timeout_ns = 10 * SECOND,
        .drain_timeout_ns = 30 * SECOND,
    };
}

static int refuse_abbreviation(const char *name)
{
    size_t length = strcspn(name, "=");
    char list[512] = "";
    size_t used = 0;

    for (size_t i = 0; i < ROWS && used < sizeof list; i++)
        if (strncmp(rows[i].name, name, length) == 0)
            used += (size_t)snprintf(list + used, sizeof list - used, " --%s",
                                     rows[i].name);
    if (!used)
        return 0;
    log_write(ABD_ERROR, NULL, "option --%.*s can mean:%s", (int)length, name,
              list);
    return EINVAL;
}

static int refuse_long(const char *argument)
{
    _cleanup_free_ char *name = strndup(argument, strcspn(argument, "="));
    struct suggestion suggestion = {.word = name};
    char quoted[256];

    if (!name)
        return ENOMEM;
    if (refuse_abbreviation(name + 2))
        return EINVAL;
    suggestion.word = name + 2;
    for (size_t i = 0; i < ROWS; i++)
        suggest_consider(&suggestion, rows[i].name);
    text_quote(name, strlen(name), quoted, sizeof quoted);
    if (suggestion.best)
        log_write(ABD_ERROR, NULL, "option %s is not known, did you mean --%s?",
                  quoted, suggestion.best);
    else
        log_write(ABD_ERROR, NULL,
                  "option %s is not known; 'abdkit --help' lists them all",
                  quoted);
    return EINVAL;
}

/* getopt_long() has found something wrong with argument, the word that it
 * looked at last. */
static int refuse_option(int result, const char *argument)
{
    char quoted[256];
    int length = (int)strcspn(argument, "=");

    if (result == ':') {
        if (argument[0] == '-' && argument[1] == '-')
            log_write(ABD_ERROR, NULL, "option %.*s needs a value", length,
                      argument);
        else
            log_write(ABD_ERROR, NULL, "option -%c needs a value", optopt);
        return EINVAL;
    }
    if (optopt >= ROW_BASE) {
        log_write(ABD_ERROR, NULL, "option --%s takes no value",
                  rows[optopt - ROW_BASE].name);
        return EINVAL;
    }
    if (argument[0] == '-' && argument[1] == '-')
        return refuse_long(argument);
    log_write(
        ABD_ERROR, NULL,
        "option %s is not known; 'abdkit --help' lists them all",
        text_quote((char[]){'-', (char)optopt}, 2, quoted, sizeof quoted));
    return EINVAL;
}

/* The rows as getopt_long() wants them. */
static void make_tables(struct option *longs, char *letters)
{
    *letters++ = ':';
    for (size_t i = 0; i < ROWS; i++) {
        longs[i] = (struct option){
            .name = rows[i].name,
            .has_arg = rows[i].kind == VALUE ? required_argument : no_argument,
            .val = ROW_BASE + (int)i,
        };
        if (!rows[i].letter)
            continue;
        *letters++ = rows[i].letter;
        if (rows[i].kind == VALUE)
            *letters++ = ':';
    }
    *letters = '\0';
}

static const struct option_row *row_of(int result)
{
    if (result >= ROW_BASE)
        return &rows[result - ROW_BASE];
    for (size_t i = 0; i < ROWS; i++)
        if (rows[i].letter == result)
            return &rows[i];
    return NULL;
}

static int parse_options(int argc, char **argv)
{
    struct option longs[ROWS + 1] = {0};
    char letters[2 * ROWS + 2];

    make_tables(longs, letters);
    opterr = 0;
    optind = 0; /* GNU: begin anew, also when called again (tests) */
    for (;;) {
        int result = getopt_long(argc, argv, letters, longs, NULL);
        const struct option_row *row;
        int err;

        if (result == -1)
            return 0;
        row = result == '?' || result == ':' ? NULL : row_of(result);
        if (!row)
            return refuse_option(result, argv[optind - 1]);
        err = row->apply(row, optarg);
        if (err)
            return err;
    }
}

static int parse_words(int argc, char **argv)
{
    if (optind < argc)
        parsed.plugin = argv[optind++];
    for (; optind < argc; optind++) {
        int err = strings_append(&parsed.parameters, argv[optind]);

        if (err)
            return err;
    }
    if (parsed.plugin ||
        (parsed.action != ACTION_SERVE && parsed.action != ACTION_DUMP_PLUGIN))
        return 0;
    log_write(ABD_ERROR, NULL,
              "which plugin?  (abdkit [OPTIONS] PLUGIN [KEY=VALUE ...]; see "
              "'abdkit --help')");
    return EINVAL;
}

int options_parse(int argc, char **argv, struct options *options)
{
    int err;

    set_defaults();
    err = parse_options(argc, argv);
    if (!err)
        err = parse_words(argc, argv);
    if (!err && parsed.action == ACTION_SERVE)
        err = options_check(&parsed);
    *options = parsed;
    return err;
}
