/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* See crc32c.h.  Without the instruction: eight tables, eight bytes a step. */
#include "base/crc32c.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "base/bytes.h"

#define POLYNOMIAL 0x82f63b78U /* reflected */

static uint32_t tables[8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void make_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;

        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        tables[0][i] = crc;
    }
    for (unsigned t = 1; t < 8; t++)
        for (unsigned i = 0; i < 256; i++)
            tables[t][i] =
                tables[t - 1][i] >> 8 ^ tables[0][tables[t - 1][i] & 255];
}

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t length)
{
    const uint8_t *at = data;

    pthread_once(&tables_once, make_tables);
    crc = ~crc;
    for (; length >= 8; length -= 8, at += 8) {
        uint64_t word = load_le64(at) ^ crc;

        crc = 0;
        for (unsigned i = 0; i < 8; i++)
            crc ^= tables[7 - i][word >> 8 * i & 255];
    }
    for (; length > 0; length--, at++)
        crc = crc >> 8 ^ tables[0][(crc ^ *at) & 255];
    return ~crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t by_instruction(
    uint32_t crc, const uint8_t *at, size_t length)
{
    uint64_t wide = (uint32_t)~crc;

    for (; length >= 8; length -= 8, at += 8) {
        uint64_t word;

        memcpy(&word, at, sizeof word);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (uint32_t)wide;
    for (; length > 0; length--, at++)
        crc = __builtin_ia32_crc32qi(crc, *at);
    return ~crc;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t length)
{
    if (__builtin_cpu_supports("sse4.2"))
        return by_instruction(crc, data, length);
    return crc32c_portable(crc, data, length);
}
#else
uint32_t crc32c(uint32_t crc, const void *data, size_t length)
{
    return crc32c_portable(crc, data, length);
}
#endif
