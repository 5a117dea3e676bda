/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The exitlast filter: when it ends the server, and how often. */
#include "filter_host.h"
#include "filter_test.h"

static const struct abd_client clients[3] = {{.id = 1}, {.id = 2}, {.id = 3}};

static void ends_the_server_after_the_last_client(void **state)
{
    (void)state;
    start_chain(2, NULL, NULL);
    assert_int_equal(host.shutdowns, 0);
    assert_int_equal(host_admit(&clients[0]), 0);
    host_enter_loop(1);
    assert_int_equal(host_admit(&clients[1]), 0);
    host_leave(&clients[1]);
    assert_int_equal(host.shutdowns, 0);
    assert_int_equal(host_admit(&clients[2]), 0);
    host_enter_loop(0);
    host_leave(&clients[0]);
    assert_int_equal(host.shutdowns, 0);
    host_enter_loop(1);
    host_leave(&clients[2]);
    assert_int_equal(host.shutdowns, 1);
    end_chain();
    assert_int_equal(host.shutdowns, 1);
}

static void ends_it_only_once(void **state)
{
    (void)state;
    start_chain(1, NULL, NULL);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(host_admit(&clients[i]), 0);
        host_leave(&clients[i]);
    }
    assert_int_equal(host.shutdowns, 1);
    end_chain();
}

static void never_ends_it_without_a_client(void **state)
{
    char data[512];

    (void)state;
    start_chain(1, NULL, NULL);
    assert_int_equal(result_of(ABD_OP_READ, 0, 0, 512, data), 0);
    end_chain();
    assert_int_equal(host.shutdowns, 0);
}

static void each_instance_counts_for_itself(void **state)
{
    (void)state;
    start_chain(1, NULL, (const char *[]){NULL});
    assert_int_equal(host_admit(&clients[0]), 0);
    host_leave(&clients[0]);
    assert_int_equal(host.shutdowns, 2);
    end_chain();
}

static void is_not_in_the_way_of_requests(void **state)
{
    (void)state;
    passes_lent(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_the_server_after_the_last_client),
        cmocka_unit_test(ends_it_only_once),
        cmocka_unit_test(never_ends_it_without_a_client),
        cmocka_unit_test(each_instance_counts_for_itself),
        cmocka_unit_test(is_not_in_the_way_of_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
