/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What a fuzz harness defines.
 *
 * libFuzzer calls it with inputs that it makes up, replay.c with those of the
 * corpus.  A harness aborts where something promised does not hold; assert()
 * does, as it is never compiled out. */
#ifndef ABD_TESTS_FUZZ_H
#define ABD_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Always 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
