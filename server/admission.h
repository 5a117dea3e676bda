/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Which disks of a chain have admitted a client, so that each of them, and no
 * other, is told when it leaves (disk_admit() and disk_leave() of disk.h).
 *
 * A filter may close the disk below and open it again.  A shared disk that has
 * admitted somebody stays open meanwhile (a pin); a client's own is left when
 * it is closed, and asked again when it is opened.  Disks that a filter opens
 * beside its first are not asked.  On the client's thread, which for a client's
 * own disk is the disk's. */
#ifndef ABD_SERVER_ADMISSION_H
#define ABD_SERVER_ADMISSION_H

#include "server/limits.h"

struct disk;

struct admission {
    unsigned n;
    struct disk *disks[LIMIT_LAYERS]; /* outermost first */
};

/* An own disk below `disk` is there again: it is asked if the client has been
 * admitted to `disk`.  0 or an errno value. */
int admission_reopened(struct disk *disk, struct disk *below);
/* It is about to be closed. */
void admission_closing(struct disk *below);

#endif
