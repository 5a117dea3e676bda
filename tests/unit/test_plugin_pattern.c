/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The pattern plugin: each byte is what its offset says, however a read is cut.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/plugin_double.h"

static uint8_t byte_at(uint64_t offset)
{
    return (uint8_t)((offset & ~UINT64_C(7)) >> (56 - 8 * (offset & 7)));
}

static void expect_pattern(struct plugin_double *host, uint64_t offset,
                           uint64_t length)
{
    struct request_double request = {0};
    uint8_t data[64];

    memset(data, 0xee, sizeof data);
    assert_int_equal(
        double_run(host, &request, ABD_OP_READ, offset, length, data), 0);
    for (uint64_t i = 0; i < length; i++)
        assert_int_equal(data[i], byte_at(offset + i));
    for (uint64_t i = length; i < sizeof data; i++)
        assert_int_equal(data[i], 0xee);
}

static void requires_a_size(void **state)
{
    struct plugin_double host;

    (void)state;
    assert_int_equal(double_create(&host, NULL), EINVAL);
    double_destroy(&host);
    assert_int_equal(double_create(&host, "length", "1M", NULL), EINVAL);
    double_destroy(&host);
    assert_int_not_equal(double_create(&host, "size", "1X", NULL), 0);
    double_destroy(&host);
}

static void every_byte_says_where_it_lies(void **state)
{
    static const uint64_t bases[] = {0, UINT64_C(0x1122334455667780),
                                     UINT64_C(0xfffffff8)};
    struct plugin_double host;

    (void)state;
    assert_int_equal(double_create(&host, "size", "9223372036854775807", NULL),
                     0);
    assert_int_equal(double_open(&host), 0);
    for (unsigned i = 0; i < 3; i++)
        for (uint64_t from = 0; from < 9; from++)
            for (uint64_t length = 1; length < 34; length++)
                expect_pattern(&host, bases[i] + from, length);
    expect_pattern(&host, (uint64_t)INT64_MAX - 12, 12);
    double_close(&host);
    double_destroy(&host);
}

static void can_only_be_read(void **state)
{
    struct plugin_double host;
    struct request_double request = {0};
    uint8_t data[8] = {0};

    (void)state;
    assert_int_equal(double_create(&host, "size", "1M", NULL), 0);
    assert_int_equal(double_open(&host), 0);
    assert_int_equal(host.disk.ops & 1u << ABD_OP_WRITE, 0);
    assert_int_equal(
        double_run(&host, &request, ABD_OP_WRITE, 0, sizeof data, data),
        EINVAL);
    assert_int_equal(double_run(&host, &request, ABD_OP_CACHE, 0, 8, NULL), 0);
    double_close(&host);
    double_destroy(&host);
}

static int start(void **state)
{
    (void)state;
    double_start_loops(1);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    double_stop_loops();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requires_a_size),
        cmocka_unit_test(every_byte_says_where_it_lies),
        cmocka_unit_test(can_only_be_read),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
