/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The file plugin when something goes wrong, in each of the ways it has: every
 * error reaches the client, and nothing is lost. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/plugin_file_kit.h"

static void short_and_interrupted_steps_are_continued(void **state)
{
    struct plugin_double host;
    uint8_t *data = pages(MIB);

    (void)state;
    for (unsigned i = 0; i < MIB; i++)
        data[i] = (uint8_t)(i * 7 / 3);
    open_file(&host, MIB);
    atomic_store(&limit, 12288);
    assert_int_equal(run(&host, ABD_OP_WRITE, 0, 0, MIB, data), 0);
    assert_int_equal(run(&host, ABD_OP_WRITE, ABD_REQ_FUA, 0, MIB / 2, data),
                     0);
    drop_cache();
    expect_bytes(&host, 0, MIB, data);
    expect_bytes(&host, 0, MIB, data);
    atomic_store(&limit, 0);
    close_file(&host);
    free(data);
}

static void errors_reach_the_client(void **state)
{
    static const int errors[] = {EIO, ENOSPC, EDQUOT};
    struct plugin_double host;
    struct request_double request = {0};
    uint8_t *data = pages(4096);

    (void)state;
    open_file(&host, MIB);
    /* Direct I/O goes by the ring, which these can't stop. */
    for (unsigned i = 0; i < 3 && !set_up->direct; i++) {
        atomic_store(&fail_write, errors[i]);
        assert_int_equal(
            double_run(&host, &request, ABD_OP_WRITE, 0, 4096, data),
            errors[i]);
        assert_int_equal(request.failed_at, 0);
        atomic_store(&fail_write, 0);
        assert_int_equal(run(&host, ABD_OP_WRITE, 0, 0, 4096, data), 0);
    }
    if (!set_up->direct && !set_up->refused) {
        atomic_store(&fail_read, EIO);
        assert_int_equal(run(&host, ABD_OP_READ, 0, 0, 4096, data), EIO);
        atomic_store(&fail_read, 0);
    }
    atomic_store(&fail_allocate, ENOSPC);
    assert_int_equal(run(&host, ABD_OP_ZERO, 0, 0, 4096, NULL), ENOSPC);
    atomic_store(&fail_allocate, EIO);
    assert_int_equal(run(&host, ABD_OP_TRIM, 0, 0, 4096, NULL), EIO);
    atomic_store(&fail_allocate, 0);
    atomic_store(&fail_seek, EIO);
    assert_int_equal(run(&host, ABD_OP_EXTENTS, 0, 0, 4096, NULL), EIO);
    atomic_store(&fail_seek, 0);
    close_file(&host);
    free(data);
}

/* Many at once, so that some have to wait for a place in the ring. */
static void expect_from_ring(int error)
{
    const unsigned count = 700;
    struct plugin_double host;
    struct request_double *requests = calloc(count, sizeof *requests);
    uint8_t *data = pages(count * UINT64_C(8192));
    unsigned failed = 0;

    open_file(&host, count * UINT64_C(8192));
    memset(data, 9, count * UINT64_C(8192));
    for (uint64_t at = 0; at < count * UINT64_C(8192); at += MIB / 2)
        assert_int_equal(run(&host, ABD_OP_WRITE, ABD_REQ_FUA, at,
                             count * UINT64_C(8192) - at < MIB / 2
                                 ? count * UINT64_C(8192) - at
                                 : MIB / 2,
                             data + at),
                         0);
    drop_cache();
    memset(data, 0, count * UINT64_C(8192));
    for (unsigned i = 0; i < count; i++) {
        double_prepare(&host, &requests[i], ABD_OP_READ, i * UINT64_C(8192),
                       8192, data + i * UINT64_C(8192));
        if (i)
            requests[i - 1].next = &requests[i];
    }
    atomic_store(error > 0 ? &fail_ring : &ring_limit,
                 error > 0 ? error : -error);
    atomic_store(&ring_busy, true);
    double_submit(0, requests);
    for (unsigned i = 0; i < count; i++) {
        double_wait(&requests[i]);
        if (requests[i].error) {
            assert_int_equal(requests[i].error, error);
            failed++;
        } else {
            assert_int_equal(data[i * UINT64_C(8192)], 9);
            assert_int_equal(data[i * UINT64_C(8192) + 8191], 9);
        }
    }
    atomic_store(&fail_ring, 0);
    atomic_store(&ring_limit, 0);
    atomic_store(&ring_busy, false);
    if (error == EIO && set_up->direct && count_rings())
        assert_int_equal(failed, count / 2);
    else if (error != EIO)
        assert_int_equal(failed, 0);
    close_file(&host);
    free(requests);
    free(data);
}

static void ring_results_are_continued_repeated_or_passed_on(void **state)
{
    (void)state;
    expect_from_ring(EIO);
    expect_from_ring(EINTR);
    expect_from_ring(EAGAIN);
    expect_from_ring(EOPNOTSUPP);
    expect_from_ring(-4096);
}

static void failed_flush_stays_failed_until_reopened(void **state)
{
    struct plugin_double host;
    uint8_t *data = pages(4096);

    (void)state;
    open_file(&host, MIB);
    assert_int_equal(run(&host, ABD_OP_WRITE, 0, 0, 4096, data), 0);
    atomic_store(&fail_sync, EIO);
    assert_int_equal(run(&host, ABD_OP_FLUSH, 0, 0, 0, NULL), EIO);
    atomic_store(&fail_sync, 0);
    assert_int_equal(run(&host, ABD_OP_FLUSH, 0, 0, 0, NULL), EIO);
    assert_int_equal(run(&host, ABD_OP_ZERO, ABD_REQ_FUA, 0, 4096, NULL), EIO);
    double_close(&host);
    assert_int_equal(double_open(&host), 0);
    assert_int_equal(run(&host, ABD_OP_FLUSH, 0, 0, 0, NULL), 0);
    close_file(&host);
    free(data);
}

static void durable_write_without_dsync_is_flushed(void **state)
{
    struct plugin_double host;
    uint8_t *data = pages(4096);
    bool in_memory = !strcmp(set_up->folder, IN_MEMORY);
    bool has_dsync = !set_up->refused || strcmp(set_up->refused, "dsync") != 0;

    (void)state;
    open_file(&host, MIB);
    atomic_store(&syncs, 0);
    atomic_store(&dsync_writes, 0);
    assert_int_equal(run(&host, ABD_OP_WRITE, ABD_REQ_FUA, 0, 4096, data), 0);
    assert_int_equal(atomic_load(&syncs), in_memory || has_dsync ? 0 : 1);
    if (!in_memory && has_dsync && count_rings() == 0)
        assert_int_equal(atomic_load(&dsync_writes), 1);

    atomic_store(&refuse_dsync, true);
    assert_int_equal(run(&host, ABD_OP_WRITE, ABD_REQ_FUA, 0, 4096, data), 0);
    if (!in_memory && !set_up->direct)
        assert_true(atomic_load(&syncs) > 0);
    atomic_store(&refuse_dsync, false);
    close_file(&host);
    free(data);
}

static void what_is_not_supported_is_left_to_the_server(void **state)
{
    struct plugin_double host;
    struct request_double request = {0};

    (void)state;
    open_file(&host, MIB);
    atomic_store(&fail_allocate, EOPNOTSUPP);
    assert_int_equal(run(&host, ABD_OP_ZERO, 0, 0, 4096, NULL), ENOTSUP);
    assert_int_equal(
        run(&host, ABD_OP_ZERO, ABD_REQ_MAY_TRIM | ABD_REQ_FAST, 0, 4096, NULL),
        ENOTSUP);
    assert_int_equal(run(&host, ABD_OP_TRIM, 0, 0, 4096, NULL), 0);
    atomic_store(&fail_allocate, 0);
    atomic_store(&fail_seek, EINVAL);
    assert_int_equal(double_run(&host, &request, ABD_OP_EXTENTS, 0, 4096, NULL),
                     0);
    assert_int_equal(request.extent_count, 0);
    atomic_store(&fail_seek, 0);
    close_file(&host);
}

/* The double wants no extent without length. */
static void extents_that_vanish_meanwhile_are_left_out(void **state)
{
    struct plugin_double host;
    struct request_double request = {0};
    uint8_t *data = pages(4096);

    (void)state;
    open_file(&host, MIB);
    data[0] = 1;
    assert_int_equal(run(&host, ABD_OP_WRITE, 0, 65536, 4096, data), 0);
    atomic_store(&vanishing_data, 2);
    assert_int_equal(double_run(&host, &request, ABD_OP_EXTENTS, 0, MIB, NULL),
                     0);
    assert_int_equal(atomic_exchange(&vanishing_data, 0), 0);
    assert_true(request.extent_count > 1);
    close_file(&host);
    free(data);
}

static void says_what_is_wrong_with_parameters(void **state)
{
    struct plugin_double host;

    (void)state;
    assert_int_equal(double_create(&host, NULL), EINVAL);
    double_destroy(&host);
    assert_int_equal(double_create(&host, "fyle", "x", NULL), EINVAL);
    double_destroy(&host);
    assert_int_equal(double_create(&host, "file", "x", "direct", "x", NULL),
                     EINVAL);
    double_destroy(&host);
    assert_int_equal(double_create(&host, "file", "/none/there", NULL), ENOENT);
    double_destroy(&host);
    assert_int_equal(double_create(&host, "file", set_up->folder, NULL),
                     EINVAL);
    double_destroy(&host);
}

static void vanished_file_cannot_be_opened(void **state)
{
    struct plugin_double host;

    (void)state;
    make_file(4096);
    assert_int_equal(double_create(&host, "file", path, NULL), 0);
    unlink(path);
    assert_int_equal(double_open(&host), ENOENT);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(double_open(&host), EINVAL);
    unlink(path);
    double_destroy(&host);
}

/* A program that runs can't be opened for writing. */
static void busy_program_is_read_only(void **state)
{
    struct plugin_double host;
    char command[160];
    int input[2], output[2];
    uint8_t *data = pages(4096);

    (void)state;
    make_file(0);
    snprintf(command, sizeof command, "cp /bin/cat %s && chmod 700 %s", path,
             path);
    assert_int_equal(system(command), 0);
    assert_int_equal(pipe2(input, O_CLOEXEC), 0);
    assert_int_equal(pipe2(output, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(input[0], 0);
        dup2(output[1], 1);
        execl(path, path, (char *)NULL);
        _exit(127);
    }
    /* What comes back shows that it runs. */
    assert_int_equal(write(input[1], "x", 1), 1);
    assert_int_equal(read(output[0], data, 1), 1);

    open_path(&host);
    assert_int_equal(host.disk.ops & (1u << ABD_OP_WRITE | 1u << ABD_OP_ZERO |
                                      1u << ABD_OP_TRIM | 1u << ABD_OP_FLUSH),
                     0);
    assert_int_equal(run(&host, ABD_OP_READ, 0, 0, 4096, data), 0);
    assert_memory_equal(data, "\177ELF", 4);
    close(input[1]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(input[0]);
    close(output[0]);
    close(output[1]);
    double_close(&host);
    host.disk.read_only = true;
    assert_int_equal(double_open(&host), 0);
    assert_int_equal(host.disk.ops & 1u << ABD_OP_WRITE, 0);
    close_file(&host);
    free(data);
}

static void direct_tells_its_alignment(void **state)
{
    struct plugin_double host;

    (void)state;
    open_file(&host, MIB);
    if (set_up->direct) {
        assert_true(host.disk.block_min >= 512);
        assert_int_equal(host.disk.flags & ABD_DISK_LENDS, 0);
    } else {
        assert_int_equal(host.disk.block_min, 1);
    }
    assert_true(host.disk.block_preferred >= host.disk.block_min);
    close_file(&host);
}

static int run_group(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_and_interrupted_steps_are_continued),
        cmocka_unit_test(errors_reach_the_client),
        cmocka_unit_test(ring_results_are_continued_repeated_or_passed_on),
        cmocka_unit_test(failed_flush_stays_failed_until_reopened),
        cmocka_unit_test(durable_write_without_dsync_is_flushed),
        cmocka_unit_test(what_is_not_supported_is_left_to_the_server),
        cmocka_unit_test(extents_that_vanish_meanwhile_are_left_out),
        cmocka_unit_test(says_what_is_wrong_with_parameters),
        cmocka_unit_test(vanished_file_cannot_be_opened),
        cmocka_unit_test(busy_program_is_read_only),
        cmocka_unit_test(direct_tells_its_alignment),
    };

    return cmocka_run_group_tests_name(set_up->name, tests, start_loops,
                                       stop_loops);
}

int main(int argc, char **argv)
{
    return run_set_ups(argc, argv, run_group);
}
