/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The S3 store's own: store_s3.c has its life, s3_address.c where it is,
 * s3_request.c what is asked, s3_answer.c what an answer means. */
#ifndef ABD_OBJECT_S3_H
#define ABD_OBJECT_S3_H

#include "credentials.h"
#include "http.h"
#include "s3_text.h"
#include "sigv4.h"
#include "store_s3.h"

#define S3_BUCKET_MAX 63
#define S3_PREFIX_MAX 512
#define S3_HOST_MAX   320
/* Every byte of a key may take three. */
#define S3_PATH_MAX (3 * (S3_BUCKET_MAX + S3_PREFIX_MAX + STORE_NAME_MAX) + 8)
#define S3_QUERY_MAX                                                           \
    (3 * (S3_PREFIX_MAX + STORE_NAME_MAX) * 2 + 128) /* of a LIST */
#define S3_HEADERS_MAX 12

/* Where it is. */
struct s3_address {
    char bucket[S3_BUCKET_MAX + 1];
    char prefix[S3_PREFIX_MAX + 2]; /* "" or with a slash at its end */
    char host[S3_HOST_MAX];         /* as the header says it, with a port */
    bool tls, path_style;
};

/* endpoint, region: NULL for Amazon's.  0 or EINVAL. */
int s3_address(const struct store_s3_options *options, const char *endpoint,
               const char *region, struct s3_address *ret,
               char why[STORE_WHY_MAX]);
struct s3_place {
    struct s3_address address;
    char region[64];
    char *profile, *ca_file; /* or NULL */
    unsigned requests;
    uint64_t stall_ns;
};

struct s3_store {
    struct store store;
    const struct s3_place *place;
    struct http *http;

    /* Loop only.  While `loading`, requests wait in waiting: one at least. */
    struct credentials credentials;
    struct sigv4_key key;
    bool loading;
    char load_why[CREDENTIALS_WHY_MAX];
    uint64_t loaded_ns;  /* when; 0: never */
    uint64_t changed_ns; /* when they were last found to be others */
    struct list waiting;
    int64_t skew_s; /* the store's clock is so much ahead of ours */
    /* The work's, while it is loading. */
    struct abd_work load;
    struct credentials fresh;
};

enum s3_stage {
    S3_WAITING, /* for credentials, to go on or to be said */
    S3_HASHING, /* the body, on a thread of the pool */
    S3_ASKING,  /* in http */
    S3_SAYING,  /* done() comes with the task */
};

/* call->state */
struct s3_request {
    struct s3_store *s3;
    struct store_call *call;
    enum s3_stage stage;
    bool cancelled;
    bool answered;    /* S3_WAITING: the answer is there */
    struct list link; /* in s3->waiting */
    uint64_t began_ns;

    /* What is sent. */
    struct http_call http;
    char hash[SIGV4_HASH_SIZE], crc[9];
    bool hashed;
    char url[S3_HOST_MAX + S3_PATH_MAX + S3_QUERY_MAX + 16];
    char text[2 * SIGV4_TEXT_MAX + S3_HOST_MAX];
    const char *headers[S3_HEADERS_MAX];
    char token[4096];

    /* What came. */
    struct s3_text *document; /* an error or a listing; NULL: none */
    bool bad_document;
    bool first; /* no byte has come yet */
    bool has_range;
    uint64_t range_start, range_end, range_size; /* Content-Range */
    uint64_t retry_after_s;
    int64_t date_s; /* of the header Date; 0: none */
};

/* --- s3_request.c --- */

/* Fills http with what call asks, signed with the store's credentials.  0 or an
 * errno value (E2BIG: a credential is absurdly long). */
int s3_request_build(struct s3_request *request);
/* The work that must come before: true: there is some (for s3_request_hash()).
 * False: it was done here, as it is small. */
bool s3_request_must_hash(struct s3_request *request);
void s3_request_hash(void *arg); /* any thread */

/* --- s3_answer.c --- */

void s3_answer_begin(struct s3_request *request);
/* http's callbacks; http.arg is the request. */
void s3_answer_field(struct http_call *http, const char *name,
                     const char *value);
bool s3_answer_bytes(struct http_call *http, const void *bytes, size_t n);

/* What more the store has to do than to pass it on. */
enum s3_advice {
    S3_NOTHING_MORE,
    S3_RENEW, /* the credentials are not taken (any more): load them again */
    S3_SKEW,  /* our clock and the store's differ: now known from Date */
};
/* Sets the call's answer from what came. */
enum s3_advice s3_answer_end(struct s3_request *request);

#endif
