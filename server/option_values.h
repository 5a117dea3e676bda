/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the options of the command line do with their values. */
#ifndef ABD_SERVER_OPTION_VALUES_H
#define ABD_SERVER_OPTION_VALUES_H

#include <stdint.h>

struct options;
struct strings;

enum option_kind { ALONE, VALUE };

/* One spelling of an option. */
struct option_row {
    const char *name; /* --name */
    char letter;      /* -x; 0: none */
    enum option_kind kind;
    int (*apply)(const struct option_row *row, const char *value);
    void *target;        /* what it sets */
    uint64_t min, max;   /* of a number or size; the value of a choice: min */
    const char *feature; /* that would be needed for option_not_built_in */
};

/* Each returns 0 or an errno value, after a message that names the option. */
int option_true(const struct option_row *row, const char *value);
int option_false(const struct option_row *row, const char *value);
int option_text(const struct option_row *row, const char *value);
int option_path(const struct option_row *row, const char *value);
int option_unix(const struct option_row *row, const char *value);
int option_append(const struct option_row *row, const char *value);
int option_folders(const struct option_row *row, const char *value);
int option_number(const struct option_row *row, const char *value);
int option_size(const struct option_row *row, const char *value);
int option_delay(const struct option_row *row, const char *value);
int option_family(const struct option_row *row, const char *value);
int option_debug(const struct option_row *row, const char *value);
int option_log(const struct option_row *row, const char *value);
int option_export_name(const struct option_row *row, const char *value);
int option_action(const struct option_row *row, const char *value);
int option_status_of(const struct option_row *row, const char *value);
int option_verbose(const struct option_row *row, const char *value);
int option_tls(const struct option_row *row, const char *value);
int option_not_built_in(const struct option_row *row, const char *value);

/* Frees what the values of the last command line are made of. */
void option_values_forget(void);

/* The text is borrowed.  0 or ENOMEM, after a message. */
int strings_append(struct strings *strings, const char *text);

#endif
