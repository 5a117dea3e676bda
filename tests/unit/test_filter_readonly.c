/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The readonly filter: what it hides, and what it refuses all the same. */
#include "filter_host.h"
#include "filter_test.h"

static void takes_the_writing_commands_away(void **state)
{
    (void)state;
    start_chain(1, NULL, NULL);
    assert_int_equal(host.top->ops, 1 << ABD_OP_READ | 1 << ABD_OP_FLUSH |
                                        1 << ABD_OP_EXTENTS |
                                        1 << ABD_OP_CACHE);
    assert_int_equal(host.opened_read_only, 1);
    assert_int_equal(host.opened_writable, 0);
    end_chain();
}

static void does_not_offer_fast_zeroes(void **state)
{
    (void)state;
    host_init(1);
    host.below.flags |= ABD_DISK_FAST_ZERO;
    assert_int_equal(host_layer(NULL), 0);
    assert_int_equal(host_open(), 0);
    assert_false(host.top->flags & ABD_DISK_FAST_ZERO);
    end_chain();
}

static void refuses_what_writes(void **state)
{
    char data[512];

    (void)state;
    start_chain(1, NULL, NULL);
    assert_int_equal(result_of(ABD_OP_WRITE, 0, 0, 512, data), EPERM);
    assert_int_equal(result_of(ABD_OP_ZERO, ABD_REQ_FAST, 0, 512, NULL), EPERM);
    assert_int_equal(result_of(ABD_OP_TRIM, 0, 0, 512, NULL), EPERM);
    assert_int_equal(host.n_seen, 0);
    struct host_request *request =
        host_submit(ABD_OP_WRITE, 0, 0, 512, data, NULL);
    host_run();
    assert_non_null(strstr(request->text, "readonly"));
    assert_true(request->fail_at == ABD_NO_OFFSET);
    host_free(request);
    end_chain();
}

static void lets_the_others_pass(void **state)
{
    char data[512];

    (void)state;
    start_chain(1, NULL, NULL);
    assert_int_equal(result_of(ABD_OP_READ, 0, 512, 512, data), 0);
    assert_int_equal(result_of(ABD_OP_FLUSH, 0, 0, 0, NULL), 0);
    assert_int_equal(result_of(ABD_OP_EXTENTS, 0, 0, 512, NULL), 0);
    assert_int_equal(result_of(ABD_OP_CACHE, 0, 0, 512, NULL), 0);
    assert_int_equal(host.n_seen, 4);
    host.answer = EIO;
    assert_int_equal(result_of(ABD_OP_READ, 0, 512, 512, data), EIO);
    end_chain();
}

static void passes_an_open_error_on(void **state)
{
    (void)state;
    host_init(1);
    host.open_error = ENOENT;
    assert_int_equal(host_layer(NULL), 0);
    assert_int_equal(host_open(), ENOENT);
    assert_int_equal(host.open_disks, 0);
    host_stop();
}

static void passes_lent_memory(void **state)
{
    (void)state;
    passes_lent(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_the_writing_commands_away),
        cmocka_unit_test(does_not_offer_fast_zeroes),
        cmocka_unit_test(refuses_what_writes),
        cmocka_unit_test(lets_the_others_pass),
        cmocka_unit_test(passes_an_open_error_on),
        cmocka_unit_test(passes_lent_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
