/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* refuse_uring NUMBER PROGRAM ARGUMENT...: runs the program where the kernel
 * refuses io_uring with that errno value, by a filter of system calls, as
 * containers do.  It stays in force in all that the program starts. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The only one that matters: without it there is no ring for the others. */
static int refuse(unsigned number)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | number),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {
        .len = sizeof code / sizeof code[0],
        .filter = code,
    };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        return errno;
    return 0;
}

int main(int argc, char **argv)
{
    int err;

    if (argc < 3) {
        fprintf(stderr, "usage: %s NUMBER PROGRAM ARGUMENT...\n", argv[0]);
        return 2;
    }
    err = refuse((unsigned)atoi(argv[1]) & SECCOMP_RET_DATA);
    if (err) {
        fprintf(stderr, "%s: the filter is refused: %s\n", argv[0],
                strerror(err));
        return 77;
    }
    execvp(argv[2], argv + 2);
    fprintf(stderr, "%s: %s\n", argv[2], strerror(errno));
    return 2;
}
