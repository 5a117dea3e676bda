/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The delay filter on a clock that the test moves. */
#include "filter_host.h"
#include "filter_test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)

/* How long this request takes on the way down, in ns; 0 if it is not held. */
static uint64_t waited(uint32_t op, uint32_t flags)
{
    uint64_t start = host.now_ns;
    unsigned seen = host.n_seen;
    char data[512];
    struct host_request *request =
        host_submit(op, flags, 4096, op == ABD_OP_FLUSH ? 0 : 512,
                    op == ABD_OP_WRITE ? data : NULL, NULL);

    host_run();
    while (!request->done) {
        assert_int_equal(host.timers, 1);
        host_advance(MS / 10);
    }
    assert_int_equal(host.n_seen, seen + 1);
    assert_int_equal(request->error, 0);
    host_free(request);
    return host.seen[seen].at_ns - start;
}

static void each_key_delays_its_commands_only(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        uint32_t ops;
    } cases[] = {
        {"rdelay", 1 << ABD_OP_READ},
        {"delay-read", 1 << ABD_OP_READ},
        {"wdelay", 1 << ABD_OP_WRITE | 1 << ABD_OP_ZERO | 1 << ABD_OP_TRIM},
        {"delay-write", 1 << ABD_OP_WRITE},
        {"delay-zero", 1 << ABD_OP_ZERO},
        {"zdelay", 1 << ABD_OP_ZERO},
        {"delay-trim", 1 << ABD_OP_TRIM},
        {"tdelay", 1 << ABD_OP_TRIM},
        {"delay-extents", 1 << ABD_OP_EXTENTS},
        {"edelay", 1 << ABD_OP_EXTENTS},
        {"delay-cache", 1 << ABD_OP_CACHE},
        {"cdelay", 1 << ABD_OP_CACHE},
    };

    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[40];
        snprintf(text, sizeof text, "%s=7ms", cases[i].key);
        start_chain(1, (const char *[]){text, NULL}, NULL);
        for (uint32_t op = ABD_OP_READ; op <= ABD_OP_CACHE; op++)
            assert_int_equal(waited(op, 0),
                             cases[i].ops & 1U << op ? 7 * MS : 0);
        end_chain();
    }
}

static void the_last_of_two_keys_counts(void **state)
{
    (void)state;
    start_chain(1,
                (const char *[]){"delay-zero=9ms", "wdelay=2ms",
                                 "delay-trim=0.5", NULL},
                NULL);
    assert_int_equal(waited(ABD_OP_WRITE, 0), 2 * MS);
    assert_int_equal(waited(ABD_OP_ZERO, 0), 2 * MS);
    assert_int_equal(waited(ABD_OP_TRIM, 0), 500 * MS);
    end_chain();
}

static void refuses_bad_values(void **state)
{
    (void)state;
    static const char *const keys[] = {
        "rdelay",     "wdelay",     "zdelay",        "tdelay",
        "edelay",     "cdelay",     "delay-read",    "delay-write",
        "delay-zero", "delay-trim", "delay-extents", "delay-cache",
        "delay-open", "delay-close"};

    for (unsigned i = 0; i < sizeof keys / sizeof *keys; i++) {
        refuses(keys[i], "-1");
        refuses(keys[i], "fast");
        refuses(keys[i], "");
    }
    refuses("delay-fast-zero", "perhaps");
}

static void a_thousand_wait_at_once(void **state)
{
    (void)state;
    enum { N = 1000 };
    struct host_request *requests[N];

    start_chain(1, (const char *[]){"rdelay=20ms", NULL}, NULL);
    assert_int_equal(host.top->max_requests, 0);
    for (unsigned i = 0; i < N; i++) {
        requests[i] =
            host_submit(ABD_OP_READ, 0, UINT64_C(512) * i, 512, NULL, NULL);
        host_advance(MS / 1000);
    }
    assert_int_equal(host.timers, N);
    host_advance(19 * MS - 1);
    assert_int_equal(host.n_seen, 0);
    host_advance(MS);
    assert_int_equal(host.n_seen, N);
    for (unsigned i = 0; i < N; i++) {
        assert_true(requests[i]->done);
        assert_int_equal(host.seen[i].offset, i * 512);
        host_free(requests[i]);
    }
    end_chain();
}

static void a_cancelled_request_ends_at_once(void **state)
{
    (void)state;
    start_chain(1, (const char *[]){"wdelay=1", NULL}, NULL);
    char data[16];
    struct host_request *waits =
        host_submit(ABD_OP_WRITE, 0, 0, 16, data, NULL);
    struct host_request *stays =
        host_submit(ABD_OP_WRITE, 0, 16, 16, data, NULL);
    host_cancel(waits);
    host_run();
    assert_true(waits->done);
    assert_int_equal(waits->error, ESHUTDOWN);
    assert_int_equal(host.timers, 1);
    host_advance(1000 * MS);
    assert_int_equal(host.n_seen, 1);
    assert_int_equal(host.seen[0].offset, 16);
    assert_true(stays->done);
    assert_int_equal(stays->error, 0);
    host_free(waits);
    host_free(stays);
    end_chain();
}

static void fast_zero_no_refuses_at_once(void **state)
{
    (void)state;
    start_chain(1,
                (const char *[]){"delay-zero=5ms", "delay-fast-zero=no", NULL},
                NULL);
    assert_true(host.top->flags & ABD_DISK_FAST_ZERO);
    struct host_request *request =
        host_submit(ABD_OP_ZERO, ABD_REQ_FAST, 0, 4096, NULL, NULL);
    host_run();
    assert_true(request->done);
    assert_int_equal(request->error, ENOTSUP);
    assert_int_equal(host.n_seen, 0);
    host_free(request);
    assert_int_equal(waited(ABD_OP_ZERO, 0), 5 * MS);
    end_chain();

    start_chain(1, (const char *[]){"delay-zero=5ms", NULL}, NULL);
    assert_false(host.top->flags & ABD_DISK_FAST_ZERO);
    assert_int_equal(waited(ABD_OP_ZERO, ABD_REQ_FAST), 5 * MS);
    end_chain();
}

static void open_and_close_wait(void **state)
{
    (void)state;
    host_init(1);
    assert_int_equal(host_layer((const char *[]){"delay-open=30ms",
                                                 "delay-close=40ms", NULL}),
                     0);
    assert_int_equal(host_start(), 0);
    assert_int_equal(host_open(), ENODATA);
    host_advance(30 * MS - 1);
    assert_int_equal(host.open_result, ENODATA);
    host_advance(1);
    assert_int_equal(host.open_result, 0);
    assert_false(host_close());
    host_advance(40 * MS - 1);
    assert_int_equal(host.open_disks, 2);
    host_advance(1);
    assert_int_equal(host.open_disks, 0);
    host_stop();
}

static void passes_an_open_error_on(void **state)
{
    (void)state;
    host_init(1);
    host.open_error = EACCES;
    assert_int_equal(host_layer(NULL), 0);
    assert_int_equal(host_start(), 0);
    assert_int_equal(host_open(), EACCES);
    assert_int_equal(host.open_disks, 0);
    host_stop();
}

static void twice_in_a_chain_adds_up(void **state)
{
    (void)state;
    start_chain(1, (const char *[]){"rdelay=3ms", NULL},
                (const char *[]){"rdelay=4ms", "wdelay=1ms", NULL});
    assert_int_equal(waited(ABD_OP_READ, 0), 7 * MS);
    assert_int_equal(waited(ABD_OP_WRITE, 0), MS);
    end_chain();
}

static void passes_lent_memory(void **state)
{
    (void)state;
    passes_lent((const char *[]){"rdelay=1ms", NULL});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_key_delays_its_commands_only),
        cmocka_unit_test(the_last_of_two_keys_counts),
        cmocka_unit_test(refuses_bad_values),
        cmocka_unit_test(a_thousand_wait_at_once),
        cmocka_unit_test(a_cancelled_request_ends_at_once),
        cmocka_unit_test(fast_zero_no_refuses_at_once),
        cmocka_unit_test(open_and_close_wait),
        cmocka_unit_test(passes_an_open_error_on),
        cmocka_unit_test(twice_in_a_chain_adds_up),
        cmocka_unit_test(passes_lent_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
