/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Steps that the tests of all filters share. */
#ifndef ABD_TESTS_FILTER_TEST_H
#define ABD_TESTS_FILTER_TEST_H

#include "filter_host.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* The filter once, or with a second configuration twice, started and opened on
 * so many loops. */
static inline void start_chain(unsigned loops, const char *const *first,
                               const char *const *second)
{
    host_init(loops);
    assert_int_equal(host_layer(first), 0);
    if (second)
        assert_int_equal(host_layer(second), 0);
    assert_int_equal(host_start(), 0);
    assert_int_equal(host_open(), 0);
}

static inline void end_chain(void)
{
    assert_true(host_close());
    assert_int_equal(host.open_disks, 0);
    assert_int_equal(host.timers, 0);
    host_stop();
}

/* The value is refused, in a line that names it and its key. */
static inline void refuses(const char *key, const char *value)
{
    char text[200], line[240];

    host_init(1);
    snprintf(text, sizeof text, "%s=%s", key, value);
    assert_int_not_equal(host_layer((const char *[]){text, NULL}), 0);
    snprintf(line, sizeof line, "E %s=%s: ", key, value);
    if (!strstr(host.log, line))
        fail_msg("expected \"%s\" in \"%s\"", line, host.log);
    host_stop();
}

/* A request from its start to its end, through a chain that delays nothing. */
static inline int result_of(uint32_t op, uint32_t flags, uint64_t offset,
                            uint64_t length, void *data)
{
    struct host_request *request =
        host_submit(op, flags, offset, length, data, NULL);

    host_advance(0);
    assert_true(request->done);
    int error = request->error;
    host_free(request);
    return error;
}

/* A READ without data ends with the very pieces that the disk below lent, and
 * one with data reaches it with the same memory. */
static inline void passes_lent(const char *const *config)
{
    static const char memory[512];
    static const struct abd_piece pieces[] = {
        {.kind = ABD_PIECE_MEMORY, .length = 512, .data = memory},
        {.kind = ABD_PIECE_HOLE, .length = 512},
    };
    char data[512];

    start_chain(1, config, config);
    host.lend = pieces;
    host.n_lend = 2;
    assert_true(host.top->flags & ABD_DISK_LENDS);
    assert_true(host.top->flags & ABD_DISK_PARALLEL);
    struct host_request *lent =
        host_submit(ABD_OP_READ, 0, 8192, 1024, NULL, NULL);
    struct host_request *copied =
        host_submit(ABD_OP_READ, 0, 1024, 512, data, NULL);
    host_advance(UINT64_C(1000000000));
    assert_true(lent->done);
    assert_int_equal(lent->error, 0);
    assert_ptr_equal(lent->pieces, pieces);
    assert_int_equal(lent->n_pieces, 2);
    assert_true(copied->done);
    assert_int_equal(host.n_seen, 2);
    assert_int_equal(host.seen[0].offset, 8192);
    assert_ptr_equal(host.seen[1].data, data);
    host_free(lent);
    host_free(copied);
    end_chain();
}

#endif
