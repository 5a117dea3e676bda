/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The nozero filter: every mode, with every fast mode. */
#include "filter_host.h"
#include "filter_test.h"

#define MIB (UINT64_C(1) << 20)

/* What a ZERO becomes below. */
enum becomes { REFUSED, AS_IT_IS, NOT_TRIM, NOT_FAST, NEITHER, WRITTEN };

static const struct {
    const char *mode, *fast;
    bool has_zero, has_fast;   /* what is said of the disk */
    enum becomes plain, quick; /* with MAY_TRIM; and with FAST, too */
} modes[] = {
    {"none", "default", false, false, REFUSED, REFUSED},
    {"none", "slow", false, false, REFUSED, REFUSED},
    {"none", "ignore", false, false, REFUSED, REFUSED},
    {"none", "none", false, false, REFUSED, REFUSED},
    {"emulate", "default", true, true, WRITTEN, REFUSED},
    {"emulate", "slow", true, true, WRITTEN, REFUSED},
    {"emulate", "ignore", true, true, WRITTEN, WRITTEN},
    {"emulate", "none", true, false, WRITTEN, REFUSED},
    {"notrim", "default", true, true, NOT_TRIM, NOT_TRIM},
    {"notrim", "slow", true, true, NOT_TRIM, REFUSED},
    {"notrim", "ignore", true, true, NOT_TRIM, NEITHER},
    {"notrim", "none", true, false, NOT_TRIM, REFUSED},
    {"plugin", "default", true, true, AS_IT_IS, AS_IT_IS},
    {"plugin", "slow", true, true, AS_IT_IS, REFUSED},
    {"plugin", "ignore", true, true, AS_IT_IS, NOT_FAST},
    {"plugin", "none", true, false, AS_IT_IS, REFUSED},
};

static void check_zero(uint32_t flags, enum becomes becomes)
{
    unsigned before = host.n_seen;
    int error = result_of(ABD_OP_ZERO, flags, 8192, 4096, NULL);

    if (becomes == REFUSED) {
        assert_int_equal(error, ENOTSUP);
        assert_int_equal(host.n_seen, before);
        return;
    }
    assert_int_equal(error, 0);
    assert_int_equal(host.n_seen, before + 1);
    struct host_seen *seen = &host.seen[before];
    assert_int_equal(seen->op, becomes == WRITTEN ? ABD_OP_WRITE : ABD_OP_ZERO);
    assert_int_equal(seen->offset, 8192);
    assert_int_equal(seen->length, 4096);
    if (becomes == NOT_TRIM || becomes == NEITHER)
        flags &= ~(uint32_t)ABD_REQ_MAY_TRIM;
    if (becomes == NOT_FAST || becomes == NEITHER)
        flags &= ~(uint32_t)ABD_REQ_FAST;
    if (becomes == WRITTEN)
        flags &= ABD_REQ_FUA;
    assert_int_equal(seen->flags, flags);
}

static void open_with(const char *mode, const char *fast)
{
    char first[40], second[40];

    snprintf(first, sizeof first, "zeromode=%s", mode);
    snprintf(second, sizeof second, "fastzeromode=%s", fast);
    host_init(1);
    host.below.flags |= ABD_DISK_FAST_ZERO;
    assert_int_equal(host_layer((const char *[]){first, second, NULL}), 0);
    assert_int_equal(host_start(), 0);
}

static void each_pair_of_modes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof modes / sizeof *modes; i++) {
        open_with(modes[i].mode, modes[i].fast);
        assert_int_equal(host_open(), 0);
        assert_int_equal(!!(host.top->ops & 1 << ABD_OP_ZERO),
                         modes[i].has_zero);
        assert_int_equal(!!(host.top->flags & ABD_DISK_FAST_ZERO),
                         modes[i].has_fast);
        check_zero(ABD_REQ_FUA | ABD_REQ_MAY_TRIM, modes[i].plain);
        check_zero(ABD_REQ_MAY_TRIM | ABD_REQ_FAST, modes[i].quick);
        end_chain();
    }
}

static void none_is_the_default(void **state)
{
    (void)state;
    start_chain(1, NULL, NULL);
    assert_false(host.top->ops & 1 << ABD_OP_ZERO);
    end_chain();
}

static void emulation_writes_zeroes_in_pieces(void **state)
{
    char zeroes[4096] = {0};

    (void)state;
    start_chain(1, (const char *[]){"zeromode=emulate", NULL}, NULL);
    assert_int_equal(
        result_of(ABD_OP_ZERO, ABD_REQ_FUA, 512, 2 * MIB + 100, NULL), 0);
    assert_int_equal(host.n_seen, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(host.seen[i].op, ABD_OP_WRITE);
        assert_int_equal(host.seen[i].flags, ABD_REQ_FUA);
        assert_int_equal(host.seen[i].offset, 512 + i * MIB);
        assert_int_equal(host.seen[i].length, i < 2 ? MIB : 100);
        assert_memory_equal(host.seen[i].data, zeroes, 100);
    }
    assert_memory_equal((const char *)host.seen[0].data + MIB - 4096, zeroes,
                        4096);
    end_chain();
}

static void emulation_stops_at_the_first_error(void **state)
{
    (void)state;
    start_chain(1, (const char *[]){"zeromode=emulate", NULL}, NULL);
    host.hold = true;
    struct host_request *request =
        host_submit(ABD_OP_ZERO, 0, 0, 3 * MIB, NULL, NULL);
    assert_true(host_answer(0));
    host_run();
    assert_true(host_answer(ENOSPC));
    host_run();
    assert_false(host_answer(0));
    assert_true(request->done);
    assert_int_equal(request->error, ENOSPC);
    assert_int_equal(request->fail_at, MIB);
    host_free(request);
    end_chain();
}

static void emulation_stops_when_cancelled(void **state)
{
    (void)state;
    start_chain(1, (const char *[]){"zeromode=emulate", NULL}, NULL);
    host.hold = true;
    struct host_request *request =
        host_submit(ABD_OP_ZERO, 0, 0, 3 * MIB, NULL, NULL);
    host_cancel(request);
    assert_true(host_answer(0));
    host_run();
    assert_true(request->done);
    assert_int_equal(request->error, ESHUTDOWN);
    assert_int_equal(host.n_seen, 1);
    host_free(request);
    end_chain();
}

static void emulates_over_a_disk_without_zero(void **state)
{
    (void)state;
    open_with("emulate", "default");
    host.below.ops &= ~(1U << ABD_OP_ZERO);
    host.below.max_zero = 65536;
    assert_int_equal(host_open(), 0);
    assert_true(host.top->ops & 1 << ABD_OP_ZERO);
    assert_int_equal(host.top->max_zero, 0);
    end_chain();
}

static void refuses_modes_that_need_zero(void **state)
{
    static const char *const needing[] = {"notrim", "plugin"};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        open_with(needing[i], "default");
        host.below.ops &= ~(1U << ABD_OP_ZERO);
        assert_int_equal(host_open(), EINVAL);
        assert_non_null(strstr(host.log, needing[i]));
        assert_non_null(strstr(host.log, "none, emulate"));
        assert_int_equal(host.open_disks, 0);
        host_stop();
    }
    /* A disk that nobody can write to needs no zeroes. */
    open_with("plugin", "slow");
    host.below.ops = 1U << ABD_OP_READ;
    host.below.flags = 0;
    assert_int_equal(host_open(), 0);
    assert_int_equal(host.top->ops, 1U << ABD_OP_READ);
    assert_int_equal(host.top->flags, 0);
    end_chain();
}

static void passes_errors_of_changed_requests(void **state)
{
    (void)state;
    start_chain(1, (const char *[]){"zeromode=notrim", NULL}, NULL);
    host.answer = EIO;
    assert_int_equal(result_of(ABD_OP_ZERO, ABD_REQ_MAY_TRIM, 0, 4096, NULL),
                     EIO);
    end_chain();
}

static void lets_the_others_pass(void **state)
{
    char data[512];

    (void)state;
    start_chain(1, NULL, NULL);
    for (uint32_t op = ABD_OP_READ; op <= ABD_OP_CACHE; op++) {
        unsigned seen = host.n_seen;
        if (op == ABD_OP_ZERO)
            continue;
        assert_int_equal(result_of(op, 0, 512, 512, data), 0);
        assert_int_equal(host.seen[seen].op, op);
    }
    end_chain();
}

static void works_twice_in_a_chain(void **state)
{
    (void)state;
    start_chain(1, (const char *[]){"zeromode=notrim", NULL},
                (const char *[]){"zeromode=emulate", NULL});
    assert_int_equal(result_of(ABD_OP_ZERO, ABD_REQ_MAY_TRIM, 0, MIB + 1, NULL),
                     0);
    assert_int_equal(host.n_seen, 2);
    assert_int_equal(host.seen[1].op, ABD_OP_WRITE);
    assert_int_equal(host.seen[1].length, 1);
    end_chain();
}

static void refuses_bad_values(void **state)
{
    (void)state;
    refuses("zeromode", "all");
    assert_non_null(strstr(host.log, "none, emulate, notrim, plugin"));
    refuses("zeromode", "");
    refuses("fastzeromode", "fast");
    assert_non_null(strstr(host.log, "default, none, slow, ignore"));
    refuses("fastzeromode", "");
}

static void passes_lent_memory(void **state)
{
    (void)state;
    passes_lent((const char *[]){"zeromode=plugin", NULL});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_pair_of_modes),
        cmocka_unit_test(none_is_the_default),
        cmocka_unit_test(emulation_writes_zeroes_in_pieces),
        cmocka_unit_test(emulation_stops_at_the_first_error),
        cmocka_unit_test(emulation_stops_when_cancelled),
        cmocka_unit_test(emulates_over_a_disk_without_zero),
        cmocka_unit_test(refuses_modes_that_need_zero),
        cmocka_unit_test(passes_errors_of_changed_requests),
        cmocka_unit_test(lets_the_others_pass),
        cmocka_unit_test(works_twice_in_a_chain),
        cmocka_unit_test(refuses_bad_values),
        cmocka_unit_test(passes_lent_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
