/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* An S3 bucket as a store: Amazon's, or whatever speaks its API and creates
 * if absent ("If-None-Match: *").  Under store.h; see store_s3.c. */
#ifndef ABD_OBJECT_STORE_S3_H
#define ABD_OBJECT_STORE_S3_H

#include "store.h"

enum s3_path_style { S3_STYLE_AUTO, S3_STYLE_PATH, S3_STYLE_HOST };

/* Bytes that libcurl's buffers take, together. */
#define STORE_S3_MEMORY (UINT64_C(8) << 20)

/* Strings: the caller's; s3_place_find() copies them. */
struct store_s3_options {
    const char *url;      /* s3://BUCKET[/PREFIX] */
    const char *endpoint; /* http[s]://HOST[:PORT]; NULL: said elsewhere, or
                             Amazon's */
    const char *region;   /* NULL: said elsewhere, or us-east-1 */
    const char *profile;  /* NULL: the default */
    const char *ca_file;  /* NULL: the system's */
    enum s3_path_style path_style;
    unsigned requests; /* at once, at most */
    uint64_t stall_ns; /* an attempt without progress has failed then */
};

/* Options and what the environment and files say, put together: where the
 * bucket is, and as whom it is asked. */
struct s3_place;
/* Reads files, and the credentials to see whether there are any, so it may
 * block: not on a loop.  0 or an errno value, why says what is wrong. */
int s3_place_find(const struct store_s3_options *options, struct s3_place **ret,
                  char why[STORE_WHY_MAX]);
void s3_place_free(struct s3_place *place);

/* The place stays the caller's, and must outlive the store.  0 or an errno
 * value, why says what is wrong. */
int store_s3(struct abd_loop *loop, const struct s3_place *place,
             struct store **ret, char why[STORE_WHY_MAX]);

#endif
