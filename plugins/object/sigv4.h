/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Signature Version 4, as far as S3 needs it: the Authorization header of one
 * request.  No I/O, no clock of its own; any thread, a key by one at a time.
 *
 * Specified in "Signature Version 4 signing process" of Amazon's S3 API
 * reference and IAM user guide. */
#ifndef ABD_OBJECT_SIGV4_H
#define ABD_OBJECT_SIGV4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <time.h>

#define SIGV4_UNSIGNED "UNSIGNED-PAYLOAD"
#define SIGV4_EMPTY_SHA256                                                     \
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SIGV4_HASH_SIZE   65   /* 64 hex digits and the end */
#define SIGV4_DATE_SIZE   17   /* 20260131T235959Z and the end */
#define SIGV4_HEADERS_MAX 16   /* that are signed */
#define SIGV4_TEXT_MAX    1024 /* bytes of an Authorization header's value */

/* The signing key of one day: kept from one request to the next, as it costs
 * four HMACs.  Begins zeroed; holds a secret, so wipe it with
 * sigv4_key_finish(). */
struct sigv4_key {
    char day[9];
    uint8_t of[32]; /* SHA-256 of what it was derived from */
    uint8_t key[32];
};
void sigv4_key_finish(struct sigv4_key *key);

struct sigv4_header {
    const char *name; /* lower case */
    const char *value;
};

struct sigv4_request {
    const char *method;
    const char *path;  /* as it is sent: percent-encoded, from '/' on */
    const char *query; /* as it is sent, without '?': encoded and sorted by
                          name; "" for none */
    const struct sigv4_header *headers; /* sorted by name; with "host",
                                           "x-amz-date" and
                                           "x-amz-content-sha256" */
    unsigned headers_n;
    const char *payload_hash; /* 64 hex digits, or SIGV4_UNSIGNED */
    const char *date;         /* as in the header x-amz-date */
    const char *region, *service;
    const char *access_key, *secret_key;
};

/* The value of the header Authorization.  0, or an errno value: E2BIG if it
 * does not fit, EINVAL for more headers than SIGV4_HEADERS_MAX or a date that
 * is none, ENOMEM. */
int sigv4_sign(struct sigv4_key *key, const struct sigv4_request *request,
               char ret[SIGV4_TEXT_MAX]);

/* 20260131T235959Z */
void sigv4_date(time_t when, char ret[SIGV4_DATE_SIZE]);

/* A hash that is made piece by piece.  NULL: no memory. */
struct sigv4_hasher *sigv4_hasher_new(void);
void sigv4_hasher_add(struct sigv4_hasher *hasher, const void *bytes,
                      size_t length);
/* Frees it.  0 or ENOMEM. */
int sigv4_hasher_end(struct sigv4_hasher *hasher, char ret[SIGV4_HASH_SIZE]);

/* Hex SHA-256 of all the pieces together.  0 or ENOMEM. */
int sigv4_hash(const struct iovec *body, unsigned n, char ret[SIGV4_HASH_SIZE]);

/* Percent-encodes all but unreserved characters (A-Z a-z 0-9 - . _ ~), and '/'
 * too unless keep_slash.  0, or E2BIG if it does not fit into size bytes. */
int sigv4_encode(const char *text, bool keep_slash, char *ret, size_t size);

#endif
