/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Numbers as people write them.
 *
 * Digits are read here, not by strtoull() and its kin, which skip blanks, take
 * a minus sign for a large number and follow the locale that some plugin may
 * have set.  No state; any thread. */
#include "base/parse.h"

#include <errno.h>
#include <locale.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SECOND_NS UINT64_C(1000000000)

static int fail(int err, const char *why, const char **ret_why)
{
    *ret_why = why;
    return err;
}

/* The value of a digit in bases up to 16; 16 if it is none. */
static unsigned digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    if (c >= 'a' && c <= 'f')
        return (unsigned)(c - 'a') + 10;
    if (c >= 'A' && c <= 'F')
        return (unsigned)(c - 'A') + 10;
    return 16;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Moves *text behind the digits.  False: more than max; *text is then behind
 * all digits, too. */
static bool take_digits(const char **text, unsigned base, uint64_t max,
                        uint64_t *ret)
{
    uint64_t value = 0;
    bool fits = true;

    for (; digit_value(**text) < base; ++*text) {
        unsigned digit = digit_value(**text);

        if (digit > max || value > (max - digit) / base)
            fits = false;
        if (fits)
            value = value * base + digit;
    }
    if (fits)
        *ret = value;
    return fits;
}

/* log2 of the unit, or -1. */
static int size_unit(const char *suffix)
{
    static const struct {
        char letter;
        int shift;
    } units[] = {
        {'b', 0},  {'s', 9},  {'k', 10}, {'m', 20},
        {'g', 30}, {'t', 40}, {'p', 50}, {'e', 60},
    };

    if (suffix[0] == '\0')
        return 0;
    if (suffix[1] != '\0')
        return -1;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        /* For ASCII letters, this bit is the whole difference. */
        if ((suffix[0] | 0x20) == units[i].letter)
            return units[i].shift;
    }
    return -1;
}

int parse_size(const char *text, uint64_t *ret, const char **ret_why)
{
    static const char too_large[] =
        "the size is too large (at most 9223372036854775807 bytes)";
    uint64_t value;

    if (*text == '-')
        return fail(ERANGE, "a size cannot be negative", ret_why);
    if (!is_digit(*text))
        return fail(EINVAL,
                    "a size is a whole number, then one of b k m g t p e s "
                    "or nothing",
                    ret_why);

    bool fits = take_digits(&text, 10, INT64_MAX, &value);
    int shift = size_unit(text);

    if (shift < 0)
        return fail(EINVAL,
                    "unknown unit behind the number (b k m g t p e: powers "
                    "of 1024, s: sectors of 512 bytes)",
                    ret_why);
    if (!fits || value > (uint64_t)INT64_MAX >> shift)
        return fail(ERANGE, too_large, ret_why);
    *ret = value << shift;
    return 0;
}

int parse_bool(const char *text, bool *ret, const char **ret_why)
{
    static const char *const words[2][6] = {
        {"0", "false", "f", "no", "n", "off"},
        {"1", "true", "t", "yes", "y", "on"},
    };

    for (int value = 0; value < 2; value++) {
        for (size_t i = 0; i < 6; i++) {
            if (strcasecmp(text, words[value][i]) == 0) {
                *ret = value;
                return 0;
            }
        }
    }
    return fail(EINVAL,
                "it must be 1, true, t, yes, y or on, or "
                "0, false, f, no, n or off",
                ret_why);
}

int parse_number(const char *text, uint64_t max, uint64_t *ret,
                 const char **ret_why)
{
    unsigned base = 10;
    uint64_t value;

    if (*text == '-')
        return fail(ERANGE, "the number cannot be negative", ret_why);
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        base = 16;
        text += 2;
    } else if (text[0] == '0') {
        base = 8;
    }
    if (digit_value(*text) >= base)
        return fail(EINVAL,
                    "it must be a whole number (decimal, 0x hexadecimal or "
                    "0 octal)",
                    ret_why);

    bool fits = take_digits(&text, base, max, &value);

    if (*text != '\0')
        return fail(EINVAL,
                    base == 8 ? "there is something behind the number that "
                                "does not belong to it (a leading 0 means "
                                "octal)"
                              : "there is something behind the number that "
                                "does not belong to it",
                    ret_why);
    if (!fits)
        return fail(ERANGE, "the number is too large", ret_why);
    *ret = value;
    return 0;
}

/* Nanoseconds in the unit that the suffix names; 0: none. */
static uint64_t delay_unit(const char *suffix)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {
        {"", SECOND_NS},     {"s", SECOND_NS},    {"ms", 1000000},
        {"us", 1000},        {"\xc2\xb5s", 1000}, /* U+00B5, the micro sign */
        {"\xce\xbcs", 1000},                      /* U+03BC, the Greek letter */
        {"ns", 1},
    };

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(suffix, units[i].name) == 0)
            return units[i].ns;
    }
    return 0;
}

/* False: the fraction of a unit is not a whole number of nanoseconds. */
static bool fraction_to_ns(const char *digits, uint64_t unit, uint64_t *ret)
{
    uint64_t ns = 0;

    for (; is_digit(*digits); digits++) {
        unsigned digit = digit_value(*digits);

        if (unit < 10 && digit != 0)
            return false;
        unit /= 10;
        ns += digit * unit;
    }
    *ret = ns;
    return true;
}

int parse_delay(const char *text, uint64_t *ret_ns, const char **ret_why)
{
    const char *fraction = "";
    uint64_t whole, part;

    if (*text == '-')
        return fail(ERANGE, "a delay cannot be negative", ret_why);
    if (!is_digit(text[0]) && !(text[0] == '.' && is_digit(text[1])))
        return fail(EINVAL,
                    "a delay is a number of seconds, or a number with s, ms, "
                    "us or ns behind it",
                    ret_why);

    bool fits = take_digits(&text, 10, INT64_MAX, &whole);

    if (text[0] == '.' && is_digit(text[1])) {
        fraction = ++text;
        while (is_digit(*text))
            text++;
    }

    uint64_t unit = delay_unit(text);

    if (unit == 0)
        return fail(EINVAL, "unknown unit behind the number (s, ms, us or ns)",
                    ret_why);
    if (!fraction_to_ns(fraction, unit, &part))
        return fail(EINVAL, "a delay cannot have parts of a nanosecond",
                    ret_why);
    if (!fits || whole > (INT64_MAX - part) / unit)
        return fail(ERANGE,
                    "the delay is too long (at most 9223372036 seconds)",
                    ret_why);
    *ret_ns = whole * unit + part;
    return 0;
}

/* Moves *text behind digits with a point among them; false: there are none. */
static bool skip_decimal(const char **text)
{
    bool digits = false;

    for (; is_digit(**text); ++*text)
        digits = true;
    if (**text == '.') {
        for (++*text; is_digit(**text); ++*text)
            digits = true;
    }
    return digits;
}

/* Reads a decimal number with an optional exponent.  False: there is none.  The
 * form is checked first, as strtod takes blanks, signs, hexadecimal, infinity
 * and more. */
static bool take_decimal(const char **text, double *ret)
{
    const char *start = *text, *end = start;

    if (!skip_decimal(&end))
        return false;
    if (*end == 'e' || *end == 'E') {
        const char *exponent = end + 1;

        if (*exponent == '-' || *exponent == '+')
            exponent++;
        if (!is_digit(*exponent))
            return false;
        while (is_digit(*exponent))
            exponent++;
        end = exponent;
    }

    /* glibc and musl have this locale ready; it costs and leaks nothing. */
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    char *stop;

    *ret = strtod_l(start, &stop, plain);
    freelocale(plain);
    *text = end;
    return stop == end;
}

int parse_probability(const char *text, double *ret, const char **ret_why)
{
    static const char form[] =
        "a probability is written like 0.1, 1e-3, 10% or 1:1000";
    double value, divisor = 1;

    if (*text == '-')
        return fail(ERANGE, "a probability cannot be negative", ret_why);
    if (!take_decimal(&text, &value))
        return fail(EINVAL, form, ret_why);
    if (*text == '%') {
        divisor = 100;
        text++;
    } else if (*text == ':' || *text == '/') {
        text++;
        if (!take_decimal(&text, &divisor))
            return fail(EINVAL, form, ret_why);
    }
    if (*text != '\0')
        return fail(EINVAL, form, ret_why);
    if (divisor == 0)
        return fail(EINVAL, "a probability cannot be one in zero", ret_why);
    /* Not value / divisor > 1: both may be infinite. */
    if (!(value <= divisor) || divisor > 1e300)
        return fail(ERANGE, "a probability is from 0 to 1 (100%)", ret_why);
    *ret = value / divisor;
    return 0;
}
