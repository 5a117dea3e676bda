/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Shared objects: found by name or path, loaded, handed to the checks.
 *
 * The folder of last resort is found from where the program itself lies, so
 * that an installation can be moved and a build tree be used as it is: in a
 * build tree the program is in server/ and all modules are in plugins/.  Main
 * thread. */
#include "server/module.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "server/module_check.h"

/* From meson: the modules' folder, absolute or as of the program's. */
#ifndef MODULE_LIBDIR
#define MODULE_LIBDIR "../lib"
#endif

/* Set once, from the command line. */
static const char *const *folders_of[2];

const char *module_kind_word(enum module_kind kind)
{
    return kind == MODULE_PLUGIN ? "plugin" : "filter";
}

void module_set_path(enum module_kind kind, const char *const *folders)
{
    folders_of[kind] = folders;
}

/* The folder of the program, without a slash at the end; NULL: unknown. */
static char *program_folder(void)
{
    char *path = realpath("/proc/self/exe", NULL);
    char *slash = path ? strrchr(path, '/') : NULL;

    if (slash)
        *slash = '\0';
    return path;
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* The shortest name of a folder, if it is there; takes it over. */
static char *without_dots(char *folder)
{
    char *real = realpath(folder, NULL);

    if (!real)
        return folder;
    free(folder);
    return real;
}

char *module_default_folder(enum module_kind kind)
{
    _cleanup_free_ char *program = program_folder();
    _cleanup_free_ char *installed = NULL;
    _cleanup_free_ char *built = NULL;
    bool absolute = MODULE_LIBDIR[0] == '/';

    if (!program)
        return NULL;
    if (asprintf(&installed, "%s%s%s/abdkit/%ss", absolute ? "" : program,
                 absolute ? "" : "/", MODULE_LIBDIR,
                 module_kind_word(kind)) < 0) {
        installed = NULL;
        return NULL;
    }
    if (asprintf(&built, "%s/../plugins", program) < 0) {
        built = NULL;
        return NULL;
    }
    if (!exists(installed) && exists(built))
        return without_dots(take_pointer(built));
    return without_dots(take_pointer(installed));
}

/* Looks in one folder; NULL: not there. */
static char *look_in(const char *folder, const char *file)
{
    _cleanup_free_ char *path = NULL;

    if (asprintf(&path, "%s/%s", folder, file) < 0) {
        path = NULL;
        return NULL;
    }
    return realpath(path, NULL);
}

static int not_found(enum module_kind kind, const char *name, const char *file,
                     const char *last)
{
    const char *const *folders = folders_of[kind];
    char text[1024] = "";
    size_t used = 0;

    for (; folders && *folders && used < sizeof text; folders++)
        used +=
            (size_t)snprintf(text + used, sizeof text - used, "%s, ", *folders);
    log_write(ABD_ERROR, NULL, "%s %s: there is no %s in %s%s",
              module_kind_word(kind), name, file, text, last ? last : "");
    return ENOENT;
}

static int find_by_name(enum module_kind kind, const char *name,
                        char **ret_path)
{
    _cleanup_free_ char *file = NULL;
    _cleanup_free_ char *last = module_default_folder(kind);
    char *path = NULL;

    if (asprintf(&file, "abdkit-%s-%s.so", name, module_kind_word(kind)) < 0) {
        file = NULL;
        log_write(ABD_ERROR, NULL, "%s %s: %s", module_kind_word(kind), name,
                  strerror(ENOMEM));
        return ENOMEM;
    }
    for (const char *const *folder = folders_of[kind];
         folder && *folder && !path; folder++)
        path = look_in(*folder, file);
    if (!path && last)
        path = look_in(last, file);
    if (!path)
        return not_found(kind, name, file, last);
    *ret_path = path;
    return 0;
}

/* Short names become part of a file name: only what needs no thought. */
static bool is_short_name(const char *name)
{
    const char *allowed = "abcdefghijklmnopqrstuvwxyz"
                          "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

    return name[0] && name[0] != '-' && strspn(name, allowed) == strlen(name);
}

static int find(enum module_kind kind, const char *name, char **ret_path)
{
    char quoted[256];
    int err;

    if (!strpbrk(name, "/.")) {
        if (is_short_name(name))
            return find_by_name(kind, name, ret_path);
        log_write(
            ABD_ERROR, NULL,
            "%s is not the name of a %s: letters, digits, - and _; a path "
            "has a / in it",
            text_quote(name, strlen(name), quoted, sizeof quoted),
            module_kind_word(kind));
        return EINVAL;
    }
    *ret_path = realpath(name, NULL);
    if (*ret_path)
        return 0;
    err = errno;
    log_write(ABD_ERROR, NULL, "%s %s: %s", module_kind_word(kind),
              text_quote(name, strlen(name), quoted, sizeof quoted),
              strerror(err));
    return err ? err : ENOENT;
}

/* Says what a shared object without the right entry is instead. */
static int no_entry(const struct module *module, enum module_kind kind)
{
    bool other =
        dlsym(module->handle,
              kind == MODULE_PLUGIN ? "abd_filter_entry" : "abd_plugin_entry");
    const char *what = "it is not a shared object of abdkit";

    if (other)
        what = kind == MODULE_PLUGIN ? "it is a filter, for --filter"
                                     : "it is a plugin, not a filter";
    else if (dlsym(module->handle, "plugin_init") ||
             dlsym(module->handle, "filter_init"))
        what = "it is one of nbdkit's; those cannot be loaded yet";
    log_write(ABD_ERROR, NULL, "%s: it has no abd_%s_entry(): %s", module->path,
              module_kind_word(kind), what);
    return ENOEXEC;
}

static int enter(enum module_kind kind, struct module *module)
{
    void *symbol =
        dlsym(module->handle,
              kind == MODULE_PLUGIN ? "abd_plugin_entry" : "abd_filter_entry");
    const struct abd_plugin *(*plugin_entry)(void);
    const struct abd_filter *(*filter_entry)(void);
    int err;

    if (!symbol)
        return no_entry(module, kind);
    /* ISO C knows no cast from an object's pointer to a function's. */
    memcpy(&plugin_entry, &symbol, sizeof symbol);
    memcpy(&filter_entry, &symbol, sizeof symbol);
    if (kind == MODULE_PLUGIN)
        return module_check_plugin(module->path, plugin_entry(),
                                   &module->plugin);
    err = module_check_filter(module->path, filter_entry(), &module->filter);
    if (!err)
        module->plugin = (struct abd_plugin *)module->filter->plugin;
    return err;
}

/* The loader's reason; one that only says that it is nbdkit's is explained. */
static int not_loaded(enum module_kind kind, const char *path)
{
    const char *why = dlerror();
    size_t length = strlen(path);

    if (!why)
        why = "unknown error";
    if (strncmp(why, path, length) == 0 && strncmp(why + length, ": ", 2) == 0)
        why += length + 2;
    log_write(ABD_ERROR, NULL, "%s %s: %s%s", module_kind_word(kind), path, why,
              strstr(why, "symbol: nbdkit_")
                  ? " (it is one of nbdkit's; those cannot be loaded yet)"
                  : "");
    return ENOEXEC;
}

int module_load(enum module_kind kind, const char *name, struct module *ret)
{
    struct module module = {0};
    int err = find(kind, name, &module.path);

    if (err)
        return err;
    module.handle = dlopen(module.path, RTLD_NOW | RTLD_LOCAL);
    if (!module.handle) {
        err = not_loaded(kind, module.path);
        free(module.path);
        return err;
    }
    err = enter(kind, &module);
    if (err) {
        free(module.path);
        return err;
    }
    *ret = module;
    return 0;
}
