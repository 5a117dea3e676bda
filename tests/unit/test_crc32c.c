/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* CRC32C: known results, and the two ways to it against each other. */
#include "base/crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void known_results(void **state)
{
    uint8_t bytes[32];

    (void)state;
    assert_int_equal(crc32c(0, NULL, 0), 0);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(crc32c(0, bytes, sizeof bytes), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(crc32c(0, bytes, sizeof bytes), 0x62a8ab43);
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(crc32c(0, bytes, sizeof bytes), 0x46dd794e);
}

static void both_ways_agree(void **state)
{
    uint8_t bytes[300];

    (void)state;
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * i + 7 * i);
    for (unsigned at = 0; at < 16; at++)
        for (unsigned n = 0; n + at <= sizeof bytes; n++) {
            uint32_t whole = crc32c(0, bytes + at, n);

            assert_int_equal(whole, crc32c_portable(0, bytes + at, n));
            assert_int_equal(whole, crc32c(crc32c(0, bytes + at, n / 3),
                                           bytes + at + n / 3, n - n / 3));
        }
}

/* What is long goes in lanes, side by side. */
static void long_ones_agree(void **state)
{
    static uint8_t bytes[20000];

    (void)state;
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * i >> 3 ^ i);
    for (unsigned at = 0; at < 9; at++)
        for (unsigned n = 1300; n + at <= sizeof bytes; n += n < 4200 ? 1 : 97)
            assert_int_equal(crc32c(n, bytes + at, n),
                             crc32c_portable(n, bytes + at, n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_results),
        cmocka_unit_test(both_ways_agree),
        cmocka_unit_test(long_ones_agree),
    };

    return cmocka_run_group_tests_name("crc32c", tests, NULL, NULL);
}
