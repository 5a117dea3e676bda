/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The error filter: which requests fail, how often, and with what. */
#include "filter_host.h"
#include "filter_test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static const struct {
    const char *word;
    uint32_t op;
} commands[] = {
    {"pread", ABD_OP_READ},      {"pwrite", ABD_OP_WRITE},
    {"trim", ABD_OP_TRIM},       {"zero", ABD_OP_ZERO},
    {"extents", ABD_OP_EXTENTS}, {"cache", ABD_OP_CACHE},
};
#define COMMANDS (sizeof commands / sizeof *commands)

static char data[512];

static int outcome(uint32_t op)
{
    return result_of(op, 0, 512, op == ABD_OP_FLUSH ? 0 : 512, data);
}

static void does_nothing_by_default(void **state)
{
    (void)state;
    start_chain(1, (const char *[]){"error=EPERM", NULL}, NULL);
    for (uint32_t op = ABD_OP_READ; op <= ABD_OP_CACHE; op++)
        for (unsigned i = 0; i < 100; i++)
            assert_int_equal(outcome(op), 0);
    end_chain();
}

static void each_error_by_its_name(void **state)
{
    static const struct {
        const char *text;
        int error;
    } cases[] = {
        {"error=EPERM", EPERM},   {"error=EIO", EIO},
        {"error=ENOMEM", ENOMEM}, {"error=EINVAL", EINVAL},
        {"error=ENOSPC", ENOSPC}, {"error=ESHUTDOWN", ESHUTDOWN},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        start_chain(1, (const char *[]){"error-rate=100%", cases[i].text, NULL},
                    NULL);
        for (unsigned n = 0; n < COMMANDS; n++)
            assert_int_equal(outcome(commands[n].op), cases[i].error);
        assert_int_equal(host.n_seen, 0);
        assert_int_equal(outcome(ABD_OP_FLUSH), 0); /* never chosen */
        end_chain();
    }
}

static void each_command_can_be_chosen(void **state)
{
    (void)state;
    for (unsigned i = 0; i < COMMANDS; i++) {
        char rate[40], error[40];
        snprintf(rate, sizeof rate, "error-%s-rate=1", commands[i].word);
        snprintf(error, sizeof error, "error-%s=ENOSPC", commands[i].word);
        start_chain(1, (const char *[]){rate, error, NULL}, NULL);
        for (uint32_t op = ABD_OP_READ; op <= ABD_OP_CACHE; op++)
            assert_int_equal(outcome(op), op == commands[i].op ? ENOSPC : 0);
        end_chain();
    }
}

static void the_last_setting_counts(void **state)
{
    (void)state;
    start_chain(1,
                (const char *[]){"error-pread-rate=1", "error-rate=0",
                                 "error-pwrite-rate=1", "error=ENOMEM",
                                 "error-pwrite=EPERM", NULL},
                NULL);
    assert_int_equal(outcome(ABD_OP_READ), 0);
    assert_int_equal(outcome(ABD_OP_WRITE), EPERM);
    end_chain();
}

/* How many of 10000 reads fail; which ones is kept in failed. */
static unsigned count_failures(const char *rate, const char *seed,
                               bool failed[10000])
{
    unsigned n = 0;

    start_chain(1, (const char *[]){rate, seed, NULL}, NULL);
    for (unsigned i = 0; i < 10000; i++) {
        failed[i] = outcome(ABD_OP_READ) == EIO;
        n += failed[i];
    }
    assert_int_equal(host.n_seen, 10000 - n);
    end_chain();
    return n;
}

static void the_rate_is_kept(void **state)
{
    /* Bounds: five standard deviations. */
    static const struct {
        const char *rate;
        unsigned least, most;
    } cases[] = {
        {"error-rate=10%", 850, 1150},     {"error-rate=0.5", 4750, 5250},
        {"error-rate=1:100", 50, 150},     {"error-rate=0%", 0, 0},
        {"error-rate=100%", 10000, 10000},
    };
    static bool failed[10000];

    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned n = count_failures(cases[i].rate, "error-seed=1", failed);
        assert_in_range(n, cases[i].least, cases[i].most);
    }
}

static void the_seed_decides_which(void **state)
{
    static bool first[10000], again[10000], other[10000];

    (void)state;
    count_failures("error-rate=10%", "error-seed=7", first);
    count_failures("error-rate=10%", "error-seed=7", again);
    count_failures("error-rate=10%", "error-seed=8", other);
    assert_memory_equal(first, again, sizeof first);
    assert_memory_not_equal(first, other, sizeof first);
}

static void without_a_seed_it_differs(void **state)
{
    char logs[2][100];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        start_chain(1, NULL, NULL);
        const char *line = strstr(host.log, "D error-seed=");
        assert_non_null(line);
        snprintf(logs[i], sizeof logs[i], "%.60s", line);
        end_chain();
    }
    assert_string_not_equal(logs[0], logs[1]);
}

static void waits_for_its_file(void **state)
{
    char directory[] = "/tmp/abdkit-error-XXXXXX", all[80], reads[80];

    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(all, sizeof all, "error-file=%s/all", directory);
    snprintf(reads, sizeof reads, "error-pread-file=%s/reads", directory);
    start_chain(1, (const char *[]){"error-rate=1", all, reads, NULL}, NULL);
    const char *all_path = all + strlen("error-file=");
    const char *reads_path = reads + strlen("error-pread-file=");

    assert_int_equal(outcome(ABD_OP_READ), 0);
    assert_int_equal(outcome(ABD_OP_WRITE), 0);
    close(open(all_path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(outcome(ABD_OP_READ), 0);
    assert_int_equal(outcome(ABD_OP_WRITE), EIO);
    close(open(reads_path, O_CREAT | O_WRONLY, 0600));
    unlink(all_path);
    assert_int_equal(outcome(ABD_OP_READ), EIO);
    assert_int_equal(outcome(ABD_OP_WRITE), 0);
    unlink(reads_path);
    assert_int_equal(outcome(ABD_OP_READ), 0);
    end_chain();
    rmdir(directory);
}

static void tells_the_client_what_it_did(void **state)
{
    (void)state;
    start_chain(1, (const char *[]){"error-rate=1", "error=ENOSPC", NULL},
                NULL);
    struct host_request *request =
        host_submit(ABD_OP_WRITE, 0, 0, 512, data, NULL);
    host_run();
    assert_string_equal(request->text, "injected ENOSPC into pwrite");
    assert_true(request->fail_at == ABD_NO_OFFSET);
    assert_non_null(strstr(host.log, "injecting ENOSPC into pwrite"));
    host_free(request);
    end_chain();
}

static void twice_in_a_chain(void **state)
{
    (void)state;
    start_chain(1, (const char *[]){"error-pread-rate=1", "error=EPERM", NULL},
                (const char *[]){"error-rate=1", "error=ENOSPC", NULL});
    assert_int_equal(outcome(ABD_OP_READ), EPERM);
    assert_int_equal(outcome(ABD_OP_WRITE), ENOSPC);
    assert_int_equal(outcome(ABD_OP_FLUSH), 0);
    end_chain();
}

static void refuses_bad_values(void **state)
{
    char key[40];

    (void)state;
    for (unsigned i = 0; i <= COMMANDS; i++) {
        const char *word = i < COMMANDS ? commands[i].word : NULL;

        snprintf(key, sizeof key, "error%s%s", word ? "-" : "",
                 word ? word : "");
        refuses(key, "EIEIO");
        assert_non_null(strstr(host.log, "ESHUTDOWN"));
        refuses(key, "5");
        snprintf(key, sizeof key, "error%s%s-rate", word ? "-" : "",
                 word ? word : "");
        refuses(key, "101%");
        refuses(key, "-0.1");
        refuses(key, "often");
        refuses(key, "");
    }
    refuses("error-seed", "-1");
    refuses("error-seed", "x");
    host_init(1);
    assert_int_equal(host_layer((const char *[]){"error-file=", NULL}), EINVAL);
    host_stop();
}

static void passes_lent_memory(void **state)
{
    (void)state;
    passes_lent((const char *[]){"error-pwrite-rate=1", NULL});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(does_nothing_by_default),
        cmocka_unit_test(each_error_by_its_name),
        cmocka_unit_test(each_command_can_be_chosen),
        cmocka_unit_test(the_last_setting_counts),
        cmocka_unit_test(the_rate_is_kept),
        cmocka_unit_test(the_seed_decides_which),
        cmocka_unit_test(without_a_seed_it_differs),
        cmocka_unit_test(waits_for_its_file),
        cmocka_unit_test(tells_the_client_what_it_did),
        cmocka_unit_test(twice_in_a_chain),
        cmocka_unit_test(refuses_bad_values),
        cmocka_unit_test(passes_lent_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
