/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The file plugin against a plain array, in each of the ways it has: page cache
 * or direct I/O, a file system on storage or in memory, and with each of what
 * the kernel may refuse refused.  Every set-up is a process of its own. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <liburing.h>

#include "tests/unit/plugin_double.h"

#define LOOPS     2
#define SLOT      (512u << 10)
#define SLOTS     16
#define TAIL      1234
#define SIZE      (SLOTS * (uint64_t)SLOT + TAIL)
#define MIB       (1u << 20)
#define ON_DISK   "/var/tmp"
#define IN_MEMORY "/dev/shm"

struct set_up {
    const char *name, *folder;
    bool direct;
    const char *refused; /* a debug flag to be 0, or "seccomp" */
};

static const struct set_up *set_up;
static bool kernel_has_rings;
static char path[64];

/* ---- calls that fail when the test says so */

static atomic_int fail_read, fail_write, fail_sync, fail_allocate, fail_seek;
static atomic_uint syncs, dsync_writes, steps;
static atomic_uint limit; /* bytes of one read or write; 0: any */
static atomic_bool refuse_dsync;

ssize_t __real_preadv64v2(int, const struct iovec *, int, off_t, int);
ssize_t __wrap_preadv64v2(int, const struct iovec *, int, off_t, int);
ssize_t __real_pwritev64v2(int, const struct iovec *, int, off_t, int);
ssize_t __wrap_pwritev64v2(int, const struct iovec *, int, off_t, int);
int __real_fdatasync(int);
int __wrap_fdatasync(int);
int __real_fallocate64(int, int, off_t, off_t);
int __wrap_fallocate64(int, int, off_t, off_t);
off_t __real_lseek64(int, off_t, int);
off_t __wrap_lseek64(int, off_t, int);

static struct iovec cut(const struct iovec *iov)
{
    unsigned most = atomic_load(&limit);
    struct iovec one = *iov;

    if (most && one.iov_len > most)
        one.iov_len = most;
    return one;
}

/* With a limit, every other call is also interrupted. */
static int error_of(const atomic_int *fail)
{
    int err = atomic_load(fail);

    if (!err && atomic_load(&limit) && atomic_fetch_add(&steps, 1) % 2)
        err = EINTR;
    return err;
}

ssize_t __wrap_preadv64v2(int fd, const struct iovec *iov, int n, off_t offset,
                          int flags)
{
    struct iovec one = cut(iov);

    errno = error_of(&fail_read);
    return errno ? -1 : __real_preadv64v2(fd, &one, n, offset, flags);
}

ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int n, off_t offset,
                           int flags)
{
    struct iovec one = cut(iov);

    errno = error_of(&fail_write);
    if (!errno && flags & RWF_DSYNC && atomic_load(&refuse_dsync))
        errno = EOPNOTSUPP;
    if (errno)
        return -1;
    if (flags & RWF_DSYNC)
        atomic_fetch_add(&dsync_writes, 1);
    return __real_pwritev64v2(fd, &one, n, offset, flags);
}

int __wrap_fdatasync(int fd)
{
    atomic_fetch_add(&syncs, 1);
    errno = atomic_load(&fail_sync);
    return errno ? -1 : __real_fdatasync(fd);
}

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t length)
{
    errno = atomic_load(&fail_allocate);
    return errno ? -1 : __real_fallocate64(fd, mode, offset, length);
}

off_t __wrap_lseek64(int fd, off_t offset, int whence)
{
    errno = atomic_load(&fail_seek);
    return errno ? -1 : __real_lseek64(fd, offset, whence);
}

/* ---- helpers */

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void *pages(size_t length)
{
    void *memory = NULL;

    assert_int_equal(posix_memalign(&memory, 4096, length), 0);
    memset(memory, 0, length);
    return memory;
}

/* A sparse file; each test makes its own. */
static void make_file(uint64_t size)
{
    snprintf(path, sizeof path, "%s/abdkit-test-XXXXXX", set_up->folder);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    close(fd);
}

static void open_path(struct plugin_double *host)
{
    assert_int_equal(double_create(host, "file", path, "direct",
                                   set_up->direct ? "true" : "false", NULL),
                     0);
    assert_int_equal(double_open(host), 0);
}

static void open_file(struct plugin_double *host, uint64_t size)
{
    make_file(size);
    open_path(host);
    assert_int_equal(host->disk.size, size);
}

static void close_file(struct plugin_double *host)
{
    double_close(host);
    double_destroy(host);
    unlink(path);
}

static int run(struct plugin_double *host, uint32_t op, uint32_t flags,
               uint64_t offset, uint64_t length, void *data)
{
    struct request_double request = {.request.flags = flags};

    return double_run(host, &request, op, offset, length, data);
}

static bool lends(const struct plugin_double *host, uint64_t length)
{
    return host->disk.flags & ABD_DISK_LENDS && length >= host->disk.lend_min;
}

/* What was written leaves the page cache (where there is one). */
static void drop_cache(void)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    __real_fdatasync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

static void expect_bytes(struct plugin_double *host, uint64_t offset,
                         uint64_t length, const uint8_t *expected)
{
    struct request_double request = {0};
    uint8_t *data = pages(length);

    memset(data, 0xee, length);
    assert_int_equal(
        double_run(host, &request, ABD_OP_READ, offset, length, data), 0);
    assert_memory_equal(data, expected, length);
    if (lends(host, length)) {
        memset(data, 0xee, length);
        assert_int_equal(
            double_run(host, &request, ABD_OP_READ, offset, length, NULL), 0);
        assert_int_equal(request.piece_count, 1);
        assert_int_equal(request.pieces[0].kind, ABD_PIECE_FILE);
        double_copy_lent(&request, data);
        double_release(&request);
        assert_memory_equal(data, expected, length);
    }
    free(data);
}

static unsigned count_rings(void)
{
    DIR *folder = opendir("/proc/self/fd");
    struct dirent *entry;
    unsigned count = 0;
    char link[300], target[64];

    assert_non_null(folder);
    while ((entry = readdir(folder))) {
        snprintf(link, sizeof link, "/proc/self/fd/%s", entry->d_name);
        ssize_t n = readlink(link, target, sizeof target - 1);
        target[n < 0 ? 0 : n] = 0;
        count += strstr(target, "[io_uring]") != NULL;
    }
    closedir(folder);
    return count;
}

/* ---- tests of every set-up */

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
    if (request->op == ABD_OP_ZERO) {
        memset(model + offset, 0, length);
    } else if (request->op == ABD_OP_TRIM) {
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

/* ---- what goes wrong */

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

/* ---- running it */

static int start(void **state)
{
    struct plugin_double host = {.plugin = abd_plugin_entry()};

    (void)state;
    if (set_up->refused && strcmp(set_up->refused, "seccomp") != 0)
        double_set_debug(&host, set_up->refused, 0);
    double_start_loops(LOOPS);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    double_stop_loops();
    return 0;
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
        cmocka_unit_test(cancelled_zero_ends),
        cmocka_unit_test(short_and_interrupted_steps_are_continued),
        cmocka_unit_test(errors_reach_the_client),
        cmocka_unit_test(failed_flush_stays_failed_until_reopened),
        cmocka_unit_test(durable_write_without_dsync_is_flushed),
        cmocka_unit_test(what_is_not_supported_is_left_to_the_server),
        cmocka_unit_test(says_what_is_wrong_with_parameters),
        cmocka_unit_test(vanished_file_cannot_be_opened),
        cmocka_unit_test(busy_program_is_read_only),
        cmocka_unit_test(direct_tells_its_alignment),
    };

    return cmocka_run_group_tests_name(set_up->name, tests, start, stop);
}

static void refuse_rings(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        perror("seccomp");
        exit(1);
    }
}

int main(int argc, char **argv)
{
    static const struct set_up all[] = {
        {"page cache", ON_DISK, false, NULL},
        {"in memory", IN_MEMORY, false, NULL},
        {"direct", ON_DISK, true, NULL},
        {"no io_uring", ON_DISK, false, "io_uring"},
        {"no io_uring by seccomp", ON_DISK, false, "seccomp"},
        {"direct, no io_uring by seccomp", ON_DISK, true, "seccomp"},
        {"no RWF_NOWAIT", ON_DISK, false, "nowait"},
        {"no cachestat", ON_DISK, false, "cachestat"},
        {"no RWF_DSYNC", ON_DISK, false, "dsync"},
        {"direct, no RWF_DSYNC", ON_DISK, true, "dsync"},
    };
    struct io_uring ring;
    int failed = 0, status;

    kernel_has_rings = !io_uring_queue_init(4, &ring, 0);
    if (kernel_has_rings)
        io_uring_queue_exit(&ring);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        set_up = &all[i];
        if (argc > 1 && strcmp(argv[1], set_up->name) != 0)
            continue;
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            if (set_up->refused && !strcmp(set_up->refused, "seccomp"))
                refuse_rings();
            exit(run_group());
        }
        if (waitpid(child, &status, 0) != child || status)
            failed++;
    }
    return failed != 0;
}
