/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The noextents filter: block status is gone, the rest is as it was. */
#include "filter_host.h"
#include "filter_test.h"

static void takes_block_status_away(void **state)
{
    (void)state;
    start_chain(1, NULL, NULL);
    assert_int_equal(host.top->ops, host.below.ops & ~(1U << ABD_OP_EXTENTS));
    assert_int_equal(host.opened_writable, 1);
    end_chain();
}

static void answers_block_status_without_the_disk(void **state)
{
    (void)state;
    start_chain(1, NULL, NULL);
    assert_int_equal(result_of(ABD_OP_EXTENTS, ABD_REQ_ONE, 0, 4096, NULL), 0);
    assert_int_equal(host.n_seen, 0);
    end_chain();
}

static void lets_the_others_pass(void **state)
{
    char data[512];

    (void)state;
    start_chain(1, NULL, NULL);
    for (uint32_t op = ABD_OP_READ; op <= ABD_OP_CACHE; op++) {
        if (op == ABD_OP_EXTENTS)
            continue;
        unsigned seen = host.n_seen;
        assert_int_equal(result_of(op, 0, 512, 512, data), 0);
        assert_int_equal(host.n_seen, seen + 1);
        assert_int_equal(host.seen[seen].op, op);
        host.answer = ENOSPC;
        assert_int_equal(result_of(op, 0, 512, 512, data), ENOSPC);
        host.answer = 0;
    }
    end_chain();
}

static void stays_read_only(void **state)
{
    (void)state;
    host_init(1);
    host.below.read_only = true;
    assert_int_equal(host_layer(NULL), 0);
    assert_int_equal(host_open(), 0);
    assert_int_equal(host.opened_read_only, 1);
    end_chain();
}

static void passes_lent_memory(void **state)
{
    (void)state;
    passes_lent(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_block_status_away),
        cmocka_unit_test(answers_block_status_without_the_disk),
        cmocka_unit_test(lets_the_others_pass),
        cmocka_unit_test(stays_read_only),
        cmocka_unit_test(passes_lent_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
