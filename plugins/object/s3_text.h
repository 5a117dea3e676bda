/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What S3 says in XML: listings and errors, read as the bytes come.  No I/O.
 * The parsing itself is expat's; here is what the elements mean.  Input is a
 * stranger's: documents are at most S3_TEXT_MAX bytes long and 16 elements
 * deep, have no DTD, and each text is bounded. */
#ifndef ABD_OBJECT_S3_TEXT_H
#define ABD_OBJECT_S3_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define S3_TEXT_MAX    (8U << 20)
#define S3_CODE_MAX    64
#define S3_MESSAGE_MAX 128
#define S3_KEY_MAX     1024
#define S3_TOKEN_MAX   2048

enum s3_document {
    S3_NOTHING, /* no root element yet */
    S3_ERROR,   /* <Error>: code, message */
    S3_LISTING, /* <ListBucketResult> */
    S3_DELETED, /* <DeleteResult>: per-key errors */
    S3_OTHER,   /* anything else, <html> for example: not ours */
};

struct s3_text;

struct s3_text_events {
    /* A listing's <Contents>: key is decoded (encoding-type=url is handled,
     * if the document says so).  In the order of the document. */
    void (*key)(void *arg, const char *key, uint64_t size);
    /* A <DeleteResult>'s <Error>. */
    void (*failed)(void *arg, const char *key, const char *code,
                   const char *message);
    void *arg;
};

/* NULL: no memory.  events may be NULL: nobody wants them. */
struct s3_text *s3_text_new(const struct s3_text_events *events);
/* The next bytes.  Returns 0 or EINVAL (not well-formed, too long, too deep, a
 * text that is too long, a size that is no number, ...), ENOMEM; then it is to
 * be freed, and s3_text_why() says what was wrong. */
int s3_text_feed(struct s3_text *text, const void *bytes, size_t n);
/* There are no more.  EINVAL: the document was cut, or what must be in it is
 * missing (a code in an error; in a listing IsTruncated, and the token if it is
 * true). */
int s3_text_end(struct s3_text *text);
void s3_text_free(struct s3_text *text);

enum s3_document s3_text_document(const struct s3_text *text);
/* S3_ERROR; "" before they were seen; cut to fit. */
const char *s3_text_code(const struct s3_text *text);
const char *s3_text_message(const struct s3_text *text);
/* S3_LISTING: NULL: it was the last part. */
const char *s3_text_next(const struct s3_text *text);
const char *s3_text_why(const struct s3_text *text);

#endif
