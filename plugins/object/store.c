/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What all stores share.  See store.h. */
#include "store.h"

#include <stdarg.h>
#include <stdio.h>

void store_destroy(struct store *store)
{
    while (store) {
        struct store *below = store->below;

        store->class->destroy(store);
        store = below;
    }
}

void store_answer(struct store_call *call, enum store_result result,
                  const char *format, ...)
{
    va_list args;

    call->result = result;
    va_start(args, format);
    vsnprintf(call->why, sizeof call->why, format, args);
    va_end(args);
}

const char *store_result_name(enum store_result result)
{
    static const char *const names[] = {"ok",      "exists",   "missing",
                                        "unknown", "busy",     "denied",
                                        "broken",  "no space", "cancelled"};

    return names[result];
}
