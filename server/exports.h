/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The list of exports, asked of the outermost layer that has one. */
#ifndef ABD_SERVER_EXPORTS_H
#define ABD_SERVER_EXPORTS_H

#include "abd-plugin.h"

#include <stdbool.h>
#include <stdint.h>

struct exports;

/* Asks.  got(list, arg) is called once, later, on the loop, whose thread this
 * must be; the list is the caller's, who frees it.  client must stay until
 * then.  NULL: no memory. */
struct exports *exports_ask(const struct abd_client *client,
                            void (*got)(struct exports *exports, void *arg),
                            void *arg);
/* Not while it is under way.  NULL: nothing happens. */
void exports_free(struct exports *exports);
/* Has got() not been called yet?  NULL: no. */
bool exports_are_under_way(const struct exports *exports);

/* What the layer ended with: 0 or an errno value; or ENOMEM. */
int exports_error(const struct exports *exports);
struct listed_export {
    const char *name, *description; /* not terminated */
    uint32_t name_length, description_length;
};
/* The next one, from *position (at first 0) on; false: that was all. */
bool exports_next(const struct exports *exports, uint64_t *position,
                  struct listed_export *ret);

#endif
