/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Locals that free or close themselves at the end of their scope, and the two
 * ways to keep what they hold. */
#ifndef ABD_BASE_CLEANUP_H
#define ABD_BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free(void *pointer)
{
    free(*(void **)pointer);
}

static inline void cleanup_close(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

#define _cleanup_free_  __attribute__((cleanup(cleanup_free)))
#define _cleanup_close_ __attribute__((cleanup(cleanup_close)))

/* Hands the value over to the caller: the local no longer ends it. */
#define take_pointer(local)                                                    \
    __extension__({                                                            \
        __typeof__(local) taken_ = (local);                                    \
        (local) = NULL;                                                        \
        taken_;                                                                \
    })

static inline int take_fd(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

#endif
