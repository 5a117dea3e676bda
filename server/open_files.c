/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The limit of open files: found out at start-up, not by the client that is one
 * too many.  Main thread. */
#include "server/open_files.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "base/log.h"
#include "server/layer.h"
#include "server/limits.h"
#include "server/settings.h"

/* Of a loop: epoll, wake-up, a pipe to splice through, a plugin's ring. */
#define PER_LOOP 8
/* Standard streams, listeners, shared objects and the like. */
#define OTHERS 64
/* Of --status: the socket, and those who ask. */
#define STATUS (1 + LIMIT_STATUS_CLIENTS)

int open_files_raise(void)
{
    rlim_t needed =
        settings.max_connections + OTHERS + (rlim_t)PER_LOOP * settings.loops;
    struct rlimit limit;

    if (settings.status_path)
        needed += STATUS;
    /* Each client's own disk probably has a file of its own. */
    if (chain.layers[chain.n - 1]->per_client)
        needed += settings.max_connections;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return errno;
    if (limit.rlim_cur >= needed)
        return 0;
    if (limit.rlim_max < needed) {
        log_write(ABD_ERROR, NULL,
                  "--max-connections=%u needs %llu open files, but the limit "
                  "is %llu (ulimit -Hn, or LimitNOFILE= of systemd)",
                  settings.max_connections, (unsigned long long)needed,
                  (unsigned long long)limit.rlim_max);
        return EMFILE;
    }
    limit.rlim_cur = needed;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
        int err = errno;

        log_write(ABD_ERROR, NULL, "raising the limit of open files: %s",
                  strerror(err));
        return err;
    }
    return 0;
}
