/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The file plugin on what only a privileged test can make: a block device (a
 * loop device over a file), a full file system, a file that may not grow.  What
 * this machine does not allow is skipped. */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/plugin_file_kit.h"

#define DEVICE_SIZE (8 * MIB)

/* Puts a loop device over the test's file, which gets its name in path.  It
 * goes away when it is closed for the last time.  -1: not here. */
static int attach_device(char *backing, size_t size)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0)
        return -1;
    int number = ioctl(control, LOOP_CTL_GET_FREE);
    close(control);
    if (number < 0)
        return -1;

    make_file(DEVICE_SIZE);
    snprintf(backing, size, "%s", path);
    int file = open(path, O_RDWR | O_CLOEXEC);
    snprintf(path, sizeof path, "/dev/loop%d", number);
    int device = open(path, O_RDWR | O_CLOEXEC);
    struct loop_config config = {.fd = (uint32_t)file,
                                 .info.lo_flags = LO_FLAGS_AUTOCLEAR};
    if (device >= 0 && ioctl(device, LOOP_CONFIGURE, &config)) {
        close(device);
        device = -1;
    }
    close(file);
    if (device < 0)
        unlink(backing);
    return device;
}

static void block_device_works(void **state)
{
    char backing[64];
    struct plugin_double host;
    uint8_t *data = pages(MIB), *zeroes = pages(MIB);
    struct stat st;

    (void)state;
    int device = attach_device(backing, sizeof backing);
    if (device < 0) {
        free(data);
        free(zeroes);
        print_message("SKIP: no loop device can be had (root?)\n");
        skip();
    }
    for (unsigned i = 0; i < MIB; i++)
        data[i] = (uint8_t)(i / 512 + 1);

    open_path(&host);
    assert_int_equal(host.disk.size, DEVICE_SIZE);
    assert_int_equal(host.disk.block_min, set_up->direct ? 512 : 1);
    assert_int_equal(host.disk.ops & 1u << ABD_OP_EXTENTS, 0);
    assert_int_equal(run(&host, ABD_OP_WRITE, ABD_REQ_FUA, MIB, MIB, data), 0);
    assert_int_equal(run(&host, ABD_OP_WRITE, 0, DEVICE_SIZE - 512, 512, data),
                     0);
    expect_bytes(&host, MIB, MIB, data);

    /* Half is zeroed, half trimmed: the file below gives both back. */
    assert_int_equal(
        run(&host, ABD_OP_ZERO, ABD_REQ_MAY_TRIM, MIB, MIB / 2, NULL), 0);
    assert_int_equal(
        run(&host, ABD_OP_TRIM, ABD_REQ_FUA, MIB + MIB / 2, MIB / 2, NULL), 0);
    expect_bytes(&host, MIB, MIB, zeroes);
    assert_int_equal(run(&host, ABD_OP_FLUSH, 0, 0, 0, NULL), 0);
    assert_int_equal(stat(backing, &st), 0);
    assert_true((uint64_t)st.st_blocks * 512 < MIB / 2);

    /* What is no whole block is the server's to write; allocated zeroes can't
     * be had fast. */
    assert_int_equal(run(&host, ABD_OP_ZERO, ABD_REQ_MAY_TRIM, 100, 512, NULL),
                     ENOTSUP);
    assert_int_equal(run(&host, ABD_OP_ZERO, ABD_REQ_FAST, 0, 4096, NULL),
                     ENOTSUP);
    assert_int_equal(run(&host, ABD_OP_TRIM, 0, 100, 100, NULL), 0);
    assert_int_equal(run(&host, ABD_OP_WRITE, 0, 0, 4096, data), 0);
    assert_int_equal(run(&host, ABD_OP_ZERO, 0, 0, 4096, NULL), 0);
    expect_bytes(&host, 0, 4096, zeroes);
    double_close(&host);
    double_destroy(&host);
    close(device);
    unlink(backing);
    free(data);
    free(zeroes);
}

/* In a mount namespace of this process, mounted over the folder. */
static bool mount_small(void)
{
    return !unshare(CLONE_NEWNS) &&
           !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
           !mount("tmpfs", IN_MEMORY, "tmpfs", 0, "size=256k");
}

static void full_file_system_is_no_space(void **state)
{
    struct plugin_double host;
    struct request_double request = {0};
    uint8_t *data = pages(MIB);

    (void)state;
    if (!mount_small()) {
        free(data);
        print_message("SKIP: a file system cannot be mounted (root?)\n");
        skip();
    }
    memset(data, 3, MIB);
    double_start_loops(LOOPS);
    open_file(&host, MIB);
    assert_int_equal(double_run(&host, &request, ABD_OP_WRITE, 0, MIB, data),
                     ENOSPC);
    assert_true(request.failed_at > 0 && request.failed_at <= 256 * 1024);
    expect_bytes(&host, 0, request.failed_at, data);
    assert_int_equal(run(&host, ABD_OP_ZERO, 0, 0, MIB, NULL), ENOSPC);

    /* A hole makes room. */
    assert_int_equal(run(&host, ABD_OP_TRIM, 0, 0, MIB, NULL), 0);
    assert_int_equal(run(&host, ABD_OP_WRITE, 0, 0, 65536, data), 0);
    close_file(&host);
    double_stop_loops();
    umount2(IN_MEMORY, MNT_DETACH);
    free(data);
}

/* The limit makes a write that crosses it short, and the next one fail. */
static void file_that_may_not_grow_tells_where(void **state)
{
    struct plugin_double host;
    struct request_double request = {0};
    uint8_t *data = pages(MIB);
    struct rlimit old, small;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    memset(data, 3, MIB);
    open_file(&host, MIB);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 65536;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int err = double_run(&host, &request, ABD_OP_WRITE, 0, MIB, data);
    int err_beyond = run(&host, ABD_OP_WRITE, ABD_REQ_FUA, MIB / 2, 4096, data);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(err, EFBIG);
    assert_int_equal(request.failed_at, 65536);
    assert_int_equal(err_beyond, EFBIG);
    expect_bytes(&host, 0, 65536, data);
    close_file(&host);
    free(data);
}

static int run_group(void)
{
    /* Before any thread, because a namespace is a thread's. */
    const struct CMUnitTest first[] = {
        cmocka_unit_test(full_file_system_is_no_space),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(block_device_works),
        cmocka_unit_test(file_that_may_not_grow_tells_where),
    };
    int failed = 0;

    if (!strcmp(set_up->folder, IN_MEMORY))
        failed = cmocka_run_group_tests_name("full", first, NULL, NULL);
    return failed + cmocka_run_group_tests_name(set_up->name, tests,
                                                start_loops, stop_loops);
}

int main(int argc, char **argv)
{
    return run_set_ups(argc, argv, run_group);
}
