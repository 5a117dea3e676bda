/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Data for plugins with ABD_PLUGIN_REGISTERS: all of it lies in one memfd,
 * which can't be taken away when a request has ended.  What is written to it
 * then is found out when its place is to be used again, or at the end of the
 * run. */
#ifndef ABD_CHECK_REGISTERED_H
#define ABD_CHECK_REGISTERED_H

#include "tools/check/guard.h"

/* Once the modules are loaded; does nothing if none of them registers. */
void registered_start(void);
bool registered_is_wanted(void);
/* Page-aligned, zeroed; ends the process if too much is in use.  Any loop. */
void *registered_take(struct guard_record *record, size_t size);
void registered_give(void *data);
/* Looks at all that nobody uses. */
void registered_check(void);

#endif
