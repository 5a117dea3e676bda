/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What abd_status_...() of abd-plugin.h write to: one JSON object. */
#ifndef ABD_LOOP_DETAILS_H
#define ABD_LOOP_DETAILS_H

#include "base/json.h"

struct abd_status {
    struct json json;
    unsigned depth; /* objects that are open */
};

void details_begin(struct abd_status *status);
/* The object's text, the caller's to free().  NULL: no memory, or what was
 * opened was not closed. */
char *details_finish(struct abd_status *status);

#endif
