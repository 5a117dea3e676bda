/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Reads a JSON text (RFC 8259) that may come from anybody into a tree.
 *
 * Strict: what the standard does not allow is refused, and so is what a C
 * string or our own writer can't hold: NUL in a string, bytes that are not
 * UTF-8.  The time and memory it takes are proportional to the text; nesting is
 * bounded. */
#ifndef ABD_BASE_JSON_READ_H
#define ABD_BASE_JSON_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_READ_DEPTH 64 /* arrays and objects inside each other */

enum json_type {
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
};

/* All of them belong to the document. */
struct json_value {
    enum json_type type;
    bool truth;       /* BOOL */
    bool whole;       /* NUMBER: number is its value; else it only has a text */
    uint64_t number;  /* NUMBER, without sign, fraction, exponent, in range */
    const char *key;  /* inside an object */
    const char *text; /* STRING, unescaped; NUMBER, as it was written */
    const struct json_value *first; /* ARRAY, OBJECT: what is in it */
    const struct json_value *next;  /* behind it in the same one */
};

struct json_document {
    const struct json_value *root;
    /* The reader's. */
    char *text;
    struct json_value *values;
};

struct json_fault {
    size_t at;       /* byte of the text; its length: it ends too early */
    const char *why; /* a constant */
};

/* 0 and the document; ENOMEM; or EINVAL and what is wrong. */
int json_read(const char *text, size_t length, struct json_document *ret,
              struct json_fault *ret_fault);
/* A zeroed one is allowed. */
void json_document_finish(struct json_document *document);

/* The first member of that name; NULL: none, or object is none (or NULL). */
const struct json_value *json_find(const struct json_value *object,
                                   const char *key);

#endif
