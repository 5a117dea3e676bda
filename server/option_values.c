/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the options of the command line do with their values: checks them, says
 * what is allowed, stores them.  Main thread. */
#include "server/option_values.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abd-loop.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/text.h"
#include "server/limits.h"
#include "server/options.h"
#include "server/settings.h"

#define EXPORT_NAME_MAX 4096

/* Texts that were made while parsing, so that they can be freed when the next
 * command line is parsed (by tests; a program has one). */
static struct strings made;

void option_values_forget(void)
{
    for (unsigned i = 0; i < made.n; i++)
        free((void *)made.at[i]);
    free(made.at);
    made = (struct strings){.n = 0};
}

static int refuse(const struct option_row *row, const char *value,
                  const char *why)
{
    char quoted[256];

    log_write(ABD_ERROR, NULL, "--%s %s: %s", row->name,
              text_quote(value, strlen(value), quoted, sizeof quoted), why);
    return EINVAL;
}

static int no_memory(void)
{
    log_write(ABD_ERROR, NULL, "command line: %s", strerror(ENOMEM));
    return ENOMEM;
}

int strings_append(struct strings *strings, const char *text)
{
    const char **at =
        realloc(strings->at, (strings->n + 2) * sizeof *strings->at);

    if (!at)
        return no_memory();
    at[strings->n++] = text;
    at[strings->n] = NULL;
    strings->at = at;
    return 0;
}

/* The absolute path of a text, which lives on. */
static int make_path(const char *text, const char **ret)
{
    char *path;
    int err = abd_absolute_path(NULL, text, &path);

    if (err)
        return err;
    err = strings_append(&made, path);
    if (err)
        free(path);
    else
        *ret = path;
    return err;
}

int option_true(const struct option_row *row, const char *value)
{
    (void)value;
    *(bool *)row->target = true;
    return 0;
}

int option_false(const struct option_row *row, const char *value)
{
    (void)value;
    *(bool *)row->target = false;
    return 0;
}

int option_text(const struct option_row *row, const char *value)
{
    if (!value[0])
        return refuse(row, value, "it is empty");
    *(const char **)row->target = value;
    return 0;
}

int option_path(const struct option_row *row, const char *value)
{
    if (!value[0])
        return refuse(row, value, "it is empty");
    return make_path(value, row->target);
}

int option_unix(const struct option_row *row, const char *value)
{
    if (strcmp(value, "-") == 0)
        return option_text(row, value);
    return option_path(row, value);
}

int option_append(const struct option_row *row, const char *value)
{
    if (!value[0])
        return refuse(row, value, "it is empty");
    return strings_append(row->target, value);
}

/* FOLDER[:FOLDER...]; empty ones are passed over. */
int option_folders(const struct option_row *row, const char *value)
{
    while (*value) {
        size_t length = strcspn(value, ":");
        _cleanup_free_ char *folder = strndup(value, length);
        const char *path;
        int err;

        if (!folder)
            return no_memory();
        err = length ? make_path(folder, &path) : 0;
        if (!err && length)
            err = strings_append(row->target, path);
        if (err)
            return err;
        value += length;
        value += *value == ':';
    }
    return 0;
}

int option_number(const struct option_row *row, const char *value)
{
    const char *why = NULL;
    uint64_t number = 0;
    char range[64];

    if (parse_number(value, UINT64_MAX, &number, &why))
        return refuse(row, value, why);
    if (number < row->min || number > row->max) {
        snprintf(range, sizeof range, "from %llu to %llu are allowed",
                 (unsigned long long)row->min, (unsigned long long)row->max);
        return refuse(row, value, range);
    }
    *(unsigned *)row->target = (unsigned)number;
    return 0;
}

/* As a person would write it. */
static void show_size(uint64_t size, char *text, size_t n)
{
    const char *units = "MGTPE";

    for (size /= MIB; size % 1024 == 0 && size && units[1]; size /= 1024)
        units++;
    snprintf(text, n, "%llu%c", (unsigned long long)size, *units);
}

int option_size(const struct option_row *row, const char *value)
{
    const char *why = NULL;
    uint64_t size = 0;
    char range[64], min[16], max[16];

    if (parse_size(value, &size, &why))
        return refuse(row, value, why);
    if (size < row->min || size > row->max) {
        show_size(row->min, min, sizeof min);
        show_size(row->max, max, sizeof max);
        snprintf(range, sizeof range, "from %s to %s are allowed", min, max);
        return refuse(row, value, range);
    }
    *(uint64_t *)row->target = size;
    return 0;
}

int option_delay(const struct option_row *row, const char *value)
{
    const char *why = NULL;

    if (parse_delay(value, row->target, &why))
        return refuse(row, value, why);
    return 0;
}

int option_family(const struct option_row *row, const char *value)
{
    (void)value;
    *(int *)row->target = (int)row->min;
    return 0;
}

/* NAME.FLAG=N.  The server's own are set here, others when the layers are
 * there. */
int option_debug(const struct option_row *row, const char *value)
{
    const char *dot = strchr(value, '.'), *equals = strchr(value, '=');
    const char *why = NULL;
    uint64_t number = 0;

    if (!dot || dot == value || !equals || equals < dot + 2)
        return refuse(row, value, "NAME.FLAG=N is needed");
    if (parse_number(equals + 1, INT_MAX, &number, &why))
        return refuse(row, value, why);
    if (strncmp(value, "server.", 7) != 0)
        return strings_append(row->target, value);
    if (strncmp(dot + 1, "requests=", 9) != 0)
        return refuse(row, value,
                      "the server's only debug flag is server.requests");
    settings.debug_requests = (int)number;
    return 0;
}

int option_log(const struct option_row *row, const char *value)
{
    static const char *const names[] = {"stderr", "syslog", "null"};
    static const enum log_destination destinations[] = {
        LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_NULL};
    struct options *options = row->target;

    for (unsigned i = 0; i < 3; i++) {
        if (strcmp(value, names[i]) != 0)
            continue;
        options->log = destinations[i];
        options->log_given = true;
        return 0;
    }
    return refuse(row, value, "stderr, syslog and null are allowed");
}

int option_export_name(const struct option_row *row, const char *value)
{
    if (strlen(value) > EXPORT_NAME_MAX)
        return refuse(row, value, "at most 4096 bytes are allowed");
    if (!text_is_utf8(value, strlen(value)))
        return refuse(row, value, "it is not UTF-8");
    *(const char **)row->target = value;
    return 0;
}

int option_action(const struct option_row *row, const char *value)
{
    (void)value;
    ((struct options *)row->target)->action = (enum action)row->min;
    return 0;
}

int option_status_of(const struct option_row *row, const char *value)
{
    struct options *options = row->target;
    struct option_row path = *row;

    options->action = ACTION_STATUS_OF;
    path.target = &options->status_of;
    return option_path(&path, value);
}

int option_verbose(const struct option_row *row, const char *value)
{
    (void)row;
    (void)value;
    log_set_verbose(true);
    return 0;
}

int option_tls(const struct option_row *row, const char *value)
{
    if (strcmp(value, "off") == 0)
        return 0;
    if (strcmp(value, "on") != 0 && strcmp(value, "require") != 0)
        return refuse(row, value, "off, on and require are allowed");
    return refuse(row, value, "TLS is not built into this abdkit");
}

int option_not_built_in(const struct option_row *row, const char *value)
{
    (void)value;
    log_write(ABD_ERROR, NULL, "--%s: %s is not built into this abdkit",
              row->name, row->feature);
    return ENOTSUP;
}
