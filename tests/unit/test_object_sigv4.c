/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Signature Version 4, by the examples of Amazon's S3 API reference
 * ("Authenticating requests: using the Authorization header"). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "plugins/object/sigv4.h"

#define KEY    "AKIAIOSFODNN7EXAMPLE"
#define SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define HOST   "examplebucket.s3.amazonaws.com"
#define DATE   "20130524T000000Z"

static struct sigv4_request example(const struct sigv4_header *headers,
                                    unsigned n)
{
    return (struct sigv4_request){
        .method = "GET",
        .path = "/",
        .query = "",
        .headers = headers,
        .headers_n = n,
        .payload_hash = SIGV4_EMPTY_SHA256,
        .date = DATE,
        .region = "us-east-1",
        .service = "s3",
        .access_key = KEY,
        .secret_key = SECRET,
    };
}

static void expect(const struct sigv4_request *request, const char *names,
                   const char *signature)
{
    struct sigv4_key key = {0};
    char text[SIGV4_TEXT_MAX], wanted[SIGV4_TEXT_MAX];

    snprintf(wanted, sizeof wanted,
             "AWS4-HMAC-SHA256 Credential=" KEY
             "/20130524/us-east-1/s3/aws4_request,SignedHeaders=%s,"
             "Signature=%s",
             names, signature);
    /* The second time with the key of the first. */
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(sigv4_sign(&key, request, text), 0);
        assert_string_equal(text, wanted);
    }
    sigv4_key_finish(&key);
}

static void get_object(void **state)
{
    static const struct sigv4_header headers[] = {
        {"host", HOST},
        {"range", "bytes=0-9"},
        {"x-amz-content-sha256", SIGV4_EMPTY_SHA256},
        {"x-amz-date", DATE}};
    struct sigv4_request request = example(headers, 4);

    (void)state;
    request.path = "/test.txt";
    expect(&request, "host;range;x-amz-content-sha256;x-amz-date",
           "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void put_object(void **state)
{
    char hash[SIGV4_HASH_SIZE], path[64];
    struct iovec body[] = {{(char *)"Welcome to ", 11},
                           {(char *)"Amazon S3.", 10}};
    struct sigv4_header headers[] = {
        {"date", "Fri, 24 May 2013 00:00:00 GMT"},
        {"host", HOST},
        {"x-amz-content-sha256", hash},
        {"x-amz-date", DATE},
        {"x-amz-storage-class", "REDUCED_REDUNDANCY"}};
    struct sigv4_request request = example(headers, 5);

    (void)state;
    assert_int_equal(sigv4_hash(body, 2, hash), 0);
    assert_string_equal(
        hash,
        "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
    assert_int_equal(sigv4_encode("/test$file.text", true, path, sizeof path),
                     0);
    request.method = "PUT";
    request.path = path;
    request.payload_hash = hash;
    expect(&request,
           "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
           "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static const struct sigv4_header plain[] = {
    {"host", HOST},
    {"x-amz-content-sha256", SIGV4_EMPTY_SHA256},
    {"x-amz-date", DATE}};

static void get_lifecycle(void **state)
{
    struct sigv4_request request = example(plain, 3);

    (void)state;
    request.query = "lifecycle";
    expect(&request, "host;x-amz-content-sha256;x-amz-date",
           "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

static void list_objects(void **state)
{
    struct sigv4_request request = example(plain, 3);

    (void)state;
    request.query = "max-keys=2&prefix=J";
    expect(&request, "host;x-amz-content-sha256;x-amz-date",
           "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

/* What the key is of: if any of it is another, so is the signature; and back
 * again it is what it was. */
static void the_key_is_of_its_day_and_place(void **state)
{
    struct sigv4_key key = {0};
    struct sigv4_request first = example(plain, 3), request = first;
    char text[SIGV4_TEXT_MAX], other[SIGV4_TEXT_MAX];

    (void)state;
    assert_int_equal(sigv4_sign(&key, &first, text), 0);
    request.secret_key = "another";
    assert_int_equal(sigv4_sign(&key, &request, other), 0);
    assert_string_not_equal(strstr(text, "Signature"),
                            strstr(other, "Signature"));
    request = first;
    request.region = "eu-central-1";
    assert_int_equal(sigv4_sign(&key, &request, other), 0);
    assert_string_not_equal(strstr(text, "Signature"),
                            strstr(other, "Signature"));
    request = first;
    request.date = "20130525T000000Z";
    assert_int_equal(sigv4_sign(&key, &request, other), 0);
    assert_string_not_equal(strstr(text, "Signature"),
                            strstr(other, "Signature"));
    assert_int_equal(sigv4_sign(&key, &first, other), 0);
    assert_string_equal(text, other);
    sigv4_key_finish(&key);
    for (size_t i = 0; i < sizeof key; i++)
        assert_int_equal(((uint8_t *)&key)[i], 0);
}

/* Blanks around a value don't count, and several are one. */
static void values_are_trimmed(void **state)
{
    struct sigv4_header headers[] = {
        {"host", "  " HOST "\t "},
        {"x-amz-content-sha256", SIGV4_EMPTY_SHA256},
        {"x-amz-date", DATE}};
    struct sigv4_request request = example(headers, 3);

    (void)state;
    request.query = "lifecycle";
    expect(&request, "host;x-amz-content-sha256;x-amz-date",
           "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

static void what_is_too_much_is_refused(void **state)
{
    static char long_text[2000];
    struct sigv4_header headers[SIGV4_HEADERS_MAX + 1];
    struct sigv4_key key = {0};
    struct sigv4_request request = example(plain, 3);
    char text[SIGV4_TEXT_MAX], encoded[7];

    (void)state;
    memset(long_text, 'x', sizeof long_text - 1);
    for (unsigned i = 0; i <= SIGV4_HEADERS_MAX; i++)
        headers[i] = (struct sigv4_header){"a", "b"};
    request.headers = headers;
    request.headers_n = SIGV4_HEADERS_MAX + 1;
    assert_int_equal(sigv4_sign(&key, &request, text), EINVAL);
    request = example(plain, 3);
    request.access_key = long_text;
    assert_int_equal(sigv4_sign(&key, &request, text), E2BIG);
    request = example(plain, 3);
    request.secret_key = long_text;
    assert_int_equal(sigv4_sign(&key, &request, text), E2BIG);
    request = example(plain, 3);
    request.region = long_text;
    assert_int_equal(sigv4_sign(&key, &request, text), E2BIG);
    request = example(plain, 3);
    request.date = "2013";
    assert_int_equal(sigv4_sign(&key, &request, text), EINVAL);
    assert_int_equal(sigv4_encode("a b", true, encoded, 5), E2BIG);
    assert_int_equal(sigv4_encode("a b", true, encoded, 6), 0);
    assert_string_equal(encoded, "a%20b");
}

static void encoding(void **state)
{
    char text[100];

    (void)state;
    assert_int_equal(
        sigv4_encode("aZ09-._~/ +%&=\xc3\xa9", true, text, sizeof text), 0);
    assert_string_equal(text, "aZ09-._~/%20%2B%25%26%3D%C3%A9");
    assert_int_equal(sigv4_encode("a/b", false, text, sizeof text), 0);
    assert_string_equal(text, "a%2Fb");
}

static void dates(void **state)
{
    char text[SIGV4_DATE_SIZE];

    (void)state;
    sigv4_date(0, text);
    assert_string_equal(text, "19700101T000000Z");
    sigv4_date(1369353600, text);
    assert_string_equal(text, DATE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(get_object),
        cmocka_unit_test(put_object),
        cmocka_unit_test(get_lifecycle),
        cmocka_unit_test(list_objects),
        cmocka_unit_test(the_key_is_of_its_day_and_place),
        cmocka_unit_test(values_are_trimmed),
        cmocka_unit_test(what_is_too_much_is_refused),
        cmocka_unit_test(encoding),
        cmocka_unit_test(dates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
