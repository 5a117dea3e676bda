/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The file plugin against a plain array, in each of the ways it has: page cache
 * or direct I/O, a file system on storage or in memory, and with each of what
 * the kernel may refuse refused. */
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

#define SLOT  (512 * UINT64_C(1024))
#define SLOTS 16
#define TAIL  1234
#define SIZE  (SLOTS * SLOT + TAIL)

static void uses_a_ring_unless_refused(void **state)
{
    bool refused = set_up->refused && (!strcmp(set_up->refused, "io_uring") ||
                                       !strcmp(set_up->refused, "seccomp"));
    struct plugin_double host;

    (void)state;
    open_file(&host, MIB);
    assert_int_equal(count_rings(), kernel_has_rings && !refused ? LOOPS : 0);
    close_file(&host);
    assert_int_equal(count_rings(), 0);
}

struct slot {
    struct request_double request;
    uint8_t *data;
    bool lent;
};

/* A random request inside of the slot, noted in the model. */
static void choose(struct plugin_double *host, struct slot *slot,
                   unsigned number, uint8_t *model, uint64_t *random)
{
    static const uint32_t flags[] = {0, ABD_REQ_FUA, ABD_REQ_MAY_TRIM,
                                     ABD_REQ_MAY_TRIM | ABD_REQ_FUA};
    uint64_t block = host->disk.block_min;
    uint64_t offset = next_random(random) % SLOT / block * block;
    uint64_t length =
        (1 + next_random(random) % (SLOT - offset)) / block * block;
    uint32_t op = ABD_OP_READ + next_random(random) % 4;

    if (next_random(random) % 2 && length > 8192)
        length = 8192;
    if (!length)
        length = block;
    slot->request.request.flags =
        op == ABD_OP_READ ? 0 : flags[next_random(random) % 4];
    offset += (uint64_t)number * SLOT;
    slot->lent =
        op == ABD_OP_READ && lends(host, length) && next_random(random) % 2;
    memset(slot->data, (int)(next_random(random) % 256), length);
    if (op == ABD_OP_WRITE)
        memcpy(model + offset, slot->data, length);
    double_prepare(host, &slot->request, op, offset, length,
                   op == ABD_OP_WRITE || (op == ABD_OP_READ && !slot->lent)
                       ? slot->data
                       : NULL);
}

static void check(struct plugin_double *host, struct slot *slot, uint8_t *model)
{
    const struct abd_request *request = &slot->request.request;
    uint64_t offset = request->offset, length = request->length;

    double_wait(&slot->request);
    if (request->op == ABD_OP_ZERO && slot->request.error == ENOTSUP) {
        memset(slot->data, 0, length);
        assert_int_equal(run(host, ABD_OP_WRITE, 0, offset, length, slot->data),
                         0);
        slot->request.error = 0;
    }
    assert_int_equal(slot->request.error, 0);
    if (request->op == ABD_OP_ZERO || request->op == ABD_OP_TRIM) {
        /* Holes are punched on all file systems of these tests. */
        memset(model + offset, 0, length);
    } else if (request->op == ABD_OP_READ) {
        if (slot->lent) {
            double_copy_lent(&slot->request, slot->data);
            double_release(&slot->request);
        }
        assert_memory_equal(slot->data, model + offset, length);
    }
}

static void behaves_like_an_array(void **state)
{
    struct plugin_double host;
    struct slot slots[SLOTS] = {0};
    uint8_t *model = calloc(1, SIZE);
    uint64_t random = 88172645463325252;

    (void)state;
    open_file(&host, SIZE);
    for (unsigned i = 0; i < SLOTS; i++)
        slots[i].data = pages(SLOT + 65536);
    for (unsigned round = 0; round < 60; round++) {
        if (round % 7 == 0)
            drop_cache();
        for (unsigned i = 0; i < SLOTS; i++) {
            choose(&host, &slots[i], i, model, &random);
            if (i % (SLOTS / LOOPS))
                slots[i - 1].request.next = &slots[i].request;
        }
        for (unsigned i = 0; i < LOOPS; i++)
            double_submit(i, &slots[i * (SLOTS / LOOPS)].request);
        for (unsigned i = 0; i < SLOTS; i++)
            check(&host, &slots[i], model);
        if (round % 10 == 0)
            assert_int_equal(run(&host, ABD_OP_FLUSH, 0, 0, 0, NULL), 0);
    }
    for (unsigned i = 0; i < SLOTS; i++)
        free(slots[i].data);

    memset(model + SIZE - 99, 7, 99);
    assert_int_equal(
        run(&host, ABD_OP_WRITE, 0, SIZE - 99, 99, model + SIZE - 99), 0);
    drop_cache();
    expect_bytes(&host, SIZE - 70000, 70000, model + SIZE - 70000);
    close_file(&host);
    free(model);
}

static void more_requests_than_a_ring_holds(void **state)
{
    const unsigned count = 1500;
    struct plugin_double host;
    struct request_double *requests = calloc(count, sizeof *requests);
    uint8_t *data = pages(count * 4096ul);

    (void)state;
    open_file(&host, count * 4096ul);
    for (unsigned write = 2; write-- > 0;) {
        for (unsigned i = 0; i < count; i++) {
            uint8_t *at = data + i * 4096ul;
            memset(at, write ? (int)(i % 251 + 1) : 0, 4096);
            double_prepare(&host, &requests[i],
                           write ? ABD_OP_WRITE : ABD_OP_READ, i * 4096ul, 4096,
                           at);
            if (i)
                requests[i - 1].next = &requests[i];
        }
        double_submit(1, requests);
        for (unsigned i = 0; i < count; i++) {
            double_wait(&requests[i]);
            assert_int_equal(requests[i].error, 0);
            for (unsigned j = 0; j < 4096; j++)
                assert_int_equal(data[i * 4096ul + j], i % 251 + 1);
        }
        drop_cache();
    }
    close_file(&host);
    free(requests);
    free(data);
}

static void read_of_what_was_cut_off_is_an_error(void **state)
{
    struct plugin_double host;
    struct request_double request = {0};
    uint8_t *data = pages(MIB);

    (void)state;
    open_file(&host, 2 * MIB);
    assert_int_equal(run(&host, ABD_OP_WRITE, 0, 0, MIB, data), 0);
    assert_int_equal(truncate(path, MIB - 65536), 0);
    assert_int_equal(run(&host, ABD_OP_READ, 0, MIB, 4096, data), EIO);
    assert_int_equal(double_run(&host, &request, ABD_OP_READ, 0, MIB, data),
                     EIO);
    assert_int_equal(request.failed_at, MIB - 65536);
    if (lends(&host, MIB) && strcmp(set_up->folder, IN_MEMORY) != 0)
        assert_int_equal(run(&host, ABD_OP_READ, 0, 65536, MIB, NULL), EIO);

    /* And it isn't called a hole. */
    assert_int_equal(
        double_run(&host, &request, ABD_OP_EXTENTS, MIB, MIB, NULL), 0);
    assert_int_equal(request.extent_count, 0);
    close_file(&host);
    free(data);
}

static void extents_are_those_of_the_file(void **state)
{
    struct plugin_double host;
    struct request_double request = {0};
    uint8_t *data = pages(MIB);

    (void)state;
    memset(data, 1, MIB);
    open_file(&host, 8 * MIB);
    assert_int_equal(run(&host, ABD_OP_WRITE, 0, 2 * MIB, MIB, data), 0);
    assert_int_equal(run(&host, ABD_OP_WRITE, 0, 5 * MIB, MIB, data), 0);
    assert_int_equal(
        double_run(&host, &request, ABD_OP_EXTENTS, MIB, 6 * MIB, NULL), 0);
    assert_int_equal(request.extent_count, 5);
    static const uint64_t lengths[] = {MIB, MIB, 2 * MIB, MIB, MIB};
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(request.extents[i].length, lengths[i]);
        assert_int_equal(request.extents[i].flags,
                         i % 2 ? 0 : ABD_EXTENT_HOLE | ABD_EXTENT_ZERO);
    }
    request.extents_wanted = 1;
    assert_int_equal(
        double_run(&host, &request, ABD_OP_EXTENTS, 5 * MIB, MIB, NULL), 0);
    assert_int_equal(request.extent_count, 1);
    assert_int_equal(request.extents[0].length, MIB);
    close_file(&host);
    free(data);
}

static uint64_t allocated(void)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

static void zero_allocates_and_trim_frees(void **state)
{
    struct plugin_double host;
    uint8_t *data = pages(MIB), *zeroes = pages(MIB);

    (void)state;
    memset(data, 1, MIB);
    open_file(&host, 4 * MIB);
    assert_int_equal(run(&host, ABD_OP_ZERO, 0, 0, MIB, NULL), 0);
    assert_true(allocated() >= MIB);
    assert_int_equal(run(&host, ABD_OP_WRITE, 0, 0, MIB, data), 0);
    assert_int_equal(run(&host, ABD_OP_ZERO, ABD_REQ_FAST, 0, MIB, NULL), 0);
    assert_true(allocated() >= MIB);
    expect_bytes(&host, 0, MIB, zeroes);

    assert_int_equal(run(&host, ABD_OP_WRITE, ABD_REQ_FUA, 0, MIB, data), 0);
    assert_int_equal(
        run(&host, ABD_OP_ZERO, ABD_REQ_MAY_TRIM, 0, MIB / 2, NULL), 0);
    assert_int_equal(
        run(&host, ABD_OP_TRIM, ABD_REQ_FUA, MIB / 2, MIB / 2, NULL), 0);
    assert_true(allocated() < MIB / 2);
    expect_bytes(&host, 0, MIB, zeroes);
    if (!set_up->direct)
        assert_int_equal(run(&host, ABD_OP_CACHE, 0, 0, MIB, NULL), 0);
    close_file(&host);
    free(data);
    free(zeroes);
}

/* A file that is being changed is locked, for as long as its journal takes; who
 * reads what is not cached, or writes, waits for that, but no loop does. */
static void loops_do_not_wait_for_a_change(void **state)
{
    struct plugin_double host;
    struct request_double change = {0};
    uint8_t *data = pages(65536);

    (void)state;
    open_file(&host, MIB);
    memset(data, 5, 65536);
    assert_int_equal(run(&host, ABD_OP_WRITE, 0, 0, 65536, data), 0);
    drop_cache();
    hold_changes(true);
    double_prepare(&host, &change, ABD_OP_TRIM, MIB / 2, 65536, NULL);
    double_submit(0, &change);
    wait_for_change();

    atomic_store(&loop_reads, 0);
    atomic_store(&loop_writes, 0);
    expect_bytes(&host, 4096, 4096, data);
    assert_true(strcmp(set_up->folder, IN_MEMORY) == 0 ||
                atomic_load(&loop_reads) == 0);
    assert_int_equal(run(&host, ABD_OP_WRITE, 0, 65536, 4096, data), 0);
    assert_int_equal(run(&host, ABD_OP_WRITE, ABD_REQ_FUA, 8192, 4096, data),
                     0);
    assert_int_equal(atomic_load(&loop_writes), 0);
    assert_false(change.ended);
    hold_changes(false);
    double_wait(&change);
    assert_int_equal(change.error, 0);
    close_file(&host);
    free(data);
}

static void cancelled_zero_ends(void **state)
{
    struct plugin_double host;
    struct request_double request = {.cancelled = true};

    (void)state;
    open_file(&host, MIB);
    assert_int_equal(double_run(&host, &request, ABD_OP_ZERO, 0, MIB, NULL),
                     ECANCELED);
    close_file(&host);
}

/* What would have to wait; in memory nothing does. */
static void cancelled_requests_are_not_begun(void **state)
{
    bool waits = strcmp(set_up->folder, IN_MEMORY) != 0;
    struct plugin_double host;
    struct request_double write = {.cancelled = true}, read = write;
    uint8_t *data = pages(4096), *old = pages(4096);

    (void)state;
    open_file(&host, MIB);
    memset(old, 1, 4096);
    assert_int_equal(run(&host, ABD_OP_WRITE, 0, 0, 4096, old), 0);
    drop_cache();
    assert_int_equal(double_run(&host, &read, ABD_OP_READ, 0, 4096, data),
                     waits ? ECANCELED : 0);
    assert_int_equal(data[0], waits ? 0 : 1);
    memset(data, 2, 4096);
    write.request.flags = ABD_REQ_FUA;
    assert_int_equal(double_run(&host, &write, ABD_OP_WRITE, 0, 4096, data),
                     waits ? ECANCELED : 0);
    expect_bytes(&host, 0, 4096, waits ? old : data);
    close_file(&host);
    free(data);
    free(old);
}

static int run_group(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uses_a_ring_unless_refused),
        cmocka_unit_test(behaves_like_an_array),
        cmocka_unit_test(more_requests_than_a_ring_holds),
        cmocka_unit_test(read_of_what_was_cut_off_is_an_error),
        cmocka_unit_test(extents_are_those_of_the_file),
        cmocka_unit_test(zero_allocates_and_trim_frees),
        cmocka_unit_test(loops_do_not_wait_for_a_change),
        cmocka_unit_test(cancelled_zero_ends),
        cmocka_unit_test(cancelled_requests_are_not_begun),
    };

    return cmocka_run_group_tests_name(set_up->name, tests, start_loops,
                                       stop_loops);
}

int main(int argc, char **argv)
{
    return run_set_ups(argc, argv, run_group);
}
