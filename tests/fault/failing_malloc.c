/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Preloaded into a program: its n-th allocation fails.
 *
 * ABD_FAULT_FILE names a file with a struct fault, which the program and its
 * test both map.  The test sets n when the program is where it wants it; from
 * there on allocations of all threads are counted.  They are those of the heap
 * (what the C library itself allocates for its callers comes through here, too)
 * and anonymous memory from mmap().  For glibc. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Shared with the test, which knows its layout. */
struct fault {
    _Atomic uint32_t fail_at; /* this one fails; 0: none, nothing is counted */
    _Atomic uint32_t keep_on; /* ... and all behind it */
    _Atomic uint32_t counted; /* since the test set it to 0 */
    _Atomic uint32_t failed;  /* so many have */
    char where[240];          /* who asked for the first of them */
};

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static struct fault *_Atomic fault; /* NULL: the program is still starting */

static void note_place(struct fault *shared, void *caller)
{
    Dl_info info;

    if (dladdr(caller, &info) && info.dli_fname)
        snprintf(shared->where, sizeof shared->where, "%s+0x%tx",
                 info.dli_fname, (char *)caller - (char *)info.dli_fbase);
}

/* Must this one fail?  Sets errno then. */
static bool fails(void *caller)
{
    struct fault *shared = atomic_load(&fault);
    uint32_t fail_at = shared ? atomic_load(&shared->fail_at) : 0;
    uint32_t n;

    if (fail_at == 0)
        return false;
    n = atomic_fetch_add(&shared->counted, 1) + 1;
    if (n < fail_at || (n > fail_at && !atomic_load(&shared->keep_on)))
        return false;
    if (n == fail_at)
        note_place(shared, caller);
    atomic_fetch_add(&shared->failed, 1);
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL
                                              : __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size)
{
    return fails(__builtin_return_address(0))
               ? NULL
               : __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails(__builtin_return_address(0))
               ? NULL
               : __libc_memalign(alignment, size);
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
    void *memory = fails(__builtin_return_address(0))
                       ? NULL
                       : __libc_memalign(alignment, size);

    if (!memory)
        return ENOMEM;
    *ret = memory;
    return 0;
}

static void *map(void *address, size_t length, int protection, int flags,
                 int fd, off_t offset, void *caller)
{
    if ((flags & MAP_ANONYMOUS) && fails(caller))
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, address, length, protection, flags, fd,
                           offset);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd,
           off_t offset)
{
    return map(address, length, protection, flags, fd, offset,
               __builtin_return_address(0));
}

void *mmap64(void *address, size_t length, int protection, int flags, int fd,
             off_t offset)
{
    return map(address, length, protection, flags, fd, offset,
               __builtin_return_address(0));
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("ABD_FAULT_FILE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *shared = MAP_FAILED;

    if (fd >= 0)
        shared = mmap(NULL, sizeof(struct fault), PROT_READ | PROT_WRITE,
                      MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED) {
        fprintf(stderr, "ABD_FAULT_FILE: %m\n");
        _exit(127);
    }
    close(fd);
    atomic_store(&fault, shared);
}
