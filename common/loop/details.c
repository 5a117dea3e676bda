/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What a plugin says of a disk of its own.  See details.h. */
#include "loop/details.h"

#include "abd-plugin.h"

#include "loop/loop.h"

#include <stdlib.h>

void details_begin(struct abd_status *status)
{
    *status = (struct abd_status){.depth = 1};
    json_open_object(&status->json, NULL);
}

char *details_finish(struct abd_status *status)
{
    char *text;

    if (status->depth > 0)
        json_close_object(&status->json);
    text = json_finish(&status->json);
    if (status->depth == 1)
        return text;
    free(text);
    return NULL;
}

LOOP_EXPORTED void abd_status_number(struct abd_status *status, const char *key,
                                     uint64_t value)
{
    json_number(&status->json, key, value);
}

LOOP_EXPORTED void abd_status_text(struct abd_status *status, const char *key,
                                   const char *value)
{
    json_string(&status->json, key, value);
}

LOOP_EXPORTED void abd_status_open(struct abd_status *status, const char *key)
{
    status->depth++;
    json_open_object(&status->json, key);
}

/* One too many leaves a depth of 0, and there it stays. */
LOOP_EXPORTED void abd_status_close(struct abd_status *status)
{
    if (status->depth <= 1) {
        status->depth = 0;
        return;
    }
    status->depth--;
    json_close_object(&status->json);
}
