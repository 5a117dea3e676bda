/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Shared objects: where plugins and filters are found, and whether what was
 * found can be used.
 *
 * A name without '/' and '.' is looked for as abdkit-NAME-plugin.so (or
 * -filter.so) in the folders of the command line, then in those of the
 * installation or build tree that the program itself lies in.  Anything else is
 * a path.  Main thread. */
#ifndef ABD_SERVER_MODULE_H
#define ABD_SERVER_MODULE_H

#include "abd-filter.h"
#include "abd-plugin.h"

enum module_kind { MODULE_PLUGIN, MODULE_FILTER };

/* A shared object that passed all checks.  It is never unloaded: a thread may
 * still be returning from its last completion. */
struct module {
    void *handle;
    char *path; /* absolute; the caller's to free */
    /* Copies, to be kept: what the object was built without is zero. */
    struct abd_plugin *plugin;
    struct abd_filter *filter; /* NULL: a plugin */
};

/* Folders to look in first; the list ends with NULL and is borrowed. */
void module_set_path(enum module_kind kind, const char *const *folders);

/* Loads it.  0 or an errno value, after a message that names the file. */
int module_load(enum module_kind kind, const char *name, struct module *ret);

/* "plugin" or "filter". */
const char *module_kind_word(enum module_kind kind);
/* Where the program looks at last: the folder of the installation (the caller's
 * to free; NULL: no memory). */
char *module_default_folder(enum module_kind kind);

#endif
