/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The histogram: percentiles within the promised 19% from 256 ns to beyond a
 * minute, merging, and reading while another thread adds. */
#include "base/histogram.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void an_empty_one_answers_0(void **state)
{
    struct histogram histogram = {0};

    (void)state;
    assert_int_equal(histogram_percentile(&histogram, 0), 0);
    assert_int_equal(histogram_percentile(&histogram, 0.5), 0);
    assert_int_equal(histogram_percentile(&histogram, 1), 0);
}

/* Adds a value and, so that the maximum does not help, one far above it. */
static uint64_t median_of_one(uint64_t ns)
{
    struct histogram histogram = {0};

    histogram_add(&histogram, ns);
    histogram_add(&histogram, UINT64_MAX);
    return histogram_percentile(&histogram, 0.5);
}

static void assert_within_19_percent(uint64_t ns)
{
    uint64_t answer = median_of_one(ns);

    assert_true(answer >= ns);
    assert_true((double)answer <= (double)ns * 1.19 + 1);
}

static void is_right_within_19_percent_over_the_whole_range(void **state)
{
    (void)state;
    for (uint64_t ns = 256; ns < UINT64_C(120000000000); ns += ns / 53 + 1)
        assert_within_19_percent(ns);
    for (unsigned power = 8; power < 37; power++) {
        assert_within_19_percent(UINT64_C(1) << power);
        assert_within_19_percent((UINT64_C(1) << power) + 1);
        assert_within_19_percent((UINT64_C(2) << power) - 1);
    }
}

static void borders_only_rise(void **state)
{
    uint64_t before = 0;

    (void)state;
    for (uint64_t ns = 0; ns < 100000; ns++) {
        uint64_t border = median_of_one(ns);

        assert_true(border >= before);
        assert_true(border >= ns);
        before = border;
    }
}

static void takes_what_is_outside_the_range(void **state)
{
    struct histogram histogram = {0};

    (void)state;
    histogram_add(&histogram, 0);
    assert_int_equal(histogram_percentile(&histogram, 1), 0);
    histogram_add(&histogram, 1);
    assert_int_equal(histogram_percentile(&histogram, 1), 1);
    histogram_add(&histogram, UINT64_MAX);
    assert_int_equal(histogram_percentile(&histogram, 1), UINT64_MAX);
    assert_int_equal(histogram.total, 3);
    assert_int_equal(histogram.max_ns, UINT64_MAX);
}

static void never_answers_above_the_largest_seen(void **state)
{
    struct histogram histogram = {0};

    (void)state;
    histogram_add(&histogram, 1000);
    histogram_add(&histogram, 1001);
    assert_int_equal(histogram_percentile(&histogram, 0.5), 1001);
    assert_int_equal(histogram_percentile(&histogram, 1), 1001);
}

static void percentiles_follow_the_ranks(void **state)
{
    struct histogram histogram = {0};

    (void)state;
    for (unsigned i = 0; i < 90; i++)
        histogram_add(&histogram, 1000);
    for (unsigned i = 0; i < 9; i++)
        histogram_add(&histogram, 1000000);
    histogram_add(&histogram, 1000000000);

    uint64_t low = histogram_percentile(&histogram, 0.5);
    uint64_t middle = histogram_percentile(&histogram, 0.95);

    assert_in_range(low, 1000, 1190);
    assert_int_equal(histogram_percentile(&histogram, 0), low);
    assert_int_equal(histogram_percentile(&histogram, -1), low);
    assert_int_equal(histogram_percentile(&histogram, 0.9), low);
    assert_in_range(middle, 1000000, 1190000);
    assert_int_equal(histogram_percentile(&histogram, 0.99), middle);
    assert_int_equal(histogram_percentile(&histogram, 0.991), 1000000000);
    assert_int_equal(histogram_percentile(&histogram, 2), 1000000000);
    assert_int_equal(histogram.sum_ns, 90 * 1000 + 9 * 1000000 + 1000000000);
}

static void merging_is_like_adding_to_one(void **state)
{
    struct histogram one = {0}, left = {0}, right = {0};
    uint64_t ns = 300;

    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        ns = ns * 1103515245 % 4000000007;
        histogram_add(&one, ns);
        histogram_add(i % 3 ? &left : &right, ns);
    }
    histogram_merge(&left, &right);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        assert_int_equal(left.count[i], one.count[i]);
    assert_int_equal(left.total, 1000);
    assert_int_equal(left.sum_ns, one.sum_ns);
    assert_int_equal(left.max_ns, one.max_ns);
}

enum { ADDED = 200000 };

static void *add_many(void *argument)
{
    struct histogram *histogram = argument;

    for (unsigned i = 0; i < ADDED; i++)
        histogram_add(histogram, 500 + i % 2 * 500000);
    return NULL;
}

static void can_be_read_while_a_thread_adds(void **state)
{
    static struct histogram histogram;
    pthread_t thread;
    uint64_t before = 0, total;

    (void)state;
    histogram_add(&histogram, 500000); /* so that it is never empty */
    assert_int_equal(pthread_create(&thread, NULL, add_many, &histogram), 0);
    do {
        uint64_t median = histogram_percentile(&histogram, 0.5);

        assert_true((median >= 500 && median <= 600) ||
                    (median >= 500000 && median <= 600000));
        total = atomic_load_explicit(&histogram.total, memory_order_relaxed);
        assert_true(total >= before);
        before = total;
    } while (total < ADDED + 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_in_range(histogram_percentile(&histogram, 0.4), 500, 600);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_answers_0),
        cmocka_unit_test(is_right_within_19_percent_over_the_whole_range),
        cmocka_unit_test(borders_only_rise),
        cmocka_unit_test(takes_what_is_outside_the_range),
        cmocka_unit_test(never_answers_above_the_largest_seen),
        cmocka_unit_test(percentiles_follow_the_ranks),
        cmocka_unit_test(merging_is_like_adding_to_one),
        cmocka_unit_test(can_be_read_while_a_thread_adds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
