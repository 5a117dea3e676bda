/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the tests of the file plugin share: the set-ups (each a process of its
 * own), files, and system calls that fail when a test says so. */
#ifndef PLUGIN_FILE_KIT_H
#define PLUGIN_FILE_KIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/unit/plugin_double.h"

#define LOOPS     2
#define MIB       (UINT64_C(1) << 20)
#define ON_DISK   "/var/tmp"
#define IN_MEMORY "/dev/shm"

struct set_up {
    const char *name, *folder;
    bool direct;
    const char *refused; /* a debug flag to be 0, or "seccomp" */
};
extern const struct set_up *set_up;
extern bool kernel_has_rings;
extern char path[64]; /* of the test's file */

/* Errors that calls of the plugin end with; 0: they are made. */
extern atomic_int fail_read, fail_write, fail_sync, fail_allocate, fail_seek;
extern atomic_bool refuse_dsync; /* EOPNOTSUPP */
/* So many times the data that was found has gone when its end is looked for. */
extern atomic_uint vanishing_data;
/* Bytes that one read or write does at most; every other one is interrupted.
 * 0: any. */
extern atomic_uint limit;
/* Every other result of a ring becomes this error, or is cut to so many bytes.
 */
extern atomic_int fail_ring;
extern atomic_int ring_limit;
/* Every other submission to a ring finds it busy, and it holds few. */
extern atomic_bool ring_busy;
extern atomic_uint syncs, dsync_writes; /* counted */

/* While it is held, a change of a range without its data waits, as for a
 * journal; wait_for_change() returns when one does. */
void hold_changes(bool hold);
void wait_for_change(void);
extern atomic_uint loop_reads, loop_writes; /* counted: calls by loops */

uint64_t next_random(uint64_t *state);
void *pages(uint64_t length); /* aligned, zeroed */
/* A sparse file; each test makes its own. */
void make_file(uint64_t size);
void open_path(struct plugin_double *host);
void open_file(struct plugin_double *host, uint64_t size);
void close_file(struct plugin_double *host);
/* One request; returns its error. */
int run(struct plugin_double *host, uint32_t op, uint32_t flags,
        uint64_t offset, uint64_t length, void *data);
bool lends(const struct plugin_double *host, uint64_t length);
/* What was written leaves the page cache (where there is one). */
void drop_cache(void);
void expect_bytes(struct plugin_double *host, uint64_t offset, uint64_t length,
                  const uint8_t *expected);
unsigned count_rings(void);

/* Calls run_group (which returns how many tests failed) in a child for each
 * set-up, or for the one that an argument names; returns the exit code. */
int run_set_ups(int argc, char **argv, int (*run_group)(void));
/* For the groups. */
int start_loops(void **state);
int stop_loops(void **state);

#endif
