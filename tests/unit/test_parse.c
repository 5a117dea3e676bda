/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What people write for numbers: everything that is allowed, and a sentence for
 * everything that isn't. */
#include "base/parse.h"

#include <errno.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Marks a result that must not be touched by a failure. */
#define UNTOUCHED UINT64_C(0xabcdef)

struct good {
    const char *text;
    uint64_t value;
};
struct bad {
    const char *text;
    int err;
    const char *why; /* a word of the sentence */
};

typedef int parse_function(const char *text, uint64_t *ret,
                           const char **ret_why);

static void assert_good(parse_function *parse, const struct good *cases,
                        size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value = UNTOUCHED;
        const char *why = NULL;
        int err = parse(cases[i].text, &value, &why);

        if (err != 0 || value != cases[i].value)
            fail_msg("\"%s\": %d (%s), %llu", cases[i].text, err,
                     why ? why : "", (unsigned long long)value);
    }
}

static void assert_bad(parse_function *parse, const struct bad *cases,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value = UNTOUCHED;
        const char *why = NULL;
        int err = parse(cases[i].text, &value, &why);

        if (err != cases[i].err || !why || !strstr(why, cases[i].why))
            fail_msg("\"%s\": %d (%s)", cases[i].text, err, why ? why : "");
        assert_int_equal(value, UNTOUCHED);
    }
}

static void sizes_have_units(void **state)
{
    static const struct good cases[] = {
        {"0", 0},
        {"1", 1},
        {"00010", 10},
        {"1b", 1},
        {"1B", 1},
        {"3s", 1536},
        {"3S", 1536},
        {"1k", 1024},
        {"1K", 1024},
        {"5m", 5 << 20},
        {"5M", 5 << 20},
        {"1g", 1 << 30},
        {"1G", 1 << 30},
        {"1t", UINT64_C(1) << 40},
        {"1T", UINT64_C(1) << 40},
        {"1p", UINT64_C(1) << 50},
        {"1P", UINT64_C(1) << 50},
        {"7e", UINT64_C(7) << 60},
        {"7E", UINT64_C(7) << 60},
    };

    (void)state;
    assert_good(parse_size, cases, COUNT(cases));
}

static void sizes_end_at_int64_max(void **state)
{
    static const struct good cases[] = {
        {"9223372036854775807", INT64_MAX},
        {"9223372036854775807b", INT64_MAX},
        {"18014398509481983s", INT64_MAX - 511},
        {"9007199254740991k", INT64_MAX - 1023},
    };
    static const struct bad beyond[] = {
        {"9223372036854775808", ERANGE, "too large"},
        {"18446744073709551615", ERANGE, "too large"},
        {"18446744073709551616", ERANGE, "too large"},
        {"18446744073709551617", ERANGE, "too large"},
        {"99999999999999999999999999999999", ERANGE, "too large"},
        {"99999999999999999999999999999999k", ERANGE, "too large"},
        {"18014398509481984s", ERANGE, "too large"},
        {"9007199254740992k", ERANGE, "too large"},
        {"8e", ERANGE, "too large"},
        {"16e", ERANGE, "too large"},
    };

    (void)state;
    assert_good(parse_size, cases, COUNT(cases));
    assert_bad(parse_size, beyond, COUNT(beyond));
}

static void sizes_refuse_everything_else(void **state)
{
    static const struct bad cases[] = {
        {"", EINVAL, "whole number"},
        {"k", EINVAL, "whole number"},
        {" 1", EINVAL, "whole number"},
        {"+1", EINVAL, "whole number"},
        {"x", EINVAL, "whole number"},
        {"-1", ERANGE, "negative"},
        {"-1k", ERANGE, "negative"},
        {"1kb", EINVAL, "unit"},
        {"1 ", EINVAL, "unit"},
        {"1 k", EINVAL, "unit"},
        {"1.5k", EINVAL, "unit"},
        {"0x10", EINVAL, "unit"},
        {"1q", EINVAL, "unit"},
        {"1\x0b", EINVAL, "unit"},
        {"1kk", EINVAL, "unit"},
        {"1\xc2\xb5", EINVAL, "unit"},
        {"99999999999999999999q", EINVAL, "unit"},
    };

    (void)state;
    assert_bad(parse_size, cases, COUNT(cases));
}

static void bools_are_words_in_any_case(void **state)
{
    static const char *const words[2][8] = {
        {"0", "false", "f", "no", "n", "off", "OFF", "False"},
        {"1", "true", "t", "yes", "y", "on", "On", "TRUE"},
    };
    static const char *const bad[] = {"", "2", "tru", "true ", "-1", "oui"};
    const char *why;

    (void)state;
    for (int value = 0; value < 2; value++) {
        for (size_t i = 0; i < 8; i++) {
            bool result = !value;

            assert_int_equal(parse_bool(words[value][i], &result, &why), 0);
            assert_int_equal(result, value);
        }
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        bool result = true;

        why = NULL;
        assert_int_equal(parse_bool(bad[i], &result, &why), EINVAL);
        assert_non_null(strstr(why, "must be"));
        assert_true(result);
    }
}

static int parse_up_to_largest(const char *text, uint64_t *ret,
                               const char **ret_why)
{
    return parse_number(text, UINT64_MAX, ret, ret_why);
}

static int parse_up_to_65535(const char *text, uint64_t *ret,
                             const char **ret_why)
{
    return parse_number(text, 65535, ret, ret_why);
}

static int parse_up_to_5(const char *text, uint64_t *ret, const char **ret_why)
{
    return parse_number(text, 5, ret, ret_why);
}

static void numbers_have_three_bases(void **state)
{
    static const struct good cases[] = {
        {"0", 0},
        {"10", 10},
        {"0x10", 16},
        {"0XfF", 255},
        {"010", 8},
        {"00", 0},
        {"18446744073709551615", UINT64_MAX},
        {"0xffffffffffffffff", UINT64_MAX},
        {"01777777777777777777777", UINT64_MAX},
    };
    static const struct bad bad[] = {
        {"", EINVAL, "whole number"},
        {"x", EINVAL, "whole number"},
        {"0x", EINVAL, "whole number"},
        {"0xg", EINVAL, "whole number"},
        {" 1", EINVAL, "whole number"},
        {"+1", EINVAL, "whole number"},
        {"-1", ERANGE, "negative"},
        {"1k", EINVAL, "behind"},
        {"1 ", EINVAL, "behind"},
        {"1f", EINVAL, "behind"},
        {"08", EINVAL, "octal"},
        {"18446744073709551616", ERANGE, "too large"},
        {"0x10000000000000000", ERANGE, "too large"},
        {"02000000000000000000000", ERANGE, "too large"},
        {"99999999999999999999999x", EINVAL, "behind"},
    };

    (void)state;
    assert_good(parse_up_to_largest, cases, COUNT(cases));
    assert_bad(parse_up_to_largest, bad, COUNT(bad));
}

static void numbers_end_at_max(void **state)
{
    static const struct good cases[] = {{"65535", 65535}, {"0xffff", 65535}};
    static const struct bad bad[] = {
        {"65536", ERANGE, "too large"},
        {"0x10000", ERANGE, "too large"},
        {"4294967296", ERANGE, "too large"},
    };
    static const struct good small[] = {{"0", 0}, {"5", 5}};
    static const struct bad not_small[] = {
        {"6", ERANGE, "too large"},
        {"9", ERANGE, "too large"},
        {"10", ERANGE, "too large"},
        {"0xf", ERANGE, "too large"},
    };

    (void)state;
    assert_good(parse_up_to_65535, cases, COUNT(cases));
    assert_bad(parse_up_to_65535, bad, COUNT(bad));
    assert_good(parse_up_to_5, small, COUNT(small));
    assert_bad(parse_up_to_5, not_small, COUNT(not_small));
}

static void delays_have_units_and_fractions(void **state)
{
    static const struct good cases[] = {
        {"0", 0},
        {"1", 1000000000},
        {"1s", 1000000000},
        {"2ms", 2000000},
        {"3us", 3000},
        {"3\xc2\xb5s", 3000},
        {"3\xce\xbcs", 3000},
        {"4ns", 4},
        {"0.5", 500000000},
        {".5", 500000000},
        {"1.5ms", 1500000},
        {"1.001us", 1001},
        {"0.000000001", 1},
        {"0.0000000010000", 1},
        {"7.0ns", 7},
        {"9223372036.854775807", INT64_MAX},
        {"9223372036854775807ns", INT64_MAX},
        {"9223372036854775.807us", INT64_MAX},
    };

    (void)state;
    assert_good(parse_delay, cases, COUNT(cases));
}

static void delays_refuse_everything_else(void **state)
{
    static const struct bad cases[] = {
        {"", EINVAL, "number of seconds"},
        {"ms", EINVAL, "number of seconds"},
        {".", EINVAL, "number of seconds"},
        {".s", EINVAL, "number of seconds"},
        {"+1", EINVAL, "number of seconds"},
        {" 1", EINVAL, "number of seconds"},
        {"-1", ERANGE, "negative"},
        {"1.", EINVAL, "unit"},
        {"1 s", EINVAL, "unit"},
        {"1m", EINVAL, "unit"},
        {"1MS", EINVAL, "unit"},
        {"1,5", EINVAL, "unit"},
        {"1.5.5", EINVAL, "unit"},
        {"1e3", EINVAL, "unit"},
        {"1\xc2\xb5", EINVAL, "unit"},
        {"0.5ns", EINVAL, "nanosecond"},
        {"1.0001us", EINVAL, "nanosecond"},
        {"0.0000000001", EINVAL, "nanosecond"},
        {"9223372036.854775808", ERANGE, "too long"},
        {"9223372036854775808ns", ERANGE, "too long"},
        {"9223372037", ERANGE, "too long"},
        {"18446744073.709551616", ERANGE, "too long"},
        {"99999999999999999999", ERANGE, "too long"},
    };

    (void)state;
    assert_bad(parse_delay, cases, COUNT(cases));
}

static void probabilities_have_four_forms(void **state)
{
    static const struct {
        const char *text;
        double value;
    } cases[] = {
        {"0", 0},          {"1", 1},        {"0.1", 0.1},     {".25", 0.25},
        {"1.", 1},         {"1e-3", 1e-3},  {"5E-1", 0.5},    {"0e99", 0},
        {"10%", 0.1},      {"0.5%", 0.005}, {"100%", 1},      {"1:1000", 0.001},
        {"1/1000", 0.001}, {"0:5", 0},      {"2.5:10", 0.25}, {"7:7", 1},
        {"1e-999999", 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        double value = -1;
        const char *why = "";
        int err = parse_probability(cases[i].text, &value, &why);

        if (err != 0)
            fail_msg("\"%s\": %d (%s)", cases[i].text, err, why);
        assert_true(value >= cases[i].value - 1e-15);
        assert_true(value <= cases[i].value + 1e-15);
    }
}

static void probabilities_refuse_everything_else(void **state)
{
    static const struct bad cases[] = {
        {"", EINVAL, "written like"},
        {"%", EINVAL, "written like"},
        {".", EINVAL, "written like"},
        {"x", EINVAL, "written like"},
        {" 1", EINVAL, "written like"},
        {"+1", EINVAL, "written like"},
        {"0x1", EINVAL, "written like"},
        {"nan", EINVAL, "written like"},
        {"inf", EINVAL, "written like"},
        {"1e", EINVAL, "written like"},
        {"1e-", EINVAL, "written like"},
        {"0,5", EINVAL, "written like"},
        {"1%%", EINVAL, "written like"},
        {"1:", EINVAL, "written like"},
        {"1:x", EINVAL, "written like"},
        {"1:2%", EINVAL, "written like"},
        {"1:2:3", EINVAL, "written like"},
        {"0:0", EINVAL, "zero"},
        {"1:0", EINVAL, "zero"},
        {"-0.1", ERANGE, "negative"},
        {"1.0001", ERANGE, "from 0 to 1"},
        {"101%", ERANGE, "from 0 to 1"},
        {"3:2", ERANGE, "from 0 to 1"},
        {"1e999", ERANGE, "from 0 to 1"},
        {"1e999:1e999", ERANGE, "from 0 to 1"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        double value = -1;
        const char *why = NULL;
        int err = parse_probability(cases[i].text, &value, &why);

        if (err != cases[i].err || !why || !strstr(why, cases[i].why))
            fail_msg("\"%s\": %d (%s)", cases[i].text, err, why ? why : "");
        assert_true(value == -1);
    }
}

/* A locale whose decimal point is a comma, if this machine has one; else the
 * test cannot tell anything. */
static void the_locale_does_not_matter(void **state)
{
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "de_DE",
                                        "fr_FR.UTF-8", "fr_FR"};
    const char *why, *found = NULL;
    double value = -1;

    (void)state;
    for (size_t i = 0; i < COUNT(names) && !found; i++)
        found = setlocale(LC_NUMERIC, names[i]);
    if (!found) {
        print_message("SKIP: no locale with a decimal comma is installed\n");
        skip();
    }
    assert_int_equal(parse_probability("0.5", &value, &why), 0);
    assert_true(value == 0.5);
    assert_int_equal(parse_probability("0,5", &value, &why), EINVAL);
    setlocale(LC_NUMERIC, "C");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_have_units),
        cmocka_unit_test(sizes_end_at_int64_max),
        cmocka_unit_test(sizes_refuse_everything_else),
        cmocka_unit_test(bools_are_words_in_any_case),
        cmocka_unit_test(numbers_have_three_bases),
        cmocka_unit_test(numbers_end_at_max),
        cmocka_unit_test(delays_have_units_and_fractions),
        cmocka_unit_test(delays_refuse_everything_else),
        cmocka_unit_test(probabilities_have_four_forms),
        cmocka_unit_test(probabilities_refuse_everything_else),
        cmocka_unit_test(the_locale_does_not_matter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
