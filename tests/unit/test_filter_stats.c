/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The stats filter: what it counts, and the table it makes of that. */
#include "filter_host.h"
#include "filter_test.h"

#include "plugins/stats/report.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static char path[40], statsfile[60], text[65536];
static char data[512];

static int make_file(void **state)
{
    (void)state;
    strcpy(path, "/tmp/abdkit-stats-XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0)
        return -1;
    close(fd);
    snprintf(statsfile, sizeof statsfile, "statsfile=%s", path);
    return 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static char *contents(void)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);

    assert_true(n >= 0);
    close(fd);
    text[n] = '\0';
    return text;
}

#define SECOND UINT64_C(1000000000)

static void the_table_is_readable(void **state)
{
    struct stats_counts *counts = calloc(3, sizeof *counts);
    struct stats_op *reads = &counts->ops[ABD_OP_READ];
    char *table = NULL;
    size_t size;

    (void)state;
    assert_non_null(counts);
    /* 6 of 4 KiB, at 0, 4K, 8K, 12K, 16K, 20K; 3 of 6000 bytes (12 bits, too);
     * one of 1 MiB. */
    for (unsigned i = 0; i < 6; i++)
        stats_count(reads, UINT64_C(4096) * i, 4096, SECOND / 10, 0);
    for (unsigned i = 0; i < 3; i++)
        stats_count(reads, 512, 6000, SECOND / 10, 0);
    /* Another loop's. */
    reads = &counts[1].ops[ABD_OP_READ];
    stats_count(reads, 1 << 20, 1 << 20, SECOND / 2, 0);
    stats_count(reads, 0, 4096, SECOND / 10, EIO);
    stats_count(&counts[1].ops[ABD_OP_FLUSH], 0, 0, 1000, 0);
    stats_add(&counts[2], &counts[0]);
    stats_add(&counts[2], &counts[1]);

    FILE *file = open_memstream(&table, &size);
    stats_report(file, &counts[2], 2 * SECOND, 90);
    fclose(file);
    assert_string_equal(
        table,
        "total: 11 ops, 2.000000 s, 1.04 MiB, 532.79 KiB/s\n"
        "read: 10 ops, 1.400000 s, 1.04 MiB, 761.13 KiB/s op, 532.79 KiB/s "
        "total, 1 failed\n"
        "  Latency: 50% 0.112863 s, 90% 0.112863 s, 99% 0.500000 s, "
        "longest 0.500000 s\n"
        "  Request size and alignment breakdown:\n"
        "    12 bits:  90.0% (9 reqs, 41.58 KiB total)\n"
        "       9 bit aligned: 100.0% (9)\n"
        "      12 bit aligned:  66.7% (6)\n"
        "      13 bit aligned:  33.3% (3)\n"
        "      14 bit aligned:  22.2% (2)\n"
        "         offset 0:  11.1% (1)\n"
        "    other sizes:  10.0% (1 reqs, 1.00 MiB total)\n"
        "\n"
        "flush: 1 ops, 0.000001 s, 0 bytes, 0 bytes/s op, 0 bytes/s total\n"
        "  Latency: 50% 0.000001 s, 90% 0.000001 s, 99% 0.000001 s, "
        "longest 0.000001 s\n"
        "\n");
    free(table);
    free(counts);
}

static void the_largest_numbers_fit(void **state)
{
    struct stats_counts *counts = calloc(2, sizeof *counts);
    char *table = NULL;
    size_t size;

    (void)state;
    assert_non_null(counts);
    stats_count(&counts[0].ops[ABD_OP_TRIM], UINT64_C(1) << 62,
                INT64_MAX - (UINT64_C(1) << 62), UINT64_MAX / 4, 0);
    stats_count(&counts[0].ops[ABD_OP_TRIM], 1, 1, 0, 0);
    stats_add(&counts[1], &counts[0]);
    FILE *file = open_memstream(&table, &size);
    stats_report(file, &counts[1], 0, 100);
    fclose(file);
    assert_non_null(strstr(table, "trim: 2 ops"));
    assert_non_null(strstr(table, "4.00 EiB"));
    assert_non_null(strstr(table, "    61 bits:  50.0%"));
    assert_non_null(strstr(table, "     0 bits:  50.0%"));
    assert_non_null(strstr(table, "62 bit aligned: 100.0%"));
    assert_null(strstr(table, "other sizes"));
    free(table);
    free(counts);
}

static void counts_every_command_on_every_loop(void **state)
{
    static const char *const lines[] = {"total: 21 ops, ",  "read: 3 ops, ",
                                        "write: 3 ops, ",   "zero: 3 ops, ",
                                        "trim: 3 ops, ",    "flush: 3 ops, ",
                                        "extents: 3 ops, ", "cache: 3 ops, "};

    (void)state;
    start_chain(3, (const char *[]){statsfile, NULL}, NULL);
    for (unsigned loop = 0; loop < 3; loop++) {
        host_enter_loop(loop);
        for (uint32_t op = ABD_OP_READ; op <= ABD_OP_CACHE; op++)
            assert_int_equal(
                result_of(op, 0, 512, op == ABD_OP_FLUSH ? 0 : 512, data), 0);
    }
    assert_string_equal(contents(), "");
    end_chain();
    for (unsigned i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(contents(), lines[i]))
            fail_msg("no \"%s\" in %s", lines[i], text);
    assert_non_null(strstr(text, "1.50 KiB"));
    assert_null(strstr(text, "failed"));
}

static void counts_failures_apart(void **state)
{
    (void)state;
    start_chain(1, (const char *[]){statsfile, NULL}, NULL);
    host.answer = ENOSPC;
    assert_int_equal(result_of(ABD_OP_WRITE, 0, 0, 512, data), ENOSPC);
    host.answer = 0;
    end_chain();
    assert_non_null(strstr(contents(), "write: 0 ops, 0.000000 s, 0 bytes, "
                                       "0 bytes/s op, 0 bytes/s total, "
                                       "1 failed\n"));
    assert_null(strstr(text, "read"));
}

static void the_threshold_can_be_set(void **state)
{
    static const char *const settings[] = {
        "statsthreshold=0", "statsthreshold=40", "statsthreshold=100"};

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        start_chain(1, (const char *[]){statsfile, settings[i], NULL}, NULL);
        for (unsigned n = 0; n < 4; n++)
            result_of(ABD_OP_READ, 0, 0, n < 3 ? 512 : 100, data);
        end_chain();
        assert_int_equal(!!strstr(contents(), "breakdown"), i > 0);
        assert_int_equal(!!strstr(text, "     9 bits:  75.0%"), i > 0);
        assert_int_equal(!!strstr(text, "other sizes:  25.0%"), i == 1);
        assert_int_equal(!!strstr(text, "     6 bits:  25.0%"), i == 2);
    }
}

static void appends_if_told_so(void **state)
{
    static const char *const settings[] = {NULL, "statsappend=no",
                                           "statsappend=yes"};

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        FILE *file = fopen(path, "w");
        fputs("old\n", file);
        fclose(file);
        start_chain(1, (const char *[]){statsfile, settings[i], NULL}, NULL);
        end_chain();
        assert_int_equal(strncmp(contents(), "old\n", 4) == 0, i == 2);
        assert_non_null(strstr(text, "total: 0 ops"));
    }
}

static void the_file_is_needed(void **state)
{
    (void)state;
    host_init(1);
    assert_int_equal(host_layer(NULL), 0);
    assert_int_equal(host_start(), EINVAL);
    assert_non_null(strstr(host.log, "statsfile=FILE is missing"));
    host_stop();

    host_init(1);
    assert_int_equal(
        host_layer((const char *[]){"statsfile=/nonexistent/x", NULL}), 0);
    assert_int_equal(host_start(), ENOENT);
    assert_non_null(strstr(host.log, "E statsfile=/nonexistent/x: "));
    host_stop();
}

static void a_full_file_is_reported(void **state)
{
    (void)state;
    start_chain(1, (const char *[]){"statsfile=/dev/full", NULL}, NULL);
    end_chain();
    assert_non_null(strstr(host.log, "E statsfile=/dev/full: No space"));
}

static void refuses_bad_values(void **state)
{
    (void)state;
    refuses("statsthreshold", "101");
    refuses("statsthreshold", "-1");
    refuses("statsthreshold", "most");
    assert_non_null(strstr(host.log, "from 0"));
    refuses("statsappend", "perhaps");
    host_init(1);
    assert_int_equal(host_layer((const char *[]){"statsfile=", NULL}), EINVAL);
    host_stop();
}

static void twice_in_a_chain(void **state)
{
    (void)state;
    start_chain(
        1,
        (const char *[]){statsfile, "statsappend=1", "statsthreshold=0", NULL},
        (const char *[]){statsfile, "statsappend=1", NULL});
    assert_int_equal(result_of(ABD_OP_READ, 0, 0, 512, data), 0);
    end_chain();
    const char *first = strstr(contents(), "read: 1 ops");
    assert_non_null(first);
    assert_non_null(strstr(first + 1, "read: 1 ops"));
    const char *breakdown = strstr(first, "breakdown");
    assert_non_null(breakdown);
    assert_null(strstr(breakdown + 1, "breakdown"));
}

static void passes_lent_memory(void **state)
{
    (void)state;
    passes_lent((const char *[]){statsfile, NULL});
    assert_non_null(strstr(contents(), "read: 2 ops"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_file, remove_file)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_readable),
        cmocka_unit_test(the_largest_numbers_fit),
        TEST(counts_every_command_on_every_loop),
        TEST(counts_failures_apart),
        TEST(the_threshold_can_be_set),
        TEST(appends_if_told_so),
        TEST(the_file_is_needed),
        TEST(a_full_file_is_reported),
        TEST(refuses_bad_values),
        TEST(twice_in_a_chain),
        TEST(passes_lent_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
