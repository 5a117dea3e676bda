/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Numbers, sizes, truths, delays and percentages as people write them.
 *
 * No locale, no rounding, no silent overflow.  Each returns 0, or an errno
 * value with *ret_why saying what is wrong and what is allowed (a constant
 * sentence without the text itself; the caller quotes that). */
#ifndef ABD_BASE_PARSE_H
#define ABD_BASE_PARSE_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes: a whole number, then nothing or one of b k m g t p e (any case; powers
 * of 1024) or s (sectors of 512).  At most INT64_MAX. */
int parse_size(const char *text, uint64_t *ret, const char **ret_why);

/* 1 true t yes y on; 0 false f no n off; any case. */
int parse_bool(const char *text, bool *ret, const char **ret_why);

/* A whole number, decimal, 0x hexadecimal or 0 octal, from 0 to max. */
int parse_number(const char *text, uint64_t max, uint64_t *ret,
                 const char **ret_why);

/* Seconds, or a number with s, ms, us (also with a Greek letter) or ns behind
 * it; a fraction is allowed ("0.5", "1.5ms") down to a nanosecond.  Returned in
 * nanoseconds, at most INT64_MAX. */
int parse_delay(const char *text, uint64_t *ret_ns, const char **ret_why);

/* A probability: "10%", "0.1", "1:1000", "1/1000" or "1e-3"; from 0 to 1. */
int parse_probability(const char *text, double *ret, const char **ret_why);

#endif
