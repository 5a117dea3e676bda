/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The plugin's calls are wrapped by the linker, so that they can fail.  Where
 * the kernel itself has to refuse io_uring, a seccomp filter does. */
#include "plugin_file_kit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
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

const struct set_up *set_up;
bool kernel_has_rings;
char path[64];

atomic_int fail_read, fail_write, fail_sync, fail_allocate, fail_seek;
atomic_uint syncs, dsync_writes;
atomic_int fail_ring, ring_limit;
atomic_bool ring_busy;
static atomic_uint steps, results, submissions;
atomic_uint limit;
atomic_bool refuse_dsync;
atomic_uint vanishing_data;
atomic_uint loop_reads, loop_writes;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool held;
static unsigned changing;

/* The linker makes these names. */
/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl*) */
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

    if (abd_loop_current())
        atomic_fetch_add(&loop_reads, 1);
    errno = error_of(&fail_read);
    return errno ? -1 : __real_preadv64v2(fd, &one, n, offset, flags);
}

ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int n, off_t offset,
                           int flags)
{
    struct iovec one = cut(iov);

    if (abd_loop_current())
        atomic_fetch_add(&loop_writes, 1);
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
    pthread_mutex_lock(&lock);
    changing++;
    pthread_cond_broadcast(&changed);
    while (held)
        pthread_cond_wait(&changed, &lock);
    changing--;
    pthread_mutex_unlock(&lock);
    errno = atomic_load(&fail_allocate);
    return errno ? -1 : __real_fallocate64(fd, mode, offset, length);
}

off_t __wrap_lseek64(int fd, off_t offset, int whence)
{
    errno = atomic_load(&fail_seek);
    if (!errno && whence == SEEK_HOLE && atomic_load(&vanishing_data)) {
        atomic_fetch_sub(&vanishing_data, 1);
        return offset;
    }
    return errno ? -1 : __real_lseek64(fd, offset, whence);
}
unsigned __real_io_uring_peek_batch_cqe(struct io_uring *,
                                        struct io_uring_cqe **, unsigned);
unsigned __wrap_io_uring_peek_batch_cqe(struct io_uring *,
                                        struct io_uring_cqe **, unsigned);

unsigned __wrap_io_uring_peek_batch_cqe(struct io_uring *ring,
                                        struct io_uring_cqe **cqes, unsigned n)
{
    unsigned found = __real_io_uring_peek_batch_cqe(ring, cqes, n);
    int most = atomic_load(&ring_limit), err = atomic_load(&fail_ring);

    for (unsigned i = 0; i < found && (most || err); i++) {
        if (atomic_fetch_add(&results, 1) % 2)
            continue;
        if (err)
            cqes[i]->res = -err;
        else if (cqes[i]->res > most)
            cqes[i]->res = most;
    }
    return found;
}
int __real_io_uring_submit(struct io_uring *);
int __wrap_io_uring_submit(struct io_uring *);
int __real_io_uring_submit_and_get_events(struct io_uring *);
int __wrap_io_uring_submit_and_get_events(struct io_uring *);
struct io_uring_sqe *__real_io_uring_get_sqe(struct io_uring *);
struct io_uring_sqe *__wrap_io_uring_get_sqe(struct io_uring *);

static bool is_busy(void)
{
    return atomic_load(&ring_busy) && atomic_fetch_add(&submissions, 1) % 2;
}

int __wrap_io_uring_submit(struct io_uring *ring)
{
    return is_busy() ? -EBUSY : __real_io_uring_submit(ring);
}

int __wrap_io_uring_submit_and_get_events(struct io_uring *ring)
{
    return is_busy() ? -EBUSY : __real_io_uring_submit_and_get_events(ring);
}

struct io_uring_sqe *__wrap_io_uring_get_sqe(struct io_uring *ring)
{
    if (atomic_load(&ring_busy) && io_uring_sq_ready(ring) >= 8)
        return NULL;
    return __real_io_uring_get_sqe(ring);
}
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl*) */

void hold_changes(bool hold)
{
    pthread_mutex_lock(&lock);
    held = hold;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

void wait_for_change(void)
{
    pthread_mutex_lock(&lock);
    while (changing == 0)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

void *pages(uint64_t length)
{
    void *memory = NULL;

    assert_int_equal(posix_memalign(&memory, 4096, length), 0);
    memset(memory, 0, length);
    return memory;
}

void make_file(uint64_t size)
{
    snprintf(path, sizeof path, "%s/abdkit-test-XXXXXX", set_up->folder);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    close(fd);
}

void open_path(struct plugin_double *host)
{
    assert_int_equal(double_create(host, "file", path, "direct",
                                   set_up->direct ? "true" : "false", NULL),
                     0);
    assert_int_equal(double_open(host), 0);
}

void open_file(struct plugin_double *host, uint64_t size)
{
    make_file(size);
    open_path(host);
    assert_int_equal(host->disk.size, size);
}

void close_file(struct plugin_double *host)
{
    double_close(host);
    double_destroy(host);
    unlink(path);
}

int run(struct plugin_double *host, uint32_t op, uint32_t flags,
        uint64_t offset, uint64_t length, void *data)
{
    struct request_double request = {.request.flags = flags};

    return double_run(host, &request, op, offset, length, data);
}

bool lends(const struct plugin_double *host, uint64_t length)
{
    return host->disk.flags & ABD_DISK_LENDS && length >= host->disk.lend_min;
}

void drop_cache(void)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    fdatasync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

void expect_bytes(struct plugin_double *host, uint64_t offset, uint64_t length,
                  const uint8_t *expected)
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

unsigned count_rings(void)
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

int start_loops(void **state)
{
    struct plugin_double host = {.plugin = abd_plugin_entry()};

    (void)state;
    if (set_up->refused && strcmp(set_up->refused, "seccomp") != 0)
        double_set_debug(&host, set_up->refused, 0);
    double_start_loops(LOOPS);
    return 0;
}

int stop_loops(void **state)
{
    (void)state;
    double_stop_loops();
    return 0;
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

int run_set_ups(int argc, char **argv, int (*run_group)(void))
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
