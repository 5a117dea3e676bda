/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The null plugin: zeroes, copied or lent, whatever was written. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/plugin_double.h"

static void has_no_bytes_unless_told(void **state)
{
    struct plugin_double host;

    (void)state;
    assert_int_equal(double_create(&host, NULL), 0);
    assert_int_equal(double_open(&host), 0);
    assert_int_equal(host.disk.size, 0);
    double_close(&host);
    double_destroy(&host);
}

static void refuses_unknown_parameters_and_bad_sizes(void **state)
{
    struct plugin_double host;

    (void)state;
    assert_int_equal(double_create(&host, "sise", "1M", NULL), EINVAL);
    double_destroy(&host);
    assert_int_not_equal(double_create(&host, "size", "-1", NULL), 0);
    double_destroy(&host);
}

static void forgets_what_is_written(void **state)
{
    const uint64_t end = INT64_MAX;
    static const uint8_t zeroes[512];
    struct plugin_double host;
    struct request_double request = {0};
    uint8_t data[512];

    (void)state;
    assert_int_equal(double_create(&host, "size", "9223372036854775807", NULL),
                     0);
    assert_int_equal(double_open(&host), 0);
    assert_int_equal(host.disk.size, end);
    memset(data, 1, sizeof data);
    for (uint32_t op = ABD_OP_WRITE; op <= ABD_OP_CACHE; op++)
        if (op != ABD_OP_EXTENTS)
            assert_int_equal(double_run(&host, &request, op, end - 512,
                                        op == ABD_OP_FLUSH ? 0 : 512,
                                        op == ABD_OP_WRITE ? data : NULL),
                             0);

    assert_int_equal(
        double_run(&host, &request, ABD_OP_READ, end - 512, 512, data), 0);
    assert_memory_equal(data, zeroes, 512);
    memset(data, 1, sizeof data);
    assert_int_equal(
        double_run(&host, &request, ABD_OP_READ, end - 512, 512, NULL), 0);
    assert_int_equal(request.piece_count, 1);
    assert_int_equal(request.pieces[0].kind, ABD_PIECE_HOLE);
    double_copy_lent(&request, data);
    double_release(&request);
    assert_memory_equal(data, zeroes, 512);
    double_close(&host);
    double_destroy(&host);
}

static void is_one_hole(void **state)
{
    struct plugin_double host;
    struct request_double request = {0};

    (void)state;
    assert_int_equal(double_create(&host, "size", "1G", NULL), 0);
    assert_int_equal(double_open(&host), 0);
    assert_int_equal(double_run(&host, &request, ABD_OP_EXTENTS, 5, 1000, NULL),
                     0);
    assert_int_equal(request.extent_count, 1);
    assert_int_equal(request.extents[0].length, 1000);
    assert_int_equal(request.extents[0].flags,
                     ABD_EXTENT_HOLE | ABD_EXTENT_ZERO);
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
        cmocka_unit_test(has_no_bytes_unless_told),
        cmocka_unit_test(refuses_unknown_parameters_and_bad_sizes),
        cmocka_unit_test(forgets_what_is_written),
        cmocka_unit_test(is_one_hole),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
