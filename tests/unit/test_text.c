/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Text from strangers: what is UTF-8, where it may be cut, how it is shown. */
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Encodes any number, valid or not, in the given count of bytes. */
static void encode(uint32_t point, size_t bytes, char *to)
{
    static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};

    if (bytes == 1) {
        to[0] = (char)point;
        return;
    }
    for (size_t i = bytes - 1; i > 0; i--) {
        to[i] = (char)(0x80 | (point & 0x3f));
        point >>= 6;
    }
    to[0] = (char)(first[bytes] | point);
}

static void takes_every_character_in_its_shortest_form_only(void **state)
{
    char text[4];

    (void)state;
    for (uint32_t point = 0; point <= 0x1fffff; point++) {
        size_t shortest = point < 0x80      ? 1
                          : point < 0x800   ? 2
                          : point < 0x10000 ? 3
                                            : 4;
        bool surrogate = point >= 0xd800 && point <= 0xdfff;
        bool valid = point > 0 && point <= 0x10ffff && !surrogate;

        for (size_t bytes = shortest; bytes <= 4; bytes++) {
            encode(point, bytes, text);
            if (text_is_utf8(text, bytes) != (valid && bytes == shortest))
                fail_msg("U+%04x in %zu bytes", (unsigned)point, bytes);
        }
    }
}

static void refuses_stray_and_missing_bytes(void **state)
{
    static const char *const bad[] = {
        "\x80",         "a\xbf",
        "\xc3",         "\xc3z",
        "\xe2\x82",     "\xe2\x82z",
        "\xf0\x9f\x92", "\xf0\x9f\x92z",
        "\xf8\x88\x80", "\xfe",
        "\xff",         "\xc0\x80",
        "\xc1\xbf",     "\xf5\x80\x80\x80",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(text_is_utf8(bad[i], strlen(bad[i])));
    assert_true(text_is_utf8("", 0));
    assert_true(text_is_utf8("\xe2\x82\xac", 3));
    assert_false(text_is_utf8("a\0b", 3));
    assert_int_equal(text_utf8_next("\xe2\x82\xac", 0), 0);
    assert_int_equal(text_utf8_next("\xe2\x82\xac", 2), 0);
    assert_int_equal(text_utf8_next("\xe2\x82\xac", 3), 3);
}

static void cuts_between_characters(void **state)
{
    /* a, two bytes, three bytes, four bytes */
    static const char text[] = "a\xc3\xbc\xe2\x82\xac\xf0\x9f\x92\xbe";
    static const size_t ends[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 10};

    (void)state;
    for (size_t max = 0; max < sizeof ends / sizeof ends[0]; max++)
        assert_int_equal(text_cut_utf8(text, 10, max), ends[max]);
}

static void cuts_what_is_not_utf8_at_the_limit(void **state)
{
    (void)state;
    assert_int_equal(text_cut_utf8("\x80\x80\x80\x80\x80\x80\x80", 7, 5), 5);
    assert_int_equal(text_cut_utf8("\x80\x80", 2, 1), 1);
}

static void assert_quoted(const char *text, size_t length, size_t size,
                          const char *expected)
{
    char buf[256];

    assert_true(size < sizeof buf);
    memset(buf, '#', sizeof buf);
    assert_ptr_equal(text_quote(text, length, buf, size), buf);
    assert_string_equal(buf, expected);
    for (size_t i = size; i < sizeof buf; i++)
        assert_int_equal(buf[i], '#');
}

static void quotes_and_escapes(void **state)
{
    (void)state;
    assert_quoted("", 0, 200, "\"\"");
    assert_quoted("db1", 3, 200, "\"db1\"");
    assert_quoted("a\"b\\c", 5, 200, "\"a\\\"b\\\\c\"");
    assert_quoted("a\nb\0c\x1b\x7f", 7, 200, "\"a\\x0ab\\x00c\\x1b\\x7f\"");
    assert_quoted("gr\xc3\xbc\xc3\x9f", 6, 200, "\"gr\xc3\xbc\xc3\x9f\"");
    assert_quoted("\xff\xc3", 2, 200, "\"\\xff\\xc3\"");
    /* U+009B begins an escape sequence, U+00A0 doesn't */
    assert_quoted("\xc2\x9b\xc2\xa0", 4, 200, "\"\\xc2\\x9b\xc2\xa0\"");
}

static void fills_the_buffer_before_it_cuts(void **state)
{
    (void)state;
    assert_quoted("abcdef", 6, 9, "\"abcdef\"");
    assert_quoted("abcdefg", 7, 9, "\"abc\"...");
    assert_quoted("ab\xe2\x82\xac"
                  "defg",
                  9, 9, "\"ab\"...");
    assert_quoted("ab\xff"
                  "defg",
                  7, 10, "\"ab\"...");
    assert_quoted("abcdef", 6, 6, "\"\"...");
    assert_quoted("abc", 3, 6, "\"abc\"");
}

static void quotes_at_every_size(void **state)
{
    static const char text[] = "x\"\x01\xc3\xbc\xff\\\xc2\x85\xf0\x9f\x92\xbe";

    (void)state;
    for (size_t size = 6; size < 60; size++) {
        char buf[61];
        size_t length;

        buf[size] = '#';
        text_quote(text, sizeof text - 1, buf, size);
        assert_int_equal(buf[size], '#');
        length = strlen(buf);
        assert_in_range(length, 2, size - 1);
        assert_true(text_is_utf8(buf, length));
        assert_int_equal(buf[0], '"');
        assert_true(buf[length - 1] == '"' ||
                    strcmp(buf + length - 4, "\"...") == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_every_character_in_its_shortest_form_only),
        cmocka_unit_test(refuses_stray_and_missing_bytes),
        cmocka_unit_test(cuts_between_characters),
        cmocka_unit_test(cuts_what_is_not_utf8_at_the_limit),
        cmocka_unit_test(quotes_and_escapes),
        cmocka_unit_test(fills_the_buffer_before_it_cuts),
        cmocka_unit_test(quotes_at_every_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
