/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The arena: all or nothing, a tenth for reads, untouched until used, and
 * buffers that never overlap. */
#include "tests/unit/memory_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>

static void refuses_what_cannot_be_an_arena(void **state)
{
    struct arena *none = NULL;
    struct arena_counters counters;

    (void)state;
    assert_int_equal(arena_create(80 * MIB, 0, false, &none), EINVAL);
    assert_int_equal(loops_create(1), 0);
    assert_int_equal(arena_create(4 * MIB - 1, 0, false, &none), EINVAL);
    assert_int_equal(arena_create(UINT64_MAX, 0, false, &none), EINVAL);
    assert_null(none);
    assert_int_equal(arena_create(5 * MIB - 1, 0, false, &none), 0);
    arena_read_counters(none, &counters);
    assert_int_equal(counters.total, 4 * MIB);
    arena_destroy(none);
    arena_destroy(NULL);
    loops_destroy();
}

static void create_without_memory(void)
{
    struct rlimit limit = {1024 * MIB, 1024 * MIB};
    struct arena *none = NULL;
    int lowest = dup(0);

    close(lowest);
    if (loops_create(1) != 0)
        _exit(1);
    setrlimit(RLIMIT_AS, &limit);
    if (arena_create(4096 * MIB, 0, false, &none) != ENOMEM || none)
        _exit(2);
    if (arena_create(4096 * MIB, 0, true, &none) != ENOMEM || none)
        _exit(3);
    loops_destroy();
    /* Nothing was left open. */
    if (dup(0) != lowest)
        _exit(4);
}

static void reports_lack_of_address_space(void **state)
{
    char text[4096];

    (void)state;
    if (UNDER_SANITIZER) {
        print_message(
            "SKIP: a sanitizer needs the address space that is refused here\n");
        skip();
    }
    assert_int_equal(run_in_child(create_without_memory, text, sizeof text), 0);
}

static void create_without_files(void)
{
    struct rlimit limit;
    struct arena *none = NULL;

    if (loops_create(1) != 0)
        _exit(1);
    limit.rlim_cur = limit.rlim_max = (rlim_t)dup(0);
    setrlimit(RLIMIT_NOFILE, &limit);
    if (arena_create(4 * MIB, 0, true, &none) != EMFILE || none)
        _exit(2);
    loops_destroy();
}

static void reports_lack_of_descriptors(void **state)
{
    char text[4096];

    (void)state;
    assert_int_equal(run_in_child(create_without_files, text, sizeof text), 0);
}

static void costs_are_those_of_the_class(void **state)
{
    (void)state;
    assert_int_equal(memory_cost(1), 4 * KIB);
    assert_int_equal(memory_cost(4 * KIB), 4 * KIB);
    assert_int_equal(memory_cost(4 * KIB + 1), 8 * KIB);
    assert_int_equal(memory_cost(128 * KIB), 128 * KIB);
    assert_int_equal(memory_cost(MIB - 1), MIB);
    assert_int_equal(memory_cost(MIB), MIB);
    assert_int_equal(memory_cost(MIB + 1), 2 * MIB);
    assert_int_equal(memory_cost(64 * MIB), 64 * MIB);
}

/* Bytes of the range that lie in memory. */
static uint64_t resident(void)
{
    static unsigned char pages[80 * MIB / 4096];
    uint64_t length;
    uint64_t bytes = 0;
    void *base;
    int fd;

    arena_range(arena, &base, &length, &fd);
    assert_int_equal(mincore(base, length, pages), 0);
    for (uint64_t i = 0; i < length / 4096; i++)
        if (pages[i] & 1)
            bytes += 4096;
    return bytes;
}

static void use_little(void *arg)
{
    void *buffers[512];

    (void)arg;
    /* Takes all, touches nothing. */
    for (unsigned i = 0; i < 512; i++) {
        buffers[i] = take(MEMORY_WRITE, 128 * KIB);
        assert_non_null(buffers[i]);
        assert_int_equal((uintptr_t)buffers[i] % 4096, 0);
    }
    assert_int_equal(resident(), 0);
    for (unsigned i = 0; i < 512; i++)
        memory_give(mine(), buffers[i], 128 * KIB);
    assert_int_equal(resident(), 0);
    /* What was given back last is taken first: it is warm. */
    for (unsigned i = 0; i < 1000; i++) {
        void *one = take(MEMORY_WRITE, 128 * KIB);
        void *two = take(MEMORY_READ, 4 * KIB);

        memset(one, 1, 128 * KIB);
        memset(two, 1, 4 * KIB);
        memory_give(mine(), two, 4 * KIB);
        memory_give(mine(), one, 128 * KIB);
    }
    assert_true(resident() <= 2 * 132 * KIB);
}

static void memory_is_touched_only_where_it_is_used(void **state)
{
    (void)state;
    begin(1, 80 * MIB, false);
    run_on(abd_loop_at(0), use_little, NULL);
    end();
}

static void use_much(void *arg)
{
    void *buffers[2];

    (void)arg;
    for (unsigned i = 0; i < 2; i++) {
        buffers[i] = take(MEMORY_WRITE, 32 * MIB);
        memset(buffers[i], 1, 32 * MIB);
    }
    memory_give(mine(), buffers[0], 32 * MIB);
    /* In use, and used a moment ago. */
    arena_trim(arena);
    assert_int_equal(resident(), 64 * MIB);
    arena_trim(arena);
    assert_int_equal(resident(), 32 * MIB);
    memory_give(mine(), buffers[1], 32 * MIB);
    arena_trim(arena);
    arena_trim(arena);
    assert_int_equal(resident(), 0);
    /* It is memory all the same. */
    buffers[0] = take(MEMORY_READ, 80 * MIB);
    assert_non_null(buffers[0]);
    memset(buffers[0], 1, 80 * MIB);
    memory_give(mine(), buffers[0], 80 * MIB);
}

static void trimming_gives_back_what_is_cold(void **state)
{
    (void)state;
    begin(1, 80 * MIB, false);
    run_on(abd_loop_at(0), use_much, NULL);
    end();
}

static void use_registered(void *arg)
{
    struct abd_loop *loop = abd_loop_current();
    void *buffer = take(MEMORY_WRITE, 2 * MIB);
    void *base;
    uint64_t length;
    char byte;
    int fd;

    (void)arg;
    arena_range(arena, &base, &length, &fd);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal((uintptr_t)base % (2 * MIB), 0);
    assert_int_equal(length, 80 * MIB);
    memset(buffer, 'x', 2 * MIB);
    assert_int_equal(
        pread(fd, &byte, 1, (char *)buffer - (char *)base + 1234567), 1);
    assert_int_equal(byte, 'x');
    memory_give(arena_memory(arena, loop), buffer, 2 * MIB);
    arena_trim(arena);
    arena_trim(arena);
    assert_int_equal(resident(), 2 * MIB);
}

static void a_registered_arena_is_a_file_and_keeps_its_pages(void **state)
{
    (void)state;
    begin(1, 80 * MIB, true);
    run_on(abd_loop_at(0), use_registered, NULL);
    end();
}

static void use_up(void *arg)
{
    struct arena_counters counters;
    void *writes[72];
    void *reads[8];

    (void)arg;
    for (unsigned i = 0; i < 72; i++)
        assert_non_null(writes[i] = take(MEMORY_WRITE, MIB));
    assert_null(take(MEMORY_WRITE, MIB));
    assert_null(take(MEMORY_WRITE, 4 * KIB));
    for (unsigned i = 0; i < 8; i++)
        assert_non_null(reads[i] = take(MEMORY_READ, MIB));
    assert_null(take(MEMORY_READ, 4 * KIB));
    arena_read_counters(arena, &counters);
    assert_int_equal(counters.in_use, 80 * MIB);
    assert_int_equal(memory_free_bytes(mine()), 0);
    /* A write's place serves a read, a read's last ones no write. */
    memory_give(mine(), reads[0], MIB);
    assert_null(take(MEMORY_WRITE, 4 * KIB));
    memory_give(mine(), writes[0], MIB);
    assert_non_null(reads[0] = take(MEMORY_READ, MIB));
    assert_non_null(writes[0] = take(MEMORY_READ, MIB));
    for (unsigned i = 0; i < 72; i++)
        memory_give(mine(), writes[i], MIB);
    for (unsigned i = 0; i < 8; i++)
        memory_give(mine(), reads[i], MIB);
    assert_int_equal(memory_free_bytes(mine()), 80 * MIB);
}

static void writes_leave_a_tenth_to_reads(void **state)
{
    (void)state;
    begin(1, 80 * MIB, false);
    run_on(abd_loop_at(0), use_up, NULL);
    end();
}

static void use_small(void *arg)
{
    const uint64_t sizes[] = {4 * KIB, 4 * KIB, 2 * MIB};
    const uint64_t too_much[] = {4 * KIB, 2 * MIB, MIB};
    void *buffers[3];

    (void)arg;
    /* Three chunks of the four. */
    assert_true(memory_fits(mine(), MEMORY_WRITE, sizes, 3));
    assert_false(memory_fits(mine(), MEMORY_WRITE, too_much, 3));
    assert_true(memory_fits(mine(), MEMORY_READ, too_much, 3));
    for (unsigned i = 0; i < 100; i++) {
        assert_true(memory_take(mine(), MEMORY_WRITE, sizes, 3, buffers));
        assert_null(take(MEMORY_WRITE, 8 * KIB));
        for (unsigned j = 0; j < 3; j++)
            memory_give(mine(), buffers[j], sizes[j]);
        /* All or nothing. */
        assert_false(memory_take(mine(), MEMORY_WRITE, too_much, 3, buffers));
        assert_int_equal(memory_free_bytes(mine()), 4 * MIB);
        assert_true(memory_take(mine(), MEMORY_READ, too_much, 3, buffers));
        for (unsigned j = 0; j < 3; j++)
            memory_give(mine(), buffers[j], too_much[j]);
    }
}

static void taking_is_all_or_nothing(void **state)
{
    (void)state;
    begin(1, 4 * MIB, false);
    run_on(abd_loop_at(0), use_small, NULL);
    end();
}

static void charge(void *arg)
{
    uint64_t all = 80 * MIB;
    uint64_t less = 60 * MIB;
    uint64_t writes = 54 * MIB;
    void *buffer;

    (void)arg;
    assert_true(memory_fits(mine(), MEMORY_READ, &all, 1));
    assert_false(arena_charge(arena, 20 * MIB + 1));
    assert_true(arena_charge(arena, 1));
    assert_false(memory_fits(mine(), MEMORY_READ, &all, 1));
    assert_null(take(MEMORY_READ, all));
    assert_true(arena_charge(arena, 20 * MIB - 1));
    assert_false(arena_charge(arena, 1));
    assert_int_equal(memory_free_bytes(mine()), 60 * MIB);
    assert_non_null(buffer = take(MEMORY_READ, less));
    assert_null(take(MEMORY_READ, 4 * KIB));
    memory_give(mine(), buffer, less);
    assert_true(memory_fits(mine(), MEMORY_WRITE, &writes, 1));
    assert_non_null(buffer = take(MEMORY_WRITE, writes));
    assert_null(take(MEMORY_WRITE, 4 * KIB));
    memory_give(mine(), buffer, writes);
}

static void what_is_charged_is_missing(void **state)
{
    struct arena_counters counters;

    (void)state;
    begin(1, 80 * MIB, false);
    run_on(abd_loop_at(0), charge, NULL);
    arena_read_counters(arena, &counters);
    assert_int_equal(counters.charged, 20 * MIB);
    end();
}

/* Buffers never overlap, whatever is taken and given back: each is filled with
 * its own number, which must still be there at the end. */
#define MODEL 300

struct model_buffer {
    void *data;
    uint64_t size;
    unsigned char number;
};

static void mark(const struct model_buffer *buffer)
{
    char *data = buffer->data;

    data[0] = data[buffer->size / 2] = data[buffer->size - 1] =
        (char)buffer->number;
}

static bool is_marked(const struct model_buffer *buffer)
{
    const char *data = buffer->data;
    char number = (char)buffer->number;

    return data[0] == number && data[buffer->size / 2] == number &&
           data[buffer->size - 1] == number;
}

static void run_model(void *arg)
{
    struct model_buffer *model = calloc(MODEL, sizeof *model);
    uint32_t seed = (uint32_t)(uintptr_t)arg;
    uint64_t used = 0;
    unsigned refused = 0;

    for (unsigned long i = 0; i < rounds; i++) {
        struct model_buffer *buffer = &model[next_random(&seed) % MODEL];

        if (buffer->data) {
            assert_true(is_marked(buffer));
            memory_give(mine(), buffer->data, buffer->size);
            used -= memory_cost(buffer->size);
            buffer->data = NULL;
            continue;
        }
        buffer->size = random_size(&seed);
        buffer->number = (unsigned char)next_random(&seed);
        buffer->data = take(next_random(&seed) % 2 ? MEMORY_READ : MEMORY_WRITE,
                            buffer->size);
        if (buffer->data) {
            used += memory_cost(buffer->size);
            mark(buffer);
        } else {
            refused++;
        }
        assert_true(used <= 24 * MIB);
    }
    assert_true(refused > 0);
    for (unsigned i = 0; i < MODEL; i++)
        if (model[i].data)
            memory_give(mine(), model[i].data, model[i].size);
    free(model);
}

static void buffers_of_several_loops_never_overlap(void **state)
{
    struct call calls[3];

    (void)state;
    begin(3, 24 * MIB, false);
    for (uintptr_t i = 0; i < 3; i++) {
        calls[i] = (struct call){.fn = run_model, .arg = (void *)(i + 1)};
        sem_init(&calls[i].done, 0, 0);
        abd_post(abd_loop_at((unsigned)i), &calls[i].task, on_call, &calls[i]);
    }
    /* From elsewhere, all the while. */
    for (unsigned i = 0; i < 200; i++) {
        arena_trim(arena);
        sched_yield();
    }
    for (unsigned i = 0; i < 3; i++)
        wait_for(&calls[i].done);
    end();
}

static void give_twice(void *arg)
{
    void *one = take(MEMORY_WRITE, 4 * KIB);
    void *two = take(MEMORY_WRITE, 4 * KIB);

    (void)arg;
    memory_give(mine(), one, 4 * KIB);
    memory_give(mine(), one, 4 * KIB);
    memory_give(mine(), two, 4 * KIB);
}

static void give_as_another_size(void *arg)
{
    (void)arg;
    memory_give(mine(), take(MEMORY_WRITE, 4 * KIB), 8 * KIB);
}

static void (*misuse)(void *arg);

static void commit_misuse(void)
{
    begin(1, 4 * MIB, false);
    run_on(abd_loop_at(0), misuse, NULL);
}

static void giving_back_what_was_not_taken_aborts(void **state)
{
    char text[4096];
    int status;

    (void)state;
    misuse = give_twice;
    status = run_in_child(commit_misuse, text, sizeof text);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    misuse = give_as_another_size;
    status = run_in_child(commit_misuse, text, sizeof text);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_cannot_be_an_arena),
        cmocka_unit_test(reports_lack_of_address_space),
        cmocka_unit_test(reports_lack_of_descriptors),
        cmocka_unit_test(giving_back_what_was_not_taken_aborts),
        cmocka_unit_test(costs_are_those_of_the_class),
        cmocka_unit_test(memory_is_touched_only_where_it_is_used),
        cmocka_unit_test(trimming_gives_back_what_is_cold),
        cmocka_unit_test(a_registered_arena_is_a_file_and_keeps_its_pages),
        cmocka_unit_test(writes_leave_a_tenth_to_reads),
        cmocka_unit_test(taking_is_all_or_nothing),
        cmocka_unit_test(what_is_charged_is_missing),
        cmocka_unit_test(buffers_of_several_loops_never_overlap),
    };

    set_rounds();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
