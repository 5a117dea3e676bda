/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Feeds what people write (sizes, delays, probabilities, numbers, truths) and
 * what strangers send (text to be quoted, cut, put into JSON).  What is
 * accepted must be in its range and mean the same when it is written out
 * plainly; what is shown must be harmless UTF-8. */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/parse.h"
#include "base/text.h"

#define UNTOUCHED UINT64_C(0xfedcba9876543210)

typedef int parse_function(const char *text, uint64_t *ret,
                           const char **ret_why);

static int parse_any_number(const char *text, uint64_t *ret,
                            const char **ret_why)
{
    return parse_number(text, INT64_MAX, ret, ret_why);
}

static void feed_number(parse_function *parse, const char *text,
                        const char *plain_unit)
{
    uint64_t value = UNTOUCHED, again;
    const char *why = NULL;
    char plain[64];

    if (parse(text, &value, &why) != 0) {
        assert(why && *why);
        assert(value == UNTOUCHED);
        return;
    }
    assert(value <= INT64_MAX);
    snprintf(plain, sizeof plain, "%" PRIu64 "%s", value, plain_unit);
    assert(parse(plain, &again, &why) == 0);
    assert(again == value);
}

static void feed_numbers(const char *text)
{
    const char *why = NULL;
    double probability;
    bool truth;

    feed_number(parse_size, text, "");
    feed_number(parse_delay, text, "ns");
    feed_number(parse_any_number, text, "");
    if (parse_probability(text, &probability, &why) == 0)
        assert(probability >= 0 && probability <= 1);
    else
        assert(why && *why);
    why = NULL;
    if (parse_bool(text, &truth, &why) != 0)
        assert(why && *why);
}

static void feed_quote(const char *text, size_t length, size_t size)
{
    char *buf = malloc(size);

    assert(buf);
    text_quote(text, length, buf, size);

    size_t used = strlen(buf);

    assert(used >= 2 && used < size);
    assert(buf[0] == '"');
    assert(text_is_utf8(buf, used));
    for (size_t i = 0; i < used; i++)
        assert((unsigned char)buf[i] >= 0x20 && buf[i] != 0x7f);
    free(buf);
}

static void feed_text(const char *text, size_t length)
{
    bool valid = text_is_utf8(text, length);

    for (size_t size = 6; size < 40; size++)
        feed_quote(text, length, size);
    feed_quote(text, length, 8 * length + 6);
    for (size_t max = 0; max <= length && max < 40; max++) {
        size_t cut = text_cut_utf8(text, length, max);

        assert(cut <= max && max - cut <= 3);
        assert(!valid || text_is_utf8(text, cut));
    }
}

static void feed_json(const char *text)
{
    struct json json = {0};

    json_open_object(&json, NULL);
    json_string(&json, text, text);
    json_close_object(&json);

    char *result = json_finish(&json);

    assert(result && text_is_utf8(result, strlen(result)));
    free(result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    assert(text);
    memcpy(text, data, size);
    text[size] = '\0';
    feed_numbers(text);
    feed_text((const char *)data, size);
    feed_json(text);
    free(text);
    return 0;
}
