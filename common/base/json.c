/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A JSON writer: text appended to a string that doubles.
 *
 * One flag is enough to set commas, because what is open has always written its
 * own: after an opening bracket none is due, after a value or a closing bracket
 * one is.  Bytes that are not UTF-8 become U+FFFD, so the result always is.
 * For one thread at a time. */
#include "base/json.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

enum { FIRST_SIZE = 256 };

static void append(struct json *json, const char *text, size_t length)
{
    if (json->failed)
        return;
    /* One byte always stays free for the terminator. */
    if (!json->text || length >= json->size - json->length) {
        size_t size = json->size ? json->size : FIRST_SIZE;

        while (length >= size - json->length) {
            if (size > SIZE_MAX / 2) {
                json->failed = true;
                return;
            }
            size *= 2;
        }

        char *larger = realloc(json->text, size);

        if (!larger) {
            json->failed = true;
            return;
        }
        json->text = larger;
        json->size = size;
    }
    memcpy(json->text + json->length, text, length);
    json->length += length;
}

static void append_text(struct json *json, const char *text)
{
    append(json, text, strlen(text));
}

static void append_quoted(struct json *json, const char *value)
{
    size_t left = strlen(value);

    append_text(json, "\"");
    while (left > 0) {
        size_t length = text_utf8_next(value, left);
        char escape[sizeof "\\u0000"];

        if (length == 0) {
            append_text(json, "\\ufffd");
            length = 1;
        } else if ((unsigned char)*value < 0x20) {
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)*value);
            append_text(json, escape);
        } else {
            if (*value == '"' || *value == '\\')
                append_text(json, "\\");
            append(json, value, length);
        }
        value += length;
        left -= length;
    }
    append_text(json, "\"");
}

/* What stands in front of any value. */
static void begin(struct json *json, const char *key)
{
    if (json->comma)
        append_text(json, ",");
    if (key) {
        append_quoted(json, key);
        append_text(json, ":");
    }
    json->comma = true;
}

static void open_bracket(struct json *json, const char *key,
                         const char *bracket)
{
    begin(json, key);
    append_text(json, bracket);
    json->comma = false;
}

static void close_bracket(struct json *json, const char *bracket)
{
    append_text(json, bracket);
    json->comma = true;
}

void json_open_object(struct json *json, const char *key)
{
    open_bracket(json, key, "{");
}

void json_close_object(struct json *json)
{
    close_bracket(json, "}");
}

void json_open_array(struct json *json, const char *key)
{
    open_bracket(json, key, "[");
}

void json_close_array(struct json *json)
{
    close_bracket(json, "]");
}

void json_string(struct json *json, const char *key, const char *value)
{
    begin(json, key);
    if (value)
        append_quoted(json, value);
    else
        append_text(json, "null");
}

void json_number(struct json *json, const char *key, uint64_t value)
{
    char digits[sizeof "18446744073709551615"];

    begin(json, key);
    snprintf(digits, sizeof digits, "%" PRIu64, value);
    append_text(json, digits);
}

void json_raw(struct json *json, const char *key, const char *text)
{
    begin(json, key);
    append_text(json, text);
}

void json_bool(struct json *json, const char *key, bool value)
{
    begin(json, key);
    append_text(json, value ? "true" : "false");
}

char *json_finish(struct json *json)
{
    append(json, "", 0); /* so that there is a text even if it is empty */

    char *text = json->text;

    if (json->failed) {
        free(text);
        text = NULL;
    } else {
        assert(json->length < json->size);
        text[json->length] = '\0';
    }
    *json = (struct json){0};
    return text;
}
