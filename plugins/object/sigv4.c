/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Signature Version 4.  See sigv4.h.
 *
 *     key = HMAC(HMAC(HMAC(HMAC("AWS4" secret, day), region), service),
 *                "aws4_request")
 *     signature = HMAC(key, text to sign), in which is the hash of
 *                 the canonical request
 *
 * The canonical request is never put together: its pieces are hashed as they
 * come, so nothing here has a bound but the result. */
#include "sigv4.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define HASH_BYTES 32

static EVP_MD *sha256;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Looked up once: EVP_sha256() would look it up for each hash. */
static void fetch(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

static const EVP_MD *sha256_md(void)
{
    pthread_once(&once, fetch);
    return sha256 ? sha256 : EVP_sha256();
}

static void to_hex(const uint8_t *bytes, char ret[SIGV4_HASH_SIZE])
{
    for (unsigned i = 0; i < HASH_BYTES; i++) {
        ret[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        ret[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    ret[SIGV4_HASH_SIZE - 1] = '\0';
}

/* --- hashing piece by piece; ctx NULL: there was no memory --- */

static EVP_MD_CTX *hash_begin(void)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    if (ctx && EVP_DigestInit_ex(ctx, sha256_md(), NULL) != 1) {
        EVP_MD_CTX_free(ctx);
        ctx = NULL;
    }
    return ctx;
}

static void hash_text(EVP_MD_CTX *ctx, const char *text)
{
    if (ctx)
        EVP_DigestUpdate(ctx, text, strlen(text));
}

static bool hash_end(EVP_MD_CTX *ctx, uint8_t ret[HASH_BYTES])
{
    bool ok = ctx && EVP_DigestFinal_ex(ctx, ret, NULL) == 1;

    EVP_MD_CTX_free(ctx);
    return ok;
}

static bool hmac(const void *key, size_t key_length, const char *text,
                 uint8_t ret[HASH_BYTES])
{
    unsigned length = 0;

    return HMAC(sha256_md(), key, (int)key_length, (const uint8_t *)text,
                strlen(text), ret, &length) &&
           length == HASH_BYTES;
}

/* It is OpenSSL's own; the name is for our callers. */
struct sigv4_hasher *sigv4_hasher_new(void)
{
    return (struct sigv4_hasher *)hash_begin();
}

void sigv4_hasher_add(struct sigv4_hasher *hasher, const void *bytes,
                      size_t length)
{
    EVP_DigestUpdate((EVP_MD_CTX *)hasher, bytes, length);
}

int sigv4_hasher_end(struct sigv4_hasher *hasher, char ret[SIGV4_HASH_SIZE])
{
    uint8_t hash[HASH_BYTES];

    if (!hash_end((EVP_MD_CTX *)hasher, hash))
        return ENOMEM;
    to_hex(hash, ret);
    return 0;
}

int sigv4_hash(const struct iovec *body, unsigned n, char ret[SIGV4_HASH_SIZE])
{
    struct sigv4_hasher *hasher = sigv4_hasher_new();

    for (unsigned i = 0; hasher && i < n; i++)
        sigv4_hasher_add(hasher, body[i].iov_base, body[i].iov_len);
    return sigv4_hasher_end(hasher, ret);
}

/* --- the key --- */

void sigv4_key_finish(struct sigv4_key *key)
{
    explicit_bzero(key, sizeof *key);
}

/* Which key it is: of the day, the place and the secret, whose hash is kept. */
static bool identify(const struct sigv4_request *request,
                     uint8_t ret[HASH_BYTES])
{
    EVP_MD_CTX *ctx = hash_begin();

    hash_text(ctx, request->region);
    hash_text(ctx, "\n");
    hash_text(ctx, request->service);
    hash_text(ctx, "\n");
    hash_text(ctx, request->secret_key);
    return hash_end(ctx, ret);
}

static bool derive(const struct sigv4_request *request, const char *day,
                   uint8_t ret[HASH_BYTES])
{
    char first[256];
    uint8_t a[HASH_BYTES], b[HASH_BYTES];
    int length = snprintf(first, sizeof first, "AWS4%s", request->secret_key);
    bool ok = length > 0 && (size_t)length < sizeof first &&
              hmac(first, (size_t)length, day, a) &&
              hmac(a, sizeof a, request->region, b) &&
              hmac(b, sizeof b, request->service, a) &&
              hmac(a, sizeof a, "aws4_request", ret);

    explicit_bzero(first, sizeof first);
    explicit_bzero(a, sizeof a);
    explicit_bzero(b, sizeof b);
    return ok;
}

/* The key for the request, from before if it is the same. */
static int find_key(struct sigv4_key *key, const struct sigv4_request *request,
                    const char *day)
{
    uint8_t of[HASH_BYTES];

    /* "AWS4" and the secret are the first HMAC's key. */
    if (strlen(request->secret_key) > 250)
        return E2BIG;
    if (!identify(request, of))
        return ENOMEM;
    if (strcmp(key->day, day) == 0 && memcmp(key->of, of, sizeof of) == 0)
        return 0;
    key->day[0] = '\0';
    if (!derive(request, day, key->key))
        return ENOMEM;
    memcpy(key->of, of, sizeof of);
    memcpy(key->day, day, sizeof key->day);
    return 0;
}

/* --- the request --- */

/* A value without the blanks around it, and with one for several in it. */
static void hash_value(EVP_MD_CTX *ctx, const char *value)
{
    bool blank = false, begun = false;

    for (; *value; value++) {
        if (*value == ' ' || *value == '\t') {
            blank = begun;
            continue;
        }
        if (blank && ctx)
            EVP_DigestUpdate(ctx, " ", 1);
        if (ctx)
            EVP_DigestUpdate(ctx, value, 1);
        blank = false;
        begun = true;
    }
}

static bool hash_request(const struct sigv4_request *request, const char *names,
                         char ret[SIGV4_HASH_SIZE])
{
    EVP_MD_CTX *ctx = hash_begin();
    uint8_t hash[HASH_BYTES];
    const char *query = request->query;

    hash_text(ctx, request->method);
    hash_text(ctx, "\n");
    hash_text(ctx, request->path);
    hash_text(ctx, "\n");
    hash_text(ctx, query);
    /* A name without a value has an empty one. */
    if (query[0] && !strchr(query, '='))
        hash_text(ctx, "=");
    hash_text(ctx, "\n");
    for (unsigned i = 0; i < request->headers_n; i++) {
        hash_text(ctx, request->headers[i].name);
        hash_text(ctx, ":");
        hash_value(ctx, request->headers[i].value);
        hash_text(ctx, "\n");
    }
    hash_text(ctx, "\n");
    hash_text(ctx, names);
    hash_text(ctx, "\n");
    hash_text(ctx, request->payload_hash);
    if (!hash_end(ctx, hash))
        return false;
    to_hex(hash, ret);
    return true;
}

/* host;x-amz-date */
static int list_names(const struct sigv4_request *request, char *ret,
                      size_t size)
{
    size_t used = 0;

    ret[0] = '\0';
    for (unsigned i = 0; i < request->headers_n; i++) {
        int length = snprintf(ret + used, size - used, "%s%s", i ? ";" : "",
                              request->headers[i].name);

        if (length < 0 || (size_t)length >= size - used)
            return E2BIG;
        used += (size_t)length;
    }
    return 0;
}

int sigv4_sign(struct sigv4_key *key, const struct sigv4_request *request,
               char ret[SIGV4_TEXT_MAX])
{
    char names[512], scope[192], text[512], day[9];
    char hash[SIGV4_HASH_SIZE], signature[SIGV4_HASH_SIZE];
    uint8_t mac[HASH_BYTES];
    int length, err;

    if (request->headers_n > SIGV4_HEADERS_MAX ||
        strlen(request->date) != SIGV4_DATE_SIZE - 1)
        return EINVAL;
    memcpy(day, request->date, 8);
    day[8] = '\0';
    err = list_names(request, names, sizeof names);
    if (!err)
        err = find_key(key, request, day);
    if (err)
        return err;
    length = snprintf(scope, sizeof scope, "%s/%s/%s/aws4_request", day,
                      request->region, request->service);
    if (length < 0 || (size_t)length >= sizeof scope)
        return E2BIG;
    if (!hash_request(request, names, hash))
        return ENOMEM;
    snprintf(text, sizeof text, "AWS4-HMAC-SHA256\n%s\n%s\n%s", request->date,
             scope, hash);
    if (!hmac(key->key, sizeof key->key, text, mac))
        return ENOMEM;
    to_hex(mac, signature);
    length = snprintf(ret, SIGV4_TEXT_MAX,
                      "AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=%s,"
                      "Signature=%s",
                      request->access_key, scope, names, signature);
    return length < 0 || length >= SIGV4_TEXT_MAX ? E2BIG : 0;
}

void sigv4_date(time_t when, char ret[SIGV4_DATE_SIZE])
{
    struct tm tm;

    gmtime_r(&when, &tm);
    if (strftime(ret, SIGV4_DATE_SIZE, "%Y%m%dT%H%M%SZ", &tm) == 0)
        strcpy(ret, "19700101T000000Z"); /* a clock beyond the year 9999 */
}

int sigv4_encode(const char *text, bool keep_slash, char *ret, size_t size)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "abcdefghijklmnopqrstuvwxyz0123456789-._~";

    for (; *text; text++) {
        bool keep = strchr(plain, *text) || (keep_slash && *text == '/');
        size_t needs = keep ? 1 : 3;

        if (size <= needs)
            return E2BIG;
        if (keep)
            *ret = *text;
        else
            snprintf(ret, size, "%%%02X", (unsigned char)*text);
        ret += needs;
        size -= needs;
    }
    if (size == 0)
        return E2BIG;
    *ret = '\0';
    return 0;
}
