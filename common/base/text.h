/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Text from strangers, made fit to be shown or sent. */
#ifndef ABD_BASE_TEXT_H
#define ABD_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* The most bytes that text_show_next() writes. */
#define TEXT_SHOWN_MAX 8

/* Takes the first character off text (left bytes, at least one) and writes it
 * as it may be shown: itself, or \xNN for each byte of a control character and
 * for a byte that is not UTF-8.  Returns the bytes written (no terminator). */
size_t text_show_next(const char **text, size_t *left, char *to);

/* Writes text (length bytes, not terminated) between double quotes to buf (at
 * least 6 bytes); quotes, backslashes, control characters and invalid UTF-8
 * escaped, "..." behind the quotes where it had to be cut.  Always terminated.
 * Returns buf. */
char *text_quote(const char *text, size_t length, char *buf, size_t size);

/* The bytes of the valid UTF-8 character at the start of text (of left bytes);
 * 0 if there is none. */
size_t text_utf8_next(const char *text, size_t left);

/* Is it UTF-8 (shortest forms only, no surrogates) without NUL? */
bool text_is_utf8(const char *text, size_t length);

/* The length of the longest start of text of at most max bytes that does not
 * cut a UTF-8 character in two. */
size_t text_cut_utf8(const char *text, size_t length, size_t max);

#endif
