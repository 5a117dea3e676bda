/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The limit filter: who is let in, and who is not. */
#include "filter_host.h"
#include "filter_test.h"

static const struct abd_client clients[5] = {
    {.id = 1}, {.id = 2}, {.id = 3}, {.id = 4}, {.id = 5}};

static void lets_one_in_by_default(void **state)
{
    (void)state;
    start_chain(1, NULL, NULL);
    assert_int_equal(host_admit(&clients[0]), 0);
    assert_int_equal(host_admit(&clients[1]), EBUSY);
    assert_non_null(strstr(host.log, "E client 2 refused: limit=1"));
    host_leave(&clients[0]);
    assert_int_equal(host_admit(&clients[2]), 0);
    host_leave(&clients[2]);
    end_chain();
}

static void lets_as_many_in_as_it_says(void **state)
{
    (void)state;
    start_chain(2, (const char *[]){"limit=3", NULL}, NULL);
    for (unsigned i = 0; i < 3; i++) {
        host_enter_loop(i % 2);
        assert_int_equal(host_admit(&clients[i]), 0);
    }
    assert_int_equal(host_admit(&clients[3]), EBUSY);
    assert_int_equal(host_admit(&clients[4]), EBUSY);
    host_leave(&clients[1]);
    assert_int_equal(host_admit(&clients[3]), 0);
    assert_int_equal(host_admit(&clients[4]), EBUSY);
    host_leave(&clients[0]);
    host_leave(&clients[2]);
    host_leave(&clients[3]);
    end_chain();
}

static void zero_means_any_number(void **state)
{
    struct abd_client client = {.id = 0};

    (void)state;
    start_chain(1, (const char *[]){"limit=0", NULL}, NULL);
    for (; client.id < 1000; client.id++)
        assert_int_equal(host_admit(&client), 0);
    end_chain();
}

/* Who is refused by the inner one does not keep a place in the outer one. */
static void counts_right_twice_in_a_chain(void **state)
{
    (void)state;
    start_chain(1, (const char *[]){"limit=2", NULL},
                (const char *[]){"limit=1", NULL});
    assert_int_equal(host_admit(&clients[0]), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(host_admit(&clients[1]), EBUSY);
    host_leave(&clients[0]);
    assert_int_equal(host_admit(&clients[1]), 0);
    end_chain();
}

static void refuses_bad_values(void **state)
{
    (void)state;
    refuses("limit", "-1");
    refuses("limit", "many");
    refuses("limit", "1.5");
    refuses("limit", "");
    refuses("limit", "4294967296");
}

static void is_not_in_the_way_of_requests(void **state)
{
    (void)state;
    passes_lent((const char *[]){"limit=2", NULL});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lets_one_in_by_default),
        cmocka_unit_test(lets_as_many_in_as_it_says),
        cmocka_unit_test(zero_means_any_number),
        cmocka_unit_test(counts_right_twice_in_a_chain),
        cmocka_unit_test(refuses_bad_values),
        cmocka_unit_test(is_not_in_the_way_of_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
