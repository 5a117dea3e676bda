/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The memory plugin against a plain array, with several loops at once, with
 * blocks that are lent while they are trimmed or overwritten, and without
 * memory. */
#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/plugin_double.h"

#define LOOPS    4
#define BLOCK    65536
#define MIB      (UINT64_C(1) << 20)
#define DISK_MAX "9223372036854775807"

/* The n-th call from now on fails, and all behind it; 0: none does. */
static atomic_uint fail_mmap, fail_calloc;

/* The linker makes these names. */
/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl*) */
void *__real_mmap64(void *, size_t, int, int, int, off_t);
void *__wrap_mmap64(void *, size_t, int, int, int, off_t);
void *__real_calloc(size_t, size_t);
void *__wrap_calloc(size_t, size_t);

static bool fails(atomic_uint *count)
{
    unsigned n = atomic_load(count);

    if (n > 1)
        atomic_store(count, n - 1);
    return n == 1;
}

void *__wrap_mmap64(void *at, size_t length, int prot, int flags, int fd,
                    off_t offset)
{
    if (fails(&fail_mmap))
        return MAP_FAILED;
    return __real_mmap64(at, length, prot, flags, fd, offset);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails(&fail_calloc) ? NULL : __real_calloc(n, size);
}

/* NOLINTEND(bugprone-reserved-identifier,cert-dcl*) */

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void open_memory(struct plugin_double *host, const char *size)
{
    assert_int_equal(double_create(host, "size", size, NULL), 0);
    assert_int_equal(double_open(host), 0);
}

static void close_memory(struct plugin_double *host)
{
    double_close(host);
    double_destroy(host);
}

static int run(struct plugin_double *host, uint32_t op, uint32_t flags,
               uint64_t offset, uint64_t length, void *data)
{
    struct request_double request = {.request.flags = flags};

    return double_run(host, &request, op, offset, length, data);
}

static void expect_bytes(struct plugin_double *host, uint64_t offset,
                         uint64_t length, const uint8_t *expected)
{
    struct request_double request = {0};
    uint8_t *data = malloc(length);

    assert_int_equal(
        double_run(host, &request, ABD_OP_READ, offset, length, data), 0);
    assert_memory_equal(data, expected, length);

    memset(data, 0xee, length);
    assert_int_equal(
        double_run(host, &request, ABD_OP_READ, offset, length, NULL), 0);
    double_copy_lent(&request, data);
    double_release(&request);
    assert_memory_equal(data, expected, length);
    free(data);
}

static uint64_t resident_bytes(void)
{
    unsigned long total, resident;
    FILE *file = fopen("/proc/self/statm", "r");

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu %lu", &total, &resident), 2);
    fclose(file);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void requires_a_size(void **state)
{
    struct plugin_double host;

    (void)state;
    assert_int_equal(double_create(&host, NULL), EINVAL);
    double_destroy(&host);
}

static void refuses_unknown_parameters_and_bad_sizes(void **state)
{
    struct plugin_double host;

    (void)state;
    assert_int_equal(double_create(&host, "sise", "1M", NULL), EINVAL);
    double_destroy(&host);
    assert_int_not_equal(double_create(&host, "size", "much", NULL), 0);
    double_destroy(&host);
}

/* What the extents call a hole must read as zeroes, and all is covered. */
static void check_extents(struct plugin_double *host, const uint8_t *model,
                          uint64_t size)
{
    struct request_double request = {0};
    uint64_t at = 0;

    assert_int_equal(double_run(host, &request, ABD_OP_EXTENTS, 0, size, NULL),
                     0);
    for (unsigned i = 0; i < request.extent_count; i++) {
        uint64_t length = request.extents[i].length;
        assert_true(length <= size - at);
        if (request.extents[i].flags) {
            assert_int_equal(request.extents[i].flags,
                             ABD_EXTENT_HOLE | ABD_EXTENT_ZERO);
            for (uint64_t j = at; j < at + length; j++)
                assert_int_equal(model[j], 0);
        }
        at += length;
    }
    assert_int_equal(at, size);
}

static void random_step(struct plugin_double *host, uint8_t *model,
                        uint64_t size, uint8_t *data, uint64_t *random)
{
    uint64_t offset = next_random(random) % size;
    uint64_t length = 1 + next_random(random) % (3 * BLOCK);
    uint32_t flags = next_random(random) % 2 ? ABD_REQ_MAY_TRIM : 0;

    if (next_random(random) % 3 == 0) {
        offset -= offset % BLOCK;
        length = BLOCK;
    }
    if (length > size - offset)
        length = size - offset;

    switch (next_random(random) % 6) {
    case 0:
    case 1:
        memset(data, (int)(next_random(random) % 255 + 1), length);
        assert_int_equal(run(host, ABD_OP_WRITE, 0, offset, length, data), 0);
        memcpy(model + offset, data, length);
        break;
    case 2:
        assert_int_equal(run(host, ABD_OP_ZERO, flags, offset, length, NULL),
                         0);
        memset(model + offset, 0, length);
        break;
    case 3:
        assert_int_equal(run(host, ABD_OP_TRIM, 0, offset, length, NULL), 0);
        memset(model + offset, 0, length);
        break;
    case 4:
        check_extents(host, model, size);
        break;
    default:
        expect_bytes(host, offset, length, model + offset);
    }
}

static void behaves_like_an_array(void **state)
{
    const uint64_t size = 20 * BLOCK + 1234;
    struct plugin_double host;
    uint8_t *model = calloc(1, size), *data = malloc(3 * BLOCK + 1);
    uint64_t random = 88172645463325252;

    (void)state;
    open_memory(&host, "1311954");
    assert_int_equal(host.disk.size, size);
    for (unsigned i = 0; i < 3000; i++)
        random_step(&host, model, size, data, &random);
    expect_bytes(&host, 0, size, model);
    close_memory(&host);
    free(model);
    free(data);
}

static void largest_disk_works(void **state)
{
    const uint64_t size = INT64_MAX;
    static const uint64_t places[] = {0, UINT64_C(1) << 40,
                                      (UINT64_C(1) << 62) + 7, INT64_MAX - 9};
    struct plugin_double host;
    struct request_double request = {0};
    uint8_t data[9] = "12345678";

    (void)state;
    open_memory(&host, DISK_MAX);
    assert_int_equal(host.disk.size, size);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(
            run(&host, ABD_OP_WRITE, 0, places[i], sizeof data, data), 0);
    for (unsigned i = 0; i < 4; i++)
        expect_bytes(&host, places[i], sizeof data, data);

    assert_int_equal(double_run(&host, &request, ABD_OP_EXTENTS, 0, size, NULL),
                     0);
    assert_int_equal(request.extent_count, 7);
    assert_int_equal(request.extents[0].length, BLOCK);
    assert_int_equal(request.extents[1].length, (UINT64_C(1) << 40) - BLOCK);

    assert_int_equal(run(&host, ABD_OP_TRIM, 0, 0, size, NULL), 0);
    assert_int_equal(double_run(&host, &request, ABD_OP_EXTENTS, 0, size, NULL),
                     0);
    assert_int_equal(request.extent_count, 1);
    assert_int_equal(request.extents[0].length, size);
    assert_int_equal(request.extents[0].flags,
                     ABD_EXTENT_HOLE | ABD_EXTENT_ZERO);
    close_memory(&host);
}

/* A hole that is found in the middle of where nothing is ends where data is. */
static void hole_ends_where_data_begins(void **state)
{
    const uint64_t data = UINT64_C(1024) * BLOCK;
    struct plugin_double host;
    struct request_double request = {0};
    uint8_t byte = 1;

    (void)state;
    open_memory(&host, DISK_MAX);
    assert_int_equal(run(&host, ABD_OP_WRITE, 0, data, 1, &byte), 0);
    assert_int_equal(double_run(&host, &request, ABD_OP_EXTENTS, 700 * BLOCK,
                                1000 * BLOCK, NULL),
                     0);
    assert_int_equal(request.extent_count, 3);
    assert_int_equal(request.extents[0].length, data - 700 * BLOCK);
    assert_int_equal(request.extents[1].length, BLOCK);
    assert_int_equal(request.extents[1].flags, 0);
    close_memory(&host);
}

static void one_extent_is_the_whole_first_one(void **state)
{
    struct plugin_double host;
    struct request_double request = {.extents_wanted = 1};
    uint8_t byte = 1;

    (void)state;
    open_memory(&host, "10M");
    assert_int_equal(run(&host, ABD_OP_WRITE, 0, 5 * BLOCK, 1, &byte), 0);
    assert_int_equal(
        double_run(&host, &request, ABD_OP_EXTENTS, 100, 6 * BLOCK, NULL), 0);
    assert_int_equal(request.extent_count, 1);
    assert_int_equal(request.extents[0].length, 5 * BLOCK - 100);
    close_memory(&host);
}

static void zero_keeps_the_range_allocated_unless_it_may_trim(void **state)
{
    struct plugin_double host;
    struct request_double request = {0};

    (void)state;
    open_memory(&host, "10M");
    assert_int_equal(run(&host, ABD_OP_ZERO, 0, 0, 4 * BLOCK, NULL), 0);
    assert_int_equal(
        double_run(&host, &request, ABD_OP_EXTENTS, 0, 10 * MIB, NULL), 0);
    assert_int_equal(request.extent_count, 2);
    assert_int_equal(request.extents[0].length, 4 * BLOCK);
    assert_int_equal(request.extents[0].flags & ABD_EXTENT_HOLE, 0);

    assert_int_equal(run(&host, ABD_OP_ZERO, ABD_REQ_MAY_TRIM | ABD_REQ_FAST,
                         BLOCK, 2 * BLOCK, NULL),
                     0);
    assert_int_equal(
        double_run(&host, &request, ABD_OP_EXTENTS, 0, 10 * MIB, NULL), 0);
    assert_int_equal(request.extent_count, 4);
    assert_int_equal(request.extents[1].length, 2 * BLOCK);
    assert_int_equal(request.extents[1].flags,
                     ABD_EXTENT_HOLE | ABD_EXTENT_ZERO);
    close_memory(&host);
}

static void trim_and_zero_give_memory_back(void **state)
{
    const uint64_t size = 64 * MIB;
    struct plugin_double host;
    uint8_t *data = malloc(MIB);

    (void)state;
    memset(data, 0x5a, MIB);
    open_memory(&host, "64M");
    for (unsigned round = 0; round < 3; round++) {
        for (uint64_t at = 0; at < size; at += MIB)
            assert_int_equal(run(&host, ABD_OP_WRITE, 0, at, MIB, data), 0);
        uint64_t full = resident_bytes();
        if (round == 0)
            run(&host, ABD_OP_TRIM, 0, 0, size, NULL);
        else if (round == 1)
            run(&host, ABD_OP_ZERO, ABD_REQ_MAY_TRIM, 0, size, NULL);
        else
            for (uint64_t at = 0; at < size; at += 8192)
                run(&host, ABD_OP_TRIM, 0, at, 8192, NULL);
        assert_true(resident_bytes() + 56 * MIB < full);
    }
    close_memory(&host);
    free(data);
}

static void trimmed_block_stays_as_long_as_it_is_lent(void **state)
{
    struct plugin_double host;
    struct request_double lent = {0};
    uint8_t *old = malloc(6 * BLOCK), *data = malloc(6 * BLOCK);

    (void)state;
    memset(old, 1, 6 * BLOCK);
    memset(data, 2, 6 * BLOCK);
    open_memory(&host, "10M");
    run(&host, ABD_OP_WRITE, 0, 0, 6 * BLOCK, old);
    /* Six blocks are more than fit into scratch. */
    double_run(&host, &lent, ABD_OP_READ, 100, 6 * BLOCK - 200, NULL);
    run(&host, ABD_OP_TRIM, 0, 0, 6 * BLOCK, NULL);
    run(&host, ABD_OP_WRITE, 0, 0, 6 * BLOCK, data);

    uint8_t *copy = malloc(6 * BLOCK);
    double_copy_lent(&lent, copy);
    assert_memory_equal(copy, old, 6 * BLOCK - 200);
    double_release(&lent);
    expect_bytes(&host, 0, 6 * BLOCK, data);
    close_memory(&host);
    free(old);
    free(data);
    free(copy);
}

static void overwritten_block_is_old_or_new_where_it_is_lent(void **state)
{
    struct plugin_double host;
    struct request_double lent = {0};
    uint8_t data[4096], copy[4096];

    (void)state;
    open_memory(&host, "1M");
    memset(data, 1, sizeof data);
    run(&host, ABD_OP_WRITE, 0, 8192, sizeof data, data);
    double_run(&host, &lent, ABD_OP_READ, 8192, sizeof data, NULL);
    memset(data, 2, sizeof data);
    run(&host, ABD_OP_WRITE, 0, 8192, 2048, data);
    double_copy_lent(&lent, copy);
    for (unsigned i = 0; i < sizeof copy; i++)
        assert_true(copy[i] == 1 || (copy[i] == 2 && i < 2048));
    double_release(&lent);
    close_memory(&host);
}

static void contents_survive_without_clients(void **state)
{
    struct plugin_double host;
    uint8_t data[4] = "abc";

    (void)state;
    open_memory(&host, "1M");
    run(&host, ABD_OP_WRITE, ABD_REQ_FUA, 70000, sizeof data, data);
    double_close(&host);
    assert_int_equal(double_open(&host), 0);
    expect_bytes(&host, 70000, sizeof data, data);
    assert_int_equal(run(&host, ABD_OP_FLUSH, 0, 0, 0, NULL), 0);
    assert_int_equal(run(&host, ABD_OP_CACHE, 0, 0, 4096, NULL), 0);
    close_memory(&host);
}

static void without_memory_requests_fail_cleanly(void **state)
{
    struct plugin_double host;
    uint8_t data[4] = "abc";
    static const uint8_t zeroes[4];

    (void)state;
    open_memory(&host, DISK_MAX);
    fail_mmap = 1;
    assert_int_equal(run(&host, ABD_OP_WRITE, 0, 5, sizeof data, data), ENOSPC);
    assert_int_equal(run(&host, ABD_OP_ZERO, 0, 5, sizeof data, NULL), ENOSPC);
    fail_mmap = 0;
    for (unsigned i = 1; i < 5; i++) {
        fail_calloc = i;
        assert_int_equal(
            run(&host, ABD_OP_WRITE, 0, (uint64_t)i << 56, sizeof data, data),
            ENOSPC);
        fail_calloc = 0;
    }
    for (unsigned i = 1; i < 3; i++) {
        fail_calloc = i;
        assert_int_equal(run(&host, ABD_OP_READ, 0, 0, 5 * BLOCK, NULL),
                         ENOMEM);
        fail_calloc = 0;
    }
    expect_bytes(&host, 5, sizeof data, zeroes);
    assert_int_equal(run(&host, ABD_OP_WRITE, 0, 5, sizeof data, data), 0);
    expect_bytes(&host, 5, sizeof data, data);
    close_memory(&host);
}

/* ---- several loops */

#define OWN   (8 * BLOCK) /* bytes that only one loop writes */
#define HELD  16
#define STEPS 4000

struct worker {
    struct plugin_double *host;
    struct abd_task task;
    unsigned index;
    uint64_t random;
    uint8_t model[OWN], data[OWN];
    struct request_double held[HELD];
    sem_t ended;
    unsigned wrong;
};

static struct request_double *submit_here(struct worker *worker,
                                          struct request_double *request,
                                          uint32_t op, uint64_t offset,
                                          uint64_t length, void *data)
{
    request->request.flags =
        next_random(&worker->random) % 2 ? ABD_REQ_MAY_TRIM : 0;
    double_prepare(worker->host, request, op, offset, length, data);
    worker->host->plugin->submit(&request->request);
    if (!request->ended || request->error)
        worker->wrong++;
    return request;
}

/* What lies in the loop's own range must be exactly as in the model. */
static void step_alone(struct worker *worker)
{
    struct request_double request = {0};
    uint64_t at = next_random(&worker->random) % OWN;
    uint64_t length = 1 + next_random(&worker->random) % (OWN - at);
    uint64_t base = (uint64_t)worker->index * OWN;
    uint8_t value = (uint8_t)next_random(&worker->random);

    if (next_random(&worker->random) % 2)
        length = 1 + length % 4096;
    switch (next_random(&worker->random) % 4) {
    case 0:
        memset(worker->data, value, length);
        memset(worker->model + at, value, length);
        submit_here(worker, &request, ABD_OP_WRITE, base + at, length,
                    worker->data);
        break;
    case 1:
        memset(worker->model + at, 0, length);
        submit_here(worker, &request, ABD_OP_ZERO, base + at, length, NULL);
        break;
    case 2:
        submit_here(worker, &request, ABD_OP_READ, base + at, length,
                    worker->data);
        if (memcmp(worker->data, worker->model + at, length) != 0)
            worker->wrong++;
        break;
    default:
        submit_here(worker, &request, ABD_OP_READ, base + at, length, NULL);
        double_copy_lent(&request, worker->data);
        if (memcmp(worker->data, worker->model + at, length) != 0)
            worker->wrong++;
        request.release(request.release_arg);
    }
}

/* In the range that all use, each byte is that of some loop, or zero. */
static void step_together(struct worker *worker)
{
    struct request_double request = {0};
    struct request_double *held =
        &worker->held[next_random(&worker->random) % HELD];
    uint64_t base = LOOPS * OWN;
    uint64_t at = next_random(&worker->random) % OWN;
    uint64_t length = 1 + next_random(&worker->random) % (OWN - at);

    if (held->release) {
        double_copy_lent(held, worker->data);
        for (uint64_t i = 0; i < held->request.length; i++)
            if (worker->data[i] > LOOPS)
                worker->wrong++;
        held->release(held->release_arg);
        held->release = NULL;
        return;
    }
    switch (next_random(&worker->random) % 4) {
    case 0:
        memset(worker->data, (int)worker->index + 1, length);
        submit_here(worker, &request, ABD_OP_WRITE, base + at, length,
                    worker->data);
        break;
    case 1:
        submit_here(worker, &request, ABD_OP_TRIM, base + at, length, NULL);
        break;
    case 2:
        request.extents_wanted = DOUBLE_EXTENTS;
        submit_here(worker, &request, ABD_OP_EXTENTS, base, OWN, NULL);
        break;
    default:
        submit_here(worker, held, ABD_OP_READ, base + at, length, NULL);
    }
}

static void work(void *arg)
{
    struct worker *worker = arg;

    for (unsigned i = 0; i < STEPS; i++) {
        if (i % 2)
            step_together(worker);
        else
            step_alone(worker);
    }
    for (unsigned i = 0; i < HELD; i++)
        if (worker->held[i].release)
            worker->held[i].release(worker->held[i].release_arg);
    sem_post(&worker->ended);
}

static void loops_use_it_at_the_same_time(void **state)
{
    struct plugin_double host;
    struct worker *workers = calloc(LOOPS, sizeof *workers);

    (void)state;
    open_memory(&host, "64M");
    for (unsigned i = 0; i < LOOPS; i++) {
        workers[i].host = &host;
        workers[i].index = i;
        sem_init(&workers[i].ended, 0, 0);
        workers[i].random = 12345 + i;
        abd_post(abd_loop_at(i), &workers[i].task, work, &workers[i]);
    }
    for (unsigned i = 0; i < LOOPS; i++) {
        while (sem_wait(&workers[i].ended))
            continue;
        assert_int_equal(workers[i].wrong, 0);
        expect_bytes(&host, i * (uint64_t)OWN, OWN, workers[i].model);
    }
    close_memory(&host);
    free(workers);
}

static int start(void **state)
{
    (void)state;
    double_start_loops(LOOPS);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    double_stop_loops();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requires_a_size),
        cmocka_unit_test(refuses_unknown_parameters_and_bad_sizes),
        cmocka_unit_test(behaves_like_an_array),
        cmocka_unit_test(largest_disk_works),
        cmocka_unit_test(hole_ends_where_data_begins),
        cmocka_unit_test(one_extent_is_the_whole_first_one),
        cmocka_unit_test(zero_keeps_the_range_allocated_unless_it_may_trim),
        cmocka_unit_test(trim_and_zero_give_memory_back),
        cmocka_unit_test(trimmed_block_stays_as_long_as_it_is_lent),
        cmocka_unit_test(overwritten_block_is_old_or_new_where_it_is_lent),
        cmocka_unit_test(contents_survive_without_clients),
        cmocka_unit_test(without_memory_requests_fail_cleanly),
        cmocka_unit_test(loops_use_it_at_the_same_time),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
