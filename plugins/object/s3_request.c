/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What is asked of S3: URL, headers and signature of each verb.
 *
 * Every header that a proxy could drop to our harm is signed: without
 * If-None-Match a create would overwrite (I1).  The payload is hashed where
 * nothing else protects it, that is without TLS; its CRC32C goes along in any
 * case, for the store to check what arrived and for whoever reads it later. */
#include "s3.h"

#include "base/crc32c.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What takes longer than this on the loop goes to the pool. */
#define HASH_HERE (64 * 1024)

static void base64_of_crc(uint32_t crc, char ret[9])
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    /* Big-endian, and two bytes that are none. */
    uint64_t bits = (uint64_t)crc << 16;

    for (int i = 0; i < 6; i++)
        ret[i] = digits[bits >> (42 - 6 * i) & 63];
    strcpy(ret + 6, "==");
}

/* So many bytes are summed up and hashed while they are near. */
#define HASH_STEP (32 * 1024)

static uint32_t add_piece(struct sigv4_hasher *hasher, uint32_t crc,
                          const struct iovec *piece)
{
    const uint8_t *at = piece->iov_base;
    size_t left = piece->iov_len;

    while (left > 0) {
        size_t n = left < HASH_STEP ? left : HASH_STEP;

        crc = crc32c(crc, at, n);
        if (hasher)
            sigv4_hasher_add(hasher, at, n);
        at += n;
        left -= n;
    }
    return crc;
}

void s3_request_hash(void *arg)
{
    struct s3_request *request = arg;
    const struct store_call *call = request->call;
    bool tls = request->s3->place->address.tls;
    struct sigv4_hasher *hasher = tls ? NULL : sigv4_hasher_new();
    uint32_t crc = 0;

    if (!tls && !hasher)
        return;
    for (unsigned i = 0; i < call->body_n; i++)
        crc = add_piece(hasher, crc, &call->body[i]);
    base64_of_crc(crc, request->crc);
    if (tls)
        strcpy(request->hash, SIGV4_UNSIGNED);
    else if (sigv4_hasher_end(hasher, request->hash) != 0)
        return;
    request->hashed = true;
}

bool s3_request_must_hash(struct s3_request *request)
{
    if (request->call->verb != STORE_CREATE) {
        strcpy(request->hash, SIGV4_EMPTY_SHA256);
        return false;
    }
    if (request->call->length > HASH_HERE)
        return true;
    s3_request_hash(request);
    return false;
}

static int make_path(const struct s3_store *s3, const struct store_call *call,
                     char *path, size_t size)
{
    const struct s3_address *address = &s3->place->address;
    char key[S3_BUCKET_MAX + S3_PREFIX_MAX + STORE_NAME_MAX + 8];
    const char *bucket = address->path_style ? address->bucket : "";

    if (call->verb == STORE_LIST)
        snprintf(key, sizeof key, "/%s", bucket);
    else
        snprintf(key, sizeof key, "/%s%s%s%s", bucket, bucket[0] ? "/" : "",
                 address->prefix, call->name);
    return sigv4_encode(key, true, path, size);
}

/* Sorted by name, as it is signed. */
static int make_query(const struct s3_store *s3, const struct store_call *call,
                      char *query, size_t size)
{
    char key[S3_PREFIX_MAX + STORE_NAME_MAX + 8];
    char prefix[3 * sizeof key], after[3 * sizeof key] = "";
    int err;

    query[0] = '\0';
    if (call->verb != STORE_LIST)
        return 0;
    snprintf(key, sizeof key, "%s%s", s3->place->address.prefix, call->name);
    err = sigv4_encode(key, false, prefix, sizeof prefix);
    if (!err && call->after) {
        snprintf(key, sizeof key, "%s%s", s3->place->address.prefix,
                 call->after);
        err = sigv4_encode(key, false, after, sizeof after);
    }
    if (err)
        return err;
    snprintf(query, size, "list-type=2&max-keys=%d&prefix=%s%s%s",
             STORE_LIST_MAX, prefix, call->after ? "&start-after=" : "", after);
    return 0;
}

/* Appends "Name: value" to the text, and to the headers that are sent. */
static int add_header(struct s3_request *request, size_t *used,
                      const char *name, const char *value)
{
    char *to = request->text + *used;
    size_t room = sizeof request->text - *used;
    int length = snprintf(to, room, "%s: %s", name, value);

    if (length < 0 || (size_t)length >= room ||
        request->http.headers_n == S3_HEADERS_MAX)
        return E2BIG;
    *used += (size_t)length + 1;
    request->headers[request->http.headers_n++] = to;
    return 0;
}

/* Those that are signed, sorted by name. */
static unsigned signed_headers(const struct s3_request *request,
                               const char *date, struct sigv4_header *ret)
{
    const struct s3_store *s3 = request->s3;
    unsigned n = 0;

    ret[n++] = (struct sigv4_header){"host", s3->place->address.host};
    if (request->call->verb == STORE_CREATE) {
        ret[n++] = (struct sigv4_header){"if-none-match", "*"};
        ret[n++] = (struct sigv4_header){"x-amz-checksum-crc32c", request->crc};
    }
    ret[n++] = (struct sigv4_header){"x-amz-content-sha256", request->hash};
    ret[n++] = (struct sigv4_header){"x-amz-date", date};
    if (s3->credentials.session_token)
        ret[n++] = (struct sigv4_header){"x-amz-security-token",
                                         s3->credentials.session_token};
    return n;
}

static int make_headers(struct s3_request *request, const char *path,
                        const char *query)
{
    struct s3_store *s3 = request->s3;
    const struct store_call *call = request->call;
    struct sigv4_header headers[SIGV4_HEADERS_MAX];
    char date[SIGV4_DATE_SIZE], authorization[SIGV4_TEXT_MAX], range[64];
    struct sigv4_request sign = {
        .method = request->http.method,
        .path = path,
        .query = query,
        .headers = headers,
        .payload_hash = request->hash,
        .date = date,
        .region = s3->place->region,
        .service = "s3",
        .access_key = s3->credentials.access_key,
        .secret_key = s3->credentials.secret_key,
    };
    size_t used = 0;
    int err;

    sigv4_date(time(NULL) + (time_t)s3->skew_s, date);
    sign.headers_n = signed_headers(request, date, headers);
    err = sigv4_sign(&s3->key, &sign, authorization);
    request->http.headers_n = 0;
    /* The host is in the URL. */
    for (unsigned i = 1; i < sign.headers_n && !err; i++) {
        if (strcmp(headers[i].name, "x-amz-security-token") == 0) {
            if (snprintf(request->token, sizeof request->token, "%s: %s",
                         headers[i].name,
                         headers[i].value) >= (int)sizeof request->token)
                return E2BIG;
            request->headers[request->http.headers_n++] = request->token;
            continue;
        }
        err = add_header(request, &used, headers[i].name, headers[i].value);
    }
    if (!err)
        err = add_header(request, &used, "Authorization", authorization);
    if (!err && call->verb == STORE_GET && (call->offset || call->length)) {
        if (call->length)
            snprintf(range, sizeof range, "bytes=%" PRIu64 "-%" PRIu64,
                     call->offset, call->offset + call->length - 1);
        else
            snprintf(range, sizeof range, "bytes=%" PRIu64 "-", call->offset);
        err = add_header(request, &used, "Range", range);
    }
    if (!err && call->verb == STORE_CREATE)
        err = add_header(request, &used, "Content-Type",
                         "application/octet-stream");
    request->http.headers = request->headers;
    return err;
}

int s3_request_build(struct s3_request *request)
{
    static const char *const methods[STORE_VERBS] = {
        [STORE_CREATE] = "PUT",
        [STORE_GET] = "GET",
        [STORE_LIST] = "GET",
        [STORE_DELETE] = "DELETE",
    };
    const struct store_call *call = request->call;
    const struct s3_store *s3 = request->s3;
    char path[S3_PATH_MAX], query[S3_QUERY_MAX];
    int err;

    request->http.method = methods[call->verb];
    err = make_path(s3, call, path, sizeof path);
    if (!err)
        err = make_query(s3, call, query, sizeof query);
    if (!err)
        err = make_headers(request, path, query);
    if (err)
        return err;
    snprintf(request->url, sizeof request->url, "%s://%s%s%s%s",
             s3->place->address.tls ? "https" : "http", s3->place->address.host,
             path, query[0] ? "?" : "", query);
    request->http.url = request->url;
    request->http.body = call->verb == STORE_CREATE ? call->body : NULL;
    request->http.body_n = call->verb == STORE_CREATE ? call->body_n : 0;
    request->http.length = call->verb == STORE_CREATE ? call->length : 0;
    return 0;
}
