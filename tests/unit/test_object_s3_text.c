/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* S3's documents: what is read from them, whole and byte by byte, and what is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "plugins/object/s3_text.h"

static char seen[4096];

static void on_key(void *arg, const char *key, uint64_t size)
{
    size_t used = strlen(seen);

    (void)arg;
    snprintf(seen + used, sizeof seen - used, "%s=%llu;", key,
             (unsigned long long)size);
}

static void on_failed(void *arg, const char *key, const char *code,
                      const char *message)
{
    size_t used = strlen(seen);

    (void)arg;
    snprintf(seen + used, sizeof seen - used, "%s: %s, %s;", key, code,
             message);
}

/* In steps of so many bytes; the error of feed or end, and the text if there is
 * none. */
static int read_text(const char *document, size_t length, size_t step,
                     struct s3_text **ret)
{
    struct s3_text_events events = {.key = on_key, .failed = on_failed};
    struct s3_text *text = s3_text_new(&events);
    int err = 0;

    seen[0] = '\0';
    assert_non_null(text);
    for (size_t at = 0; at < length && !err; at += step)
        err = s3_text_feed(text, document + at,
                           length - at < step ? length - at : step);
    if (!err)
        err = s3_text_end(text);
    if (err) {
        assert_true(s3_text_why(text)[0]);
        s3_text_free(text);
        text = NULL;
    }
    *ret = text;
    return err;
}

static const char listing[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
    "<Name>disks</Name><Prefix>a&amp;b/</Prefix><KeyCount>2</KeyCount>"
    "<IsTruncated>true</IsTruncated>"
    "<NextContinuationToken>to&lt;ken</NextContinuationToken>"
    "<Contents><Key>a&amp;b/1</Key><ETag>&quot;x&quot;</ETag><Size>42</Size>"
    "<Owner><ID>7</ID><Key>not this</Key></Owner></Contents>"
    "<Contents>\n  <Size>18446744073709551615</Size>\n  <Key>a&#38;b/2</Key>"
    "</Contents><CommonPrefixes><Prefix>z</Prefix></CommonPrefixes>"
    "</ListBucketResult>";

static void a_listing(void **state)
{
    static const char small[] = "<ListBucketResult><IsTruncated>false"
                                "</IsTruncated></ListBucketResult>";
    struct s3_text *text;

    (void)state;
    for (size_t step = 1; step <= sizeof listing; step += step < 8 ? 1 : 50) {
        char document[sizeof listing];

        memcpy(document, listing, sizeof listing);
        /* One less than what a size can't be. */
        memcpy(strstr(document, "18446744073709551615"), "00000000000000000043",
               20);
        assert_int_equal(read_text(document, sizeof listing - 1, step, &text),
                         0);
        assert_int_equal(s3_text_document(text), S3_LISTING);
        assert_string_equal(seen, "a&b/1=42;a&b/2=43;");
        assert_string_equal(s3_text_next(text), "to<ken");
        s3_text_free(text);
    }
    assert_int_equal(read_text(small, sizeof small - 1, 7, &text), 0);
    assert_null(s3_text_next(text));
    assert_string_equal(seen, "");
    s3_text_free(text);
}

static void cut_anywhere(void **state)
{
    struct s3_text *text;

    (void)state;
    for (size_t n = 0; n < sizeof listing - 1; n++)
        assert_int_equal(read_text(listing, n, 100, &text), EINVAL);
}

static void encoded_keys(void **state)
{
    static const char document[] =
        "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false"
        "</IsTruncated><Contents><Key>a%20b+c%2fd%C3%A9</Key><Size>1</Size>"
        "</Contents></ListBucketResult>";
    struct s3_text *text;

    (void)state;
    assert_int_equal(read_text(document, sizeof document - 1, 5, &text), 0);
    assert_string_equal(seen, "a b c/d\xc3\xa9=1;");
    s3_text_free(text);
}

static void an_error(void **state)
{
    static const char document[] =
        "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>The "
        "&quot;key&quot; is not there</Message><Resource>/x</Resource></Error>";
    struct s3_text *text;

    (void)state;
    assert_int_equal(read_text(document, sizeof document - 1, 3, &text), 0);
    assert_int_equal(s3_text_document(text), S3_ERROR);
    assert_string_equal(s3_text_code(text), "NoSuchKey");
    assert_string_equal(s3_text_message(text), "The \"key\" is not there");
    s3_text_free(text);
}

static void a_delete_result(void **state)
{
    static const char document[] =
        "<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>b</Key>"
        "<Code>AccessDenied</Code><Message>no</Message></Error><Error>"
        "<Key>c</Key><Code>InternalError</Code></Error></DeleteResult>";
    struct s3_text *text;

    (void)state;
    assert_int_equal(read_text(document, sizeof document - 1, 9, &text), 0);
    assert_int_equal(s3_text_document(text), S3_DELETED);
    assert_string_equal(seen, "b: AccessDenied, no;c: InternalError, ;");
    s3_text_free(text);
}

static void others(void **state)
{
    static const char page[] = "<html><head/><body>Sorry</body></html>";
    struct s3_text *text;

    (void)state;
    assert_int_equal(read_text(page, sizeof page - 1, 4, &text), 0);
    assert_int_equal(s3_text_document(text), S3_OTHER);
    assert_string_equal(s3_text_code(text), "");
    s3_text_free(text);
}

#define CONTENTS(x)                                                            \
    "<ListBucketResult><IsTruncated>false</IsTruncated><Contents>" x           \
    "</Contents></ListBucketResult>"

static void refused(void **state)
{
    static const char *const documents[] = {
        "",
        "no XML at all",
        "<!DOCTYPE html><html></html>",
        "<!DOCTYPE e [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><Error>"
        "<Code>&b;</Code></Error>",
        "<Error><Code>a</Error></Code>",
        "<Error><Message>no code</Message></Error>",
        "<Error></Error><Error></Error>",
        "<ListBucketResult></ListBucketResult>",
        "<ListBucketResult><IsTruncated>maybe</IsTruncated></ListBucketResult>",
        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        CONTENTS("<Key>a</Key>"),
        CONTENTS("<Size>1</Size>"),
        CONTENTS("<Key>a</Key><Size>-1</Size>"),
        CONTENTS("<Key>a</Key><Size></Size>"),
        CONTENTS("<Key>a</Key><Size>1k</Size>"),
        CONTENTS("<Key>a</Key><Size>99999999999999999999</Size>"),
        "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false"
        "</IsTruncated><Contents><Key>%0</Key><Size>1</Size></Contents>"
        "</ListBucketResult>",
        "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false"
        "</IsTruncated><Contents><Key>%00</Key><Size>1</Size></Contents>"
        "</ListBucketResult>",
        "<DeleteResult><Error><Key>a</Key></Error></DeleteResult>",
        "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a></a></a></a></a>"
        "</a></a></a></a></a></a></a></a></a></a></a></a></a>",
    };
    struct s3_text *text;

    (void)state;
    for (size_t i = 0; i < sizeof documents / sizeof documents[0]; i++)
        for (size_t step = 1; step < 40; step += 19)
            assert_int_equal(
                read_text(documents[i], strlen(documents[i]), step, &text),
                EINVAL);
}

/* A text that is longer than a key may be; a document that does not end. */
static void too_long(void **state)
{
    static char document[20000];
    struct s3_text *text = s3_text_new(NULL);
    int err = 0;

    (void)state;
    memset(document, 'k', sizeof document);
    assert_int_equal(
        s3_text_feed(text, "<ListBucketResult><Contents><Key>", 33), 0);
    assert_int_equal(s3_text_feed(text, document, sizeof document), EINVAL);
    s3_text_free(text);

    text = s3_text_new(NULL);
    assert_int_equal(s3_text_feed(text, "<Error><Message>", 16), 0);
    for (unsigned i = 0; i < S3_TEXT_MAX / sizeof document + 1 && !err; i++)
        err = s3_text_feed(text, document, sizeof document);
    assert_int_equal(err, EINVAL);
    assert_non_null(strstr(s3_text_why(text), "longer"));
    s3_text_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_listing),       cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(encoded_keys),    cmocka_unit_test(an_error),
        cmocka_unit_test(a_delete_result), cmocka_unit_test(others),
        cmocka_unit_test(refused),         cmocka_unit_test(too_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
