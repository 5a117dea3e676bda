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
/* The instruction takes three cycles and could be issued in each, so three
 * lanes of data run side by side, and are put together after: what the first
 * one's register becomes by as many zeroes as the second lane is long is a
 * linear function of it, looked up byte by byte.  Three lanes are nearly a
 * block. */
#define LANE 1360

static uint32_t skips[4][256];
static pthread_once_t skips_once = PTHREAD_ONCE_INIT;

static void make_skips(void)
{
    uint32_t bits[32];

    pthread_once(&tables_once, make_tables);
    for (unsigned i = 0; i < 32; i++) {
        uint32_t crc = UINT32_C(1) << i;

        for (unsigned n = 0; n < LANE; n++)
            crc = crc >> 8 ^ tables[0][crc & 255];
        bits[i] = crc;
    }
    for (unsigned t = 0; t < 4; t++)
        for (unsigned byte = 0; byte < 256; byte++)
            for (unsigned i = 0; i < 8; i++)
                skips[t][byte] ^= byte >> i & 1 ? bits[8 * t + i] : 0;
}

/* By a lane of zeroes. */
static uint32_t skip(uint64_t crc)
{
    return skips[0][crc & 255] ^ skips[1][crc >> 8 & 255] ^
           skips[2][crc >> 16 & 255] ^ skips[3][crc >> 24 & 255];
}

static uint64_t load_word(const uint8_t *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof word);
    return word;
}

__attribute__((target("sse4.2"))) static uint64_t three_lanes(uint64_t first,
                                                              const uint8_t *at)
{
    uint64_t second = 0, third = 0;

    for (const uint8_t *end = at + LANE; at < end; at += 8) {
        first = __builtin_ia32_crc32di(first, load_word(at));
        second = __builtin_ia32_crc32di(second, load_word(at + LANE));
        third = __builtin_ia32_crc32di(third, load_word(at + (size_t)2 * LANE));
    }
    return skip(skip(first) ^ second) ^ third;
}

__attribute__((target("sse4.2"))) static uint32_t by_instruction(
    uint32_t crc, const uint8_t *at, size_t length)
{
    uint64_t wide = (uint32_t)~crc;

    if (length >= (size_t)3 * LANE)
        pthread_once(&skips_once, make_skips);
    for (; length >= (size_t)3 * LANE; length -= (size_t)3 * LANE) {
        wide = three_lanes(wide, at);
        at += (size_t)3 * LANE;
    }
    for (; length >= 8; length -= 8, at += 8)
        wide = __builtin_ia32_crc32di(wide, load_word(at));
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
