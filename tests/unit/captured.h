/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What a piece of code says on stderr, for tests of messages. */
#ifndef ABD_TESTS_CAPTURED_H
#define ABD_TESTS_CAPTURED_H

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct capture {
    int saved, file;
    char text[8192];
};

static inline void capture_start(struct capture *capture)
{
    capture->saved = dup(2);
    capture->file = memfd_create("captured", MFD_CLOEXEC);
    if (capture->saved < 0 || capture->file < 0 || dup2(capture->file, 2) < 0)
        abort();
}

/* Returns what was said since. */
static inline const char *capture_end(struct capture *capture)
{
    ssize_t n =
        pread(capture->file, capture->text, sizeof capture->text - 1, 0);

    if (dup2(capture->saved, 2) < 0 || n < 0)
        abort();
    close(capture->saved);
    close(capture->file);
    capture->text[n] = '\0';
    return capture->text;
}

#endif
