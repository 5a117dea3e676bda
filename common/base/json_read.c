/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A JSON reader: recursive descent over a copy of the text.
 *
 * Strings are unescaped in place, since that never makes them longer, and get
 * their NUL where the closing quote was.  Every value but the root stands
 * behind a comma or is the first of something, so counting those bytes gives
 * room for all values in one allocation.  Any thread; no state. */
#include "base/json_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

struct reader {
    char *text;
    size_t at, length;
    struct json_value *values;
    size_t used;
    unsigned depth;
    struct json_fault fault;
};

static const char too_early[] = "the text ends too early";

/* Always false, so that callers can return it. */
static bool refuse_at(struct reader *reader, size_t at, const char *why)
{
    reader->fault.at = at;
    reader->fault.why = at == reader->length ? too_early : why;
    return false;
}

static bool refuse(struct reader *reader, const char *why)
{
    return refuse_at(reader, reader->at, why);
}

/* The next byte; NUL at the end (one in the text is no part of any token). */
static char peek(const struct reader *reader)
{
    if (reader->at == reader->length)
        return '\0';
    return reader->text[reader->at];
}

static bool take(struct reader *reader, char c)
{
    if (reader->at == reader->length || reader->text[reader->at] != c)
        return false;
    reader->at++;
    return true;
}

static void skip_space(struct reader *reader)
{
    while (take(reader, ' ') || take(reader, '\t') || take(reader, '\n') ||
           take(reader, '\r'))
        ;
}

/* --- strings --- */

static bool read_hex(struct reader *reader, unsigned *ret)
{
    *ret = 0;
    for (unsigned i = 0; i < 4; i++) {
        char c = peek(reader);

        *ret <<= 4;
        if (c >= '0' && c <= '9')
            *ret |= (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            *ret |= (unsigned)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            *ret |= (unsigned)(c - 'A' + 10);
        else
            return refuse(reader, "\\u needs four hexadecimal digits");
        reader->at++;
    }
    return true;
}

static size_t encode_utf8(unsigned code, char *to)
{
    if (code < 0x80) {
        to[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        to[0] = (char)(0xc0 | code >> 6);
        to[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        to[0] = (char)(0xe0 | code >> 12);
        to[1] = (char)(0x80 | (code >> 6 & 0x3f));
        to[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    to[0] = (char)(0xf0 | code >> 18);
    to[1] = (char)(0x80 | (code >> 12 & 0x3f));
    to[2] = (char)(0x80 | (code >> 6 & 0x3f));
    to[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* Behind \u: writes the character and advances *to. */
static bool read_unicode(struct reader *reader, char **to)
{
    size_t start = reader->at;
    unsigned code, low;

    if (!read_hex(reader, &code))
        return false;
    if (code == 0)
        return refuse_at(reader, start, "a NUL in a string");
    if (code >= 0xdc00 && code < 0xe000)
        return refuse_at(reader, start, "half a surrogate pair");
    if (code >= 0xd800 && code < 0xdc00) {
        if (!take(reader, '\\') || !take(reader, 'u'))
            return refuse(reader, "half a surrogate pair");
        if (!read_hex(reader, &low))
            return false;
        if (low < 0xdc00 || low >= 0xe000)
            return refuse_at(reader, start, "half a surrogate pair");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    *to += encode_utf8(code, *to);
    return true;
}

/* Behind the backslash. */
static bool read_escape(struct reader *reader, char **to)
{
    static const char from[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    char c = peek(reader);
    const char *known = c ? strchr(from, c) : NULL;

    if (c == 'u') {
        reader->at++;
        return read_unicode(reader, to);
    }
    if (!known)
        return refuse(reader, "an escape that JSON does not have");
    reader->at++;
    *(*to)++ = meant[known - from];
    return true;
}

static bool read_string(struct reader *reader, const char **ret)
{
    char *start, *to;

    if (!take(reader, '"'))
        return refuse(reader, "a string was expected");
    start = to = reader->text + reader->at;
    for (;;) {
        const char *from = reader->text + reader->at;
        size_t bytes = text_utf8_next(from, reader->length - reader->at);

        if (reader->at == reader->length)
            return refuse(reader, too_early);
        if (bytes == 0)
            return refuse(reader, "bytes that are not UTF-8");
        if ((unsigned char)*from < 0x20)
            return refuse(reader, "a control character in a string");
        if (take(reader, '"'))
            break;
        if (take(reader, '\\')) {
            if (!read_escape(reader, &to))
                return false;
            continue;
        }
        memmove(to, from, bytes);
        to += bytes;
        reader->at += bytes;
    }
    *to = '\0';
    *ret = start;
    return true;
}

/* --- other scalars --- */

static bool read_word(struct reader *reader, const char *word)
{
    for (; *word; word++)
        if (!take(reader, *word))
            return refuse(reader, "a value was expected");
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool skip_digits(struct reader *reader)
{
    if (!is_digit(peek(reader)))
        return refuse(reader, "a digit was expected");
    while (is_digit(peek(reader)))
        reader->at++;
    return true;
}

/* The digits from start to the current place; false: too large. */
static bool convert(const struct reader *reader, size_t start, uint64_t *ret)
{
    uint64_t value = 0;

    for (size_t i = start; i < reader->at; i++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, reader->text[i] - '0', &value))
            return false;
    }
    *ret = value;
    return true;
}

/* The text is not terminated yet: what stands behind it is still needed. */
static bool read_number(struct reader *reader, struct json_value *value)
{
    size_t start = reader->at;
    bool plain = !take(reader, '-');

    value->text = reader->text + start;
    if (take(reader, '0')) {
        if (is_digit(peek(reader)))
            return refuse(reader, "a number that begins with 0");
    } else if (!skip_digits(reader)) {
        return false;
    }
    value->whole = plain && convert(reader, start, &value->number);
    if (take(reader, '.')) {
        value->whole = false;
        if (!skip_digits(reader))
            return false;
    }
    if (take(reader, 'e') || take(reader, 'E')) {
        value->whole = false;
        if (!take(reader, '+'))
            take(reader, '-');
        if (!skip_digits(reader))
            return false;
    }
    return true;
}

/* --- values --- */

static bool read_value(struct reader *reader, const char *key,
                       const struct json_value **ret);

/* What is in an array or object, up to the closing bracket. */
static bool read_members(struct reader *reader, struct json_value *value)
{
    char end = value->type == JSON_OBJECT ? '}' : ']';
    const struct json_value **next = &value->first;

    skip_space(reader);
    if (take(reader, end))
        return true;
    for (;;) {
        const char *key = NULL;

        skip_space(reader);
        if (value->type == JSON_OBJECT) {
            if (!read_string(reader, &key))
                return false;
            skip_space(reader);
            if (!take(reader, ':'))
                return refuse(reader, "a colon was expected");
        }
        if (!read_value(reader, key, next))
            return false;
        next = (const struct json_value **)&(*next)->next;
        skip_space(reader);
        if (take(reader, end))
            return true;
        if (!take(reader, ','))
            return refuse(reader, "a comma or a closing bracket was expected");
    }
}

static bool read_container(struct reader *reader, struct json_value *value)
{
    bool good;

    if (reader->depth == JSON_READ_DEPTH)
        return refuse(reader, "nested too deeply");
    reader->at++;
    reader->depth++;
    good = read_members(reader, value);
    reader->depth--;
    return good;
}

static bool read_value(struct reader *reader, const char *key,
                       const struct json_value **ret)
{
    struct json_value *value = &reader->values[reader->used++];

    value->key = key;
    *ret = value;
    skip_space(reader);
    switch (peek(reader)) {
    case '{':
        value->type = JSON_OBJECT;
        return read_container(reader, value);
    case '[':
        value->type = JSON_ARRAY;
        return read_container(reader, value);
    case '"':
        value->type = JSON_STRING;
        return read_string(reader, &value->text);
    case 't':
        value->type = JSON_BOOL;
        value->truth = true;
        return read_word(reader, "true");
    case 'f':
        value->type = JSON_BOOL;
        return read_word(reader, "false");
    case 'n':
        return read_word(reader, "null");
    default:
        value->type = JSON_NUMBER;
        if (peek(reader) != '-' && !is_digit(peek(reader)))
            return refuse(reader, "a value was expected");
        return read_number(reader, value);
    }
}

/* Room for all values that there can be. */
static size_t count_values(const char *text, size_t length)
{
    size_t n = 1;

    for (size_t i = 0; i < length; i++)
        n += text[i] == ',' || text[i] == '[' || text[i] == '{';
    return n;
}

/* All has been read, so what stood behind the numbers may be overwritten. */
static void terminate_numbers(struct reader *reader)
{
    for (size_t i = 0; i < reader->used; i++) {
        const struct json_value *value = &reader->values[i];

        if (value->type == JSON_NUMBER)
            reader->text[(size_t)(value->text - reader->text) +
                         strspn(value->text, "-+.eE0123456789")] = '\0';
    }
}

int json_read(const char *text, size_t length, struct json_document *ret,
              struct json_fault *ret_fault)
{
    struct reader reader = {.length = length};
    struct json_document document = {.root = NULL};

    reader.text = document.text = malloc(length + 1);
    reader.values = document.values =
        calloc(count_values(text, length), sizeof *document.values);
    if (!document.text || !document.values) {
        json_document_finish(&document);
        return ENOMEM;
    }
    memcpy(document.text, text, length);
    document.text[length] = '\0';
    if (read_value(&reader, NULL, &document.root)) {
        skip_space(&reader);
        if (reader.at == reader.length) {
            terminate_numbers(&reader);
            *ret = document;
            return 0;
        }
        refuse(&reader, "something stands behind the value");
    }
    *ret_fault = reader.fault;
    json_document_finish(&document);
    return EINVAL;
}

void json_document_finish(struct json_document *document)
{
    free(document->text);
    free(document->values);
    *document = (struct json_document){.root = NULL};
}

const struct json_value *json_find(const struct json_value *object,
                                   const char *key)
{
    if (!object || object->type != JSON_OBJECT)
        return NULL;
    for (const struct json_value *member = object->first; member;
         member = member->next)
        if (strcmp(member->key, key) == 0)
            return member;
    return NULL;
}
