/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What S3's answers mean: status, fields and bodies to a store_result.
 *
 * Only what is certain is said to be so.  "Missing" needs S3's own document
 * that says so, as a proxy's 404 says nothing about the bucket; a part of an
 * object needs the Content-Range that was asked for; a status of success with
 * an error in its body is none.  Whatever may have been done is UNKNOWN (I2).
 *
 * Codes are those of "Error responses" in Amazon's S3 API reference. */
#include "s3.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

/* --- as it comes --- */

void s3_answer_begin(struct s3_request *request)
{
    struct store_call *call = request->call;

    s3_text_free(request->document);
    request->document = NULL;
    request->bad_document = false;
    request->first = true;
    request->has_range = false;
    request->range_size = UINT64_MAX;
    request->retry_after_s = 0;
    request->date_s = 0;
    store_begin_bytes(call);
    call->size = UINT64_MAX;
    call->more = false;
    call->retry_after_ns = 0;
}

static int64_t parse_date(const char *text)
{
    struct tm tm;
    const char *end;

    memset(&tm, 0, sizeof tm);
    end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    return end ? (int64_t)timegm(&tm) : 0;
}

/* "bytes FIRST-LAST/SIZE" or "bytes *" "/SIZE", SIZE may be "*". */
static void parse_range(struct s3_request *request, const char *text)
{
    uint64_t start, end, size;

    request->has_range = false;
    if (sscanf(text, "bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64, &start, &end,
               &size) == 3) {
        request->has_range = start <= end && end < size;
        request->range_start = start;
        request->range_end = end;
        request->range_size = size;
    } else if (sscanf(text, "bytes */%" SCNu64, &size) == 1) {
        request->range_size = size;
    }
}

void s3_answer_field(struct http_call *http, const char *name,
                     const char *value)
{
    struct s3_request *request = http->arg;

    if (strcasecmp(name, "Content-Range") == 0) {
        parse_range(request, value);
    } else if (strcasecmp(name, "Date") == 0) {
        request->date_s = parse_date(value);
    } else if (strcasecmp(name, "Retry-After") == 0) {
        char *end;
        unsigned long seconds = strtoul(value, &end, 10);

        if (end != value && value[0] != '-')
            request->retry_after_s = seconds;
        else if (parse_date(value) > (int64_t)time(NULL))
            request->retry_after_s =
                (uint64_t)(parse_date(value) - (int64_t)time(NULL));
        /* "In a year" is no reason to stop for a year. */
        if (request->retry_after_s > 3600)
            request->retry_after_s = 3600;
    }
}

static void on_key(void *arg, const char *key, uint64_t size)
{
    struct s3_request *request = arg;
    struct store_call *call = request->call;
    const char *prefix = request->s3->place->address.prefix;
    size_t length = strlen(prefix);

    /* Not what was asked for: foreign, or a "folder" itself. */
    if (strncmp(key, prefix, length) != 0 || !key[length] ||
        strlen(key + length) > STORE_NAME_MAX)
        return;
    if (call->found)
        call->found(call, key + length, size);
}

static bool is_success(int status)
{
    return status >= 200 && status < 300;
}

static bool feed_document(struct s3_request *request, const void *bytes,
                          size_t n)
{
    struct s3_text_events events = {.key = on_key, .arg = request};

    if (request->bad_document)
        return true; /* the connection is good for more */
    if (!request->document)
        request->document =
            s3_text_new(request->call->verb == STORE_LIST ? &events : NULL);
    if (!request->document || s3_text_feed(request->document, bytes, n) != 0)
        request->bad_document = true;
    return true;
}

bool s3_answer_bytes(struct http_call *http, const void *bytes, size_t n)
{
    struct s3_request *request = http->arg;
    struct store_call *call = request->call;
    bool first = request->first;

    request->first = false;
    if (!is_success(http->status) || call->verb != STORE_GET)
        return feed_document(request, bytes, n);
    /* No object of ours begins with '<'; error documents do. */
    if (request->document ||
        (first && http->status == 200 && n > 0 && *(const char *)bytes == '<'))
        return feed_document(request, bytes, n);
    return store_put_bytes(call, bytes, n);
}

/* --- when it has ended --- */

/* The code of an error document; "" if there is none that is whole. */
static const char *end_document(struct s3_request *request)
{
    if (!request->document || request->bad_document ||
        s3_text_end(request->document) != 0) {
        request->bad_document = true;
        return "";
    }
    return s3_text_document(request->document) == S3_ERROR
               ? s3_text_code(request->document)
               : "";
}

static enum s3_advice answer(struct s3_request *request,
                             enum store_result result, const char *text)
{
    store_answer(request->call, result, "%.60s: %.90s", request->call->name,
                 text);
    return S3_NOTHING_MORE;
}

/* Nobody knows: it may have been done, or may be done now. */
static enum s3_advice unclear(struct s3_request *request,
                              enum store_result else_result, const char *text)
{
    return answer(request,
                  request->call->verb == STORE_CREATE ? STORE_UNKNOWN
                                                      : else_result,
                  text);
}

static enum s3_advice of_failure(struct s3_request *request)
{
    switch (request->http.failure) {
    case HTTP_CANCELLED:
        return answer(request, STORE_CANCELLED, "cancelled");
    case HTTP_REFUSED:
        return unclear(request, STORE_BROKEN, "more bytes than were asked for");
    case HTTP_UNREACHED:
        return answer(request, STORE_BUSY, request->http.why);
    default:
        return unclear(request, STORE_UNKNOWN, request->http.why);
    }
}

static enum s3_advice of_created(struct s3_request *request)
{
    if (!request->first) {
        const char *code = end_document(request);

        if (request->bad_document || code[0])
            return answer(request, STORE_UNKNOWN,
                          code[0] ? code : "success, with a body of its own");
    }
    return answer(request, STORE_OK, "");
}

static enum s3_advice of_listing(struct s3_request *request)
{
    end_document(request);
    if (request->bad_document ||
        s3_text_document(request->document) != S3_LISTING)
        return answer(request, STORE_BROKEN,
                      request->document ? s3_text_why(request->document)
                                        : "it is no listing");
    request->call->more = s3_text_next(request->document) != NULL;
    return answer(request, STORE_OK, "");
}

/* All of the object, or the part with the bytes that were asked for. */
static enum s3_advice of_bytes(struct s3_request *request)
{
    struct store_call *call = request->call;
    const struct http_call *http = &request->http;

    if (request->document) {
        const char *code = end_document(request);

        return answer(request, STORE_BROKEN,
                      code[0] ? code : "a document instead of the object");
    }
    if (http->status == 206) {
        if (!request->has_range || request->range_start != call->offset ||
            call->got != request->range_end - request->range_start + 1)
            return answer(request, STORE_BROKEN,
                          "it is not the part that was asked for");
        if (call->length ? call->got < call->length &&
                               request->range_end + 1 != request->range_size
                         : request->range_end + 1 != request->range_size)
            return answer(request, STORE_BROKEN, "it was cut");
        call->size = request->range_size;
        return answer(request, STORE_OK, "");
    }
    if (http->status != 200 || call->offset != 0)
        return answer(request, STORE_BROKEN,
                      "the store does not know byte ranges");
    call->size = call->got;
    return answer(request, STORE_OK, "");
}

static enum s3_advice of_success(struct s3_request *request)
{
    switch (request->call->verb) {
    case STORE_CREATE:
        return of_created(request);
    case STORE_GET:
        return of_bytes(request);
    case STORE_LIST:
        return of_listing(request);
    default:
        return answer(request, STORE_OK, "");
    }
}

/* Codes that say what is to be done, whatever the status is. */
struct meaning {
    const char *code;
    enum store_result result;
    enum s3_advice advice;
};
static const struct meaning meanings[] = {
    {"ExpiredToken", STORE_BUSY, S3_RENEW},
    {"ExpiredTokenException", STORE_BUSY, S3_RENEW},
    {"TokenRefreshRequired", STORE_BUSY, S3_RENEW},
    {"InvalidToken", STORE_DENIED, S3_RENEW},
    {"InvalidAccessKeyId", STORE_DENIED, S3_RENEW},
    {"SignatureDoesNotMatch", STORE_DENIED, S3_RENEW},
    {"RequestTimeTooSkewed", STORE_BUSY, S3_SKEW},
    {"RequestExpired", STORE_BUSY, S3_SKEW},
    {"RequestTimeout", STORE_UNKNOWN, S3_NOTHING_MORE},
    {"IncompleteBody", STORE_UNKNOWN, S3_NOTHING_MORE},
    {"BadDigest", STORE_UNKNOWN, S3_NOTHING_MORE},
    {"XAmzContentSHA256Mismatch", STORE_UNKNOWN, S3_NOTHING_MORE},
    {"OperationAborted", STORE_UNKNOWN, S3_NOTHING_MORE},
    {"ConditionalRequestConflict", STORE_UNKNOWN, S3_NOTHING_MORE},
    {"QuotaExceeded", STORE_NO_SPACE, S3_NOTHING_MORE},
    {"NotEnoughSpace", STORE_NO_SPACE, S3_NOTHING_MORE},
    {"XMinioStorageFull", STORE_NO_SPACE, S3_NOTHING_MORE},
};

static enum s3_advice say(struct s3_request *request, enum store_result result,
                          const char *code)
{
    const char *message =
        request->document && code[0] ? s3_text_message(request->document) : "";
    char text[S3_CODE_MAX + S3_MESSAGE_MAX + 32];

    snprintf(text, sizeof text, "HTTP status %d%s%s%s%s", request->http.status,
             code[0] ? ", " : "", code, message[0] ? ": " : "", message);
    return answer(request, result, text);
}

/* A redirection or a refusal that trying again does not mend. */
static enum s3_advice of_refusal(struct s3_request *request, const char *code)
{
    const struct store_call *call = request->call;

    switch (request->http.status) {
    case 301:
    case 308:
        return answer(request, STORE_DENIED,
                      "the bucket is elsewhere: region= or endpoint= is wrong");
    case 302:
    case 307:
        return say(request, STORE_BUSY, code);
    case 404:
        if (strcmp(code, "NoSuchKey") == 0 && call->verb == STORE_GET)
            return say(request, STORE_MISSING, code);
        if (call->verb == STORE_DELETE && strcmp(code, "NoSuchKey") == 0)
            return answer(request, STORE_OK, "");
        /* Of Amazon's codes for 404 only this one is for good. */
        if (strcmp(code, "NoSuchBucket") == 0)
            return say(request, STORE_DENIED, code);
        return unclear(request, STORE_BROKEN,
                       "not found, but it is not S3 that says so");
    case 405:
    case 501:
        if (call->verb == STORE_CREATE)
            return answer(request, STORE_DENIED,
                          "this store cannot create an object only if it is "
                          "absent (If-None-Match: *)");
        return say(request, STORE_DENIED, code);
    default:
        return say(request, STORE_DENIED, code);
    }
}

/* Nothing lies at the offset, which is right only at the begin of an object
 * that is empty. */
static enum s3_advice of_unsatisfiable(struct s3_request *request)
{
    struct store_call *call = request->call;

    if (call->offset > 0)
        return answer(request, STORE_BROKEN, "a range behind its end");
    call->size = 0;
    return answer(request, STORE_OK, "");
}

static enum s3_advice of_error(struct s3_request *request)
{
    const struct store_call *call = request->call;
    int status = request->http.status;
    const char *code = end_document(request);

    request->call->retry_after_ns = request->retry_after_s * 1000000000;
    for (size_t i = 0; i < sizeof meanings / sizeof meanings[0]; i++)
        if (strcmp(code, meanings[i].code) == 0) {
            enum store_result result = meanings[i].result;

            if (result == STORE_UNKNOWN && call->verb != STORE_CREATE)
                result = STORE_BROKEN;
            say(request, result, code);
            return meanings[i].advice;
        }
    if (status == 412 && call->verb == STORE_CREATE)
        return say(request, STORE_EXISTS, code);
    if (status == 416 && call->verb == STORE_GET)
        return of_unsatisfiable(request);
    if (status == 409 || status == 408)
        return unclear(request, STORE_BUSY, code[0] ? code : "a conflict");
    if (status == 429 || status >= 500) {
        if (status == 501)
            return of_refusal(request, code);
        if (status == 507)
            return say(request, STORE_NO_SPACE, code);
        return say(request,
                   call->verb == STORE_CREATE ? STORE_UNKNOWN : STORE_BUSY,
                   code);
    }
    return of_refusal(request, code);
}

enum s3_advice s3_answer_end(struct s3_request *request)
{
    const struct http_call *http = &request->http;

    if (http->failure != HTTP_NONE)
        return of_failure(request);
    if (is_success(http->status))
        return of_success(request);
    return of_error(request);
}
