/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* For filters whose disk needs to know nothing but the one disk below it:
 * disk->state is that disk.  Loop threads. */
#ifndef ABD_PLUGINS_COMMON_BELOW_H
#define ABD_PLUGINS_COMMON_BELOW_H

#include "abd-filter.h"

/* The start of an opened() callback: keeps below, and lets disk say what below
 * says; the caller changes what it changes and calls abd_opened().  False: it
 * failed, and abd_opened() has been called. */
static inline bool below_adopt(struct abd_disk *disk, struct abd_disk *below,
                               int error)
{
    if (error) {
        abd_opened(disk, error);
        return false;
    }
    disk->state = below;
    abd_inherit(disk, below);
    return true;
}

/* A close() callback. */
static inline void below_close(struct abd_disk *disk)
{
    abd_close_below(disk, (struct abd_disk *)disk->state, abd_closed);
}

/* Hands the request on as it is, for good. */
static inline void below_forward(struct abd_request *request)
{
    abd_forward(request, (struct abd_disk *)request->disk->state,
                request->offset, NULL);
}

#endif
