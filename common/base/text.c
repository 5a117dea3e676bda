/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Text from strangers: is it UTF-8, and how can it be shown.
 *
 * All rests on one function that says how long the next valid character is.
 * What is not valid, and what would steer a terminal, is shown as \xNN; so a
 * line of the log is what it looks like.  No state; any thread. */
#include "base/text.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

static bool is_continuation(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

/* How long is the character that begins with this byte; 0: none does. */
static size_t expected_length(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first <= 0xdf)
        return 2;
    if (first >= 0xe0 && first <= 0xef)
        return 3;
    if (first >= 0xf0 && first <= 0xf4)
        return 4;
    return 0;
}

size_t text_utf8_next(const char *text, size_t left)
{
    if (left == 0)
        return 0;

    unsigned char first = (unsigned char)text[0];
    size_t length = expected_length(first);

    if (length == 0 || length > left)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if (!is_continuation(text[i]))
            return 0;
    }
    if (length < 3)
        return length;

    unsigned char second = (unsigned char)text[1];

    if (first == 0xe0 && second < 0xa0) /* a longer form than needed */
        return 0;
    if (first == 0xed && second > 0x9f) /* surrogates */
        return 0;
    if (first == 0xf0 && second < 0x90) /* a longer form than needed */
        return 0;
    if (first == 0xf4 && second > 0x8f) /* above U+10FFFF */
        return 0;
    return length;
}

/* U+0000 to U+001F, U+007F, and U+0080 to U+009F, which some terminals obey. */
static bool is_control(const char *text, size_t length)
{
    unsigned char first = (unsigned char)text[0];

    if (length == 1)
        return first < 0x20 || first == 0x7f;
    return length == 2 && first == 0xc2 && (unsigned char)text[1] < 0xa0;
}

size_t text_show_next(const char **text, size_t *left, char *to)
{
    static const char digits[] = "0123456789abcdef";
    const char *from = *text;

    assert(*left > 0);

    size_t length = text_utf8_next(from, *left);
    size_t used = length > 0 ? length : 1;

    *text += used;
    *left -= used;
    if (length > 0 && !is_control(from, length)) {
        memcpy(to, from, length);
        return length;
    }
    /* A control character has two bytes at most, which compilers can't know. */
    for (size_t i = 0; i < used && i < TEXT_SHOWN_MAX / 4; i++) {
        *to++ = '\\';
        *to++ = 'x';
        *to++ = digits[(unsigned char)from[i] >> 4];
        *to++ = digits[(unsigned char)from[i] & 15];
    }
    return 4 * used;
}

char *text_quote(const char *text, size_t length, char *buf, size_t size)
{
    static const char cut_end[] = "\"...";
    size_t used = 1, cut = 1; /* cut: up to where a cut_end fits behind */

    assert(size > sizeof cut_end);
    buf[0] = '"';
    while (length > 0) {
        char shown[1 + TEXT_SHOWN_MAX];
        size_t escape = *text == '"' || *text == '\\';

        shown[0] = '\\';

        size_t bytes = escape + text_show_next(&text, &length, shown + escape);

        if (bytes + sizeof "\"" > size - used) {
            memcpy(buf + cut, cut_end, sizeof cut_end);
            return buf;
        }
        memcpy(buf + used, shown, bytes);
        used += bytes;
        if (size - used >= sizeof cut_end)
            cut = used;
    }
    memcpy(buf + used, "\"", 2);
    return buf;
}

bool text_is_utf8(const char *text, size_t length)
{
    while (length > 0) {
        size_t bytes = text_utf8_next(text, length);

        if (bytes == 0 || *text == '\0')
            return false;
        text += bytes;
        length -= bytes;
    }
    return true;
}

size_t text_cut_utf8(const char *text, size_t length, size_t max)
{
    if (length <= max)
        return length;

    size_t cut = max;

    /* A character has at most three bytes behind its first one. */
    while (cut > 0 && max - cut < 3 && is_continuation(text[cut]))
        cut--;
    return is_continuation(text[cut]) ? max : cut;
}
