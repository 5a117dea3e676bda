/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Text from strangers, made fit to be shown or sent. */
#ifndef ABD_BASE_TEXT_H
#define ABD_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Writes text (length bytes, not terminated) between double quotes to buf;
 * quotes, backslashes, control characters and invalid UTF-8 escaped, "..."
 * where it had to be cut.  Always terminated.  Returns buf. */
char *text_quote(const char *text, size_t length, char *buf, size_t size);

/* Is it UTF-8 (shortest forms only, no surrogates) without NUL? */
bool text_is_utf8(const char *text, size_t length);

/* The length of the longest start of text of at most max bytes that does not
 * cut a UTF-8 character in two. */
size_t text_cut_utf8(const char *text, size_t length, size_t max);

#endif
