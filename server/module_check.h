/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What a plugin or filter says of itself, checked and copied. */
#ifndef ABD_SERVER_MODULE_CHECK_H
#define ABD_SERVER_MODULE_CHECK_H

#include "abd-filter.h"
#include "abd-plugin.h"

/* Copies what the object at path was built with; later fields are zero.  The
 * copy is the caller's to free.  0 or an errno value, after a message. */
int module_check_plugin(const char *path, const struct abd_plugin *from,
                        struct abd_plugin **ret);
/* The same for a filter; the copy's plugin is a copy, too. */
int module_check_filter(const char *path, const struct abd_filter *from,
                        struct abd_filter **ret);

#endif
