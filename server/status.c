/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The status socket: not built in yet. */
#include "server/status.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "server/settings.h"

int status_start(int fd)
{
    if (fd < 0)
        return 0;
    close(fd);
    log_write(ABD_ERROR, NULL, "--status %s: it is not built into this abdkit",
              settings.status_path);
    return ENOTSUP;
}

void status_stop(void)
{
}

int status_of(const char *path)
{
    log_write(ABD_ERROR, NULL,
              "--status-of %s: it is not built into this abdkit", path);
    return EXIT_FAILURE;
}
