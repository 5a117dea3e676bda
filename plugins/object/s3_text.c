/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Listings and errors of S3.  See s3_text.h.
 *
 * expat tells elements and their text.  Where we are is a path of names: the
 * text of an element that we want is collected while it is open, and taken when
 * it closes.  All others are passed over, whatever is in them. */
#include "s3_text.h"

#include <errno.h>
#include <expat.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 16
#define NAME_KEPT 40 /* no name of ours is longer; others are cut */
#define TEXT_MAX  (3 * S3_KEY_MAX)
#define WHY_MAX   96

struct s3_text {
    XML_Parser parser;
    struct s3_text_events events;
    enum s3_document document;
    size_t fed;
    unsigned depth;
    char path[DEPTH_MAX][NAME_KEPT + 1];
    char text[TEXT_MAX + 1]; /* of the element that is open */
    size_t text_length;
    int error; /* 0, EINVAL, ENOMEM */
    char why[WHY_MAX];

    char code[S3_CODE_MAX], message[S3_MESSAGE_MAX], next[S3_TOKEN_MAX];
    bool has_truncated, truncated, url_encoded;
    /* Of the <Contents> or <Error> that is open. */
    char key[S3_KEY_MAX + 1];
    bool has_key, has_size;
    uint64_t size;
};

__attribute__((format(printf, 2, 3))) static void fail(struct s3_text *text,
                                                       const char *format, ...)
{
    va_list args;

    if (text->error)
        return;
    text->error = EINVAL;
    va_start(args, format);
    vsnprintf(text->why, sizeof text->why, format, args);
    va_end(args);
    XML_StopParser(text->parser, XML_FALSE);
}

/* --- elements --- */

static enum s3_document root_of(const char *name)
{
    if (strcmp(name, "Error") == 0)
        return S3_ERROR;
    if (strcmp(name, "ListBucketResult") == 0)
        return S3_LISTING;
    if (strcmp(name, "DeleteResult") == 0)
        return S3_DELETED;
    return S3_OTHER;
}

/* S3's documents have a namespace, some servers' have prefixes. */
static const char *local_name(const char *name)
{
    const char *colon = strrchr(name, ':');

    return colon ? colon + 1 : name;
}

static void on_start(void *arg, const XML_Char *full,
                     const XML_Char **attributes)
{
    struct s3_text *text = arg;
    const char *name = local_name(full);

    (void)attributes;
    if (text->depth == DEPTH_MAX) {
        fail(text, "elements are too deep in each other");
        return;
    }
    if (text->depth == 0)
        text->document = root_of(name);
    snprintf(text->path[text->depth++], NAME_KEPT + 1, "%s", name);
    text->text_length = 0;
    if (text->depth == 2) {
        text->has_key = text->has_size = false;
        if (text->document == S3_DELETED)
            text->code[0] = text->message[0] = '\0';
    }
}

static bool is_at(const struct s3_text *text, unsigned depth, const char *name)
{
    return text->depth == depth && strcmp(text->path[depth - 1], name) == 0;
}

static bool is_in(const struct s3_text *text, const char *parent)
{
    return strcmp(text->path[1], parent) == 0;
}

/* Copies the text, cut to fit. */
static void take(const struct s3_text *text, char *to, size_t size)
{
    size_t n = text->text_length < size - 1 ? text->text_length : size - 1;

    memcpy(to, text->text, n);
    to[n] = '\0';
}

static int hex(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

/* encoding-type=url: %XX, and '+' for a blank. */
static bool decode_key(const char *from, char to[S3_KEY_MAX + 1])
{
    size_t n = 0;

    for (; *from; from++) {
        char c = *from == '+' ? ' ' : *from;

        if (c == '%') {
            int high = hex(from[1]), low = high < 0 ? -1 : hex(from[2]);

            if (low < 0 || high + low == 0)
                return false;
            c = (char)(high << 4 | low);
            from += 2;
        }
        if (n == S3_KEY_MAX)
            return false;
        to[n++] = c;
    }
    to[n] = '\0';
    return true;
}

static void take_key(struct s3_text *text)
{
    text->has_key = true;
    if (text->url_encoded) {
        if (!decode_key(text->text, text->key))
            fail(text, "a key is not well encoded, or too long");
    } else if (text->text_length > S3_KEY_MAX) {
        fail(text, "a key is too long");
    } else {
        take(text, text->key, sizeof text->key);
    }
}

static void take_size(struct s3_text *text)
{
    uint64_t size = 0;
    const char *digit = text->text;

    for (; *digit >= '0' && *digit <= '9' && size < UINT64_MAX / 10 - 1;
         digit++)
        size = size * 10 + (uint64_t)(*digit - '0');
    if (*digit || digit == text->text)
        fail(text, "a size is no number: %.30s", text->text);
    text->size = size;
    text->has_size = true;
}

static void end_in_listing(struct s3_text *text)
{
    if (is_at(text, 2, "IsTruncated")) {
        text->has_truncated = true;
        text->truncated = strcmp(text->text, "true") == 0;
        if (!text->truncated && strcmp(text->text, "false") != 0)
            fail(text, "IsTruncated is \"%.30s\"", text->text);
    } else if (is_at(text, 2, "NextContinuationToken")) {
        if (text->text_length >= sizeof text->next)
            fail(text, "a continuation token is too long");
        take(text, text->next, sizeof text->next);
    } else if (is_at(text, 2, "EncodingType")) {
        text->url_encoded = strcmp(text->text, "url") == 0;
    } else if (is_at(text, 3, "Key") && is_in(text, "Contents")) {
        take_key(text);
    } else if (is_at(text, 3, "Size") && is_in(text, "Contents")) {
        take_size(text);
    } else if (is_at(text, 2, "Contents")) {
        if (!text->has_key || !text->has_size)
            fail(text, "Contents without Key or Size");
        else if (text->events.key)
            text->events.key(text->events.arg, text->key, text->size);
    }
}

static void end_in_deleted(struct s3_text *text)
{
    if (is_at(text, 2, "Error")) {
        if (!text->has_key || !text->code[0])
            fail(text, "Error without Key or Code");
        else if (text->events.failed)
            text->events.failed(text->events.arg, text->key, text->code,
                                text->message);
    } else if (text->depth != 3 || !is_in(text, "Error")) {
        return;
    } else if (is_at(text, 3, "Key")) {
        take_key(text);
    } else if (is_at(text, 3, "Code")) {
        take(text, text->code, sizeof text->code);
    } else if (is_at(text, 3, "Message")) {
        take(text, text->message, sizeof text->message);
    }
}

static void on_end(void *arg, const XML_Char *name)
{
    struct s3_text *text = arg;

    (void)name;
    if (text->error)
        return;
    text->text[text->text_length] = '\0';
    if (text->document == S3_LISTING) {
        end_in_listing(text);
    } else if (text->document == S3_DELETED) {
        end_in_deleted(text);
    } else if (text->document == S3_ERROR) {
        if (is_at(text, 2, "Code"))
            take(text, text->code, sizeof text->code);
        else if (is_at(text, 2, "Message"))
            take(text, text->message, sizeof text->message);
    }
    text->depth--;
    text->text_length = 0;
}

static void on_text(void *arg, const XML_Char *bytes, int length)
{
    struct s3_text *text = arg;
    size_t n = (size_t)length, room = TEXT_MAX - text->text_length;

    if (n > room) {
        /* In an error it is for people, and is cut anyway. */
        if (text->document == S3_LISTING || text->document == S3_DELETED) {
            fail(text, "the text of %s is too long",
                 text->depth ? text->path[text->depth - 1] : "the document");
            return;
        }
        n = room;
    }
    memcpy(text->text + text->text_length, bytes, n);
    text->text_length += n;
}

static void on_doctype(void *arg, const XML_Char *name, const XML_Char *system,
                       const XML_Char *public, int internal)
{
    struct s3_text *text = arg;

    (void)system;
    (void)public;
    (void)internal;
    /* HTML has one, and is none of ours in any case. */
    fail(text, "it is a %.30s document, not S3's", name);
    text->document = S3_OTHER;
}

/* --- the whole --- */

struct s3_text *s3_text_new(const struct s3_text_events *events)
{
    struct s3_text *text = calloc(1, sizeof *text);

    if (!text)
        return NULL;
    if (events)
        text->events = *events;
    text->parser = XML_ParserCreate(NULL);
    if (!text->parser) {
        free(text);
        return NULL;
    }
    XML_SetUserData(text->parser, text);
    XML_SetElementHandler(text->parser, on_start, on_end);
    XML_SetCharacterDataHandler(text->parser, on_text);
    XML_SetStartDoctypeDeclHandler(text->parser, on_doctype);
    return text;
}

static int parse(struct s3_text *text, const void *bytes, size_t n, bool last)
{
    if (text->error)
        return text->error;
    if (XML_Parse(text->parser, bytes, (int)n, last) == XML_STATUS_OK)
        return text->error;
    if (!text->error) {
        enum XML_Error code = XML_GetErrorCode(text->parser);

        text->error = code == XML_ERROR_NO_MEMORY ? ENOMEM : EINVAL;
        snprintf(text->why, sizeof text->why, "not well-formed XML: %s",
                 XML_ErrorString(code));
    }
    return text->error;
}

int s3_text_feed(struct s3_text *text, const void *bytes, size_t n)
{
    if (text->error)
        return text->error;
    if (n > S3_TEXT_MAX - text->fed) {
        text->error = EINVAL;
        snprintf(text->why, sizeof text->why, "longer than %u bytes",
                 S3_TEXT_MAX);
        return EINVAL;
    }
    text->fed += n;
    return parse(text, bytes, n, false);
}

int s3_text_end(struct s3_text *text)
{
    const char *missing = NULL;
    int err = parse(text, "", 0, true);

    if (err)
        return err;
    if (text->document == S3_ERROR && !text->code[0])
        missing = "Code";
    else if (text->document == S3_LISTING && !text->has_truncated)
        missing = "IsTruncated";
    else if (text->document == S3_LISTING && text->truncated && !text->next[0])
        missing = "NextContinuationToken";
    if (missing) {
        text->error = EINVAL;
        snprintf(text->why, sizeof text->why, "%s is missing", missing);
    }
    return text->error;
}

void s3_text_free(struct s3_text *text)
{
    if (!text)
        return;
    XML_ParserFree(text->parser);
    free(text);
}

enum s3_document s3_text_document(const struct s3_text *text)
{
    return text->document;
}

const char *s3_text_code(const struct s3_text *text)
{
    return text->code;
}

const char *s3_text_message(const struct s3_text *text)
{
    return text->message;
}

const char *s3_text_next(const struct s3_text *text)
{
    return text->truncated ? text->next : NULL;
}

const char *s3_text_why(const struct s3_text *text)
{
    return text->why;
}
