/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Writes JSON into a growing string.  Commas and quoting are done here; nesting
 * is the caller's.  Running out of memory is remembered and reported at the
 * end, so that callers need not look after every value. */
#ifndef ABD_BASE_JSON_H
#define ABD_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json {
    char *text;
    size_t length, size;
    bool failed, comma;
};

/* key: NULL inside an array, and for the outermost value.  A string that is
 * NULL is written as null; bytes in it that are not UTF-8 as U+FFFD. */
void json_open_object(struct json *json, const char *key);
void json_close_object(struct json *json);
void json_open_array(struct json *json, const char *key);
void json_close_array(struct json *json);
void json_string(struct json *json, const char *key, const char *value);
void json_number(struct json *json, const char *key, uint64_t value);
void json_bool(struct json *json, const char *key, bool value);
/* A whole value that json_finish() returned. */
void json_raw(struct json *json, const char *key, const char *text);
/* Hands the text over (terminated, the caller's to free); NULL: no memory.
 * Leaves json as it was at the start: zeroed. */
char *json_finish(struct json *json);

#endif
