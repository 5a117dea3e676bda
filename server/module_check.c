/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What a plugin or filter says of itself.
 *
 * It may have been built with an older header (a smaller struct) or, with the
 * same ABI, a newer one (a bigger struct, whose last fields are not known
 * here).  So it is copied into a struct of this server's size, and only the
 * copy is looked at from then on.  Main thread. */
#include "server/module_check.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"

#define SCRATCH_MAX  256
#define CHILDREN_MAX 16
#define PLUGIN_FLAGS                                                           \
    (ABD_PLUGIN_EXPORTS | ABD_PLUGIN_PER_CLIENT | ABD_PLUGIN_REGISTERS)
#define FILTER_FLAGS (ABD_FILTER_PARALLEL | ABD_FILTER_LENDS | ABD_FILTER_ONE)

/* The ABI and the size come first in both structs and never move. */
static int check_version(const char *path, uint32_t abi, uint32_t size,
                         size_t least)
{
    if (abi != ABD_ABI) {
        log_write(ABD_ERROR, NULL,
                  "%s: it was built for ABI %u of abdkit, this server has %u%s",
                  path, abi, ABD_ABI,
                  abi > ABD_ABI ? "; a newer server is needed" : "");
        return ENOEXEC;
    }
    if (size < least) {
        log_write(ABD_ERROR, NULL,
                  "%s: its struct_size is %u, at least %zu are needed", path,
                  size, least);
        return ENOEXEC;
    }
    return 0;
}

/* NULL: there is no memory, which has been said. */
static void *copy_struct(const char *path, const void *from, size_t from_size,
                         size_t size)
{
    void *copy = calloc(1, size);

    if (copy)
        memcpy(copy, from, from_size < size ? from_size : size);
    else
        log_write(ABD_ERROR, NULL, "%s: %s", path, strerror(ENOMEM));
    return copy;
}

static int refuse(const char *path, const char *why)
{
    log_write(ABD_ERROR, NULL, "%s: %s", path, why);
    return ENOEXEC;
}

static bool is_name(const char *name)
{
    return name && name[0] && !strpbrk(name, "/=. \t\n");
}

static int check_fields(const char *path, const struct abd_plugin *plugin)
{
    if (!is_name(plugin->name))
        return refuse(path,
                      "its name is missing, or has one of \"/=. \" in it");
    if (plugin->flags & ~(uint32_t)PLUGIN_FLAGS) {
        log_write(ABD_ERROR, NULL, "%s: flags 0x%x are not known to ABI %u",
                  path, plugin->flags & ~(uint32_t)PLUGIN_FLAGS, ABD_ABI);
        return ENOEXEC;
    }
    if (plugin->scratch_size > SCRATCH_MAX) {
        log_write(ABD_ERROR, NULL, "%s: its scratch_size is %u, at most %u",
                  path, plugin->scratch_size, SCRATCH_MAX);
        return ENOEXEC;
    }
    return 0;
}

int module_check_plugin(const char *path, const struct abd_plugin *from,
                        struct abd_plugin **ret)
{
    _cleanup_free_ struct abd_plugin *plugin = NULL;
    int err;

    if (!from)
        return refuse(path, "abd_plugin_entry() returned NULL");
    err = check_version(path, from->abi, from->struct_size,
                        offsetof(struct abd_plugin, create));
    if (err)
        return err;
    plugin = copy_struct(path, from, from->struct_size, sizeof *plugin);
    if (!plugin)
        return ENOMEM;
    err = check_fields(path, plugin);
    if (err)
        return err;
    if (!plugin->open || !plugin->submit || !plugin->close) {
        log_write(ABD_ERROR, NULL, "%s: a plugin needs %s()", path,
                  !plugin->open     ? "open"
                  : !plugin->submit ? "submit"
                                    : "close");
        return ENOEXEC;
    }
    *ret = take_pointer(plugin);
    return 0;
}

static int check_filter_fields(const char *path,
                               const struct abd_filter *filter)
{
    if (!filter->plugin)
        return refuse(path, "its struct abd_filter has no plugin");
    if (filter->flags & ~(uint32_t)FILTER_FLAGS) {
        log_write(ABD_ERROR, NULL,
                  "%s: filter flags 0x%x are not known to ABI %u", path,
                  filter->flags & ~(uint32_t)FILTER_FLAGS, ABD_ABI);
        return ENOEXEC;
    }
    if (filter->children > CHILDREN_MAX) {
        log_write(ABD_ERROR, NULL, "%s: its children are %u, at most %u", path,
                  filter->children, CHILDREN_MAX);
        return ENOEXEC;
    }
    return 0;
}

int module_check_filter(const char *path, const struct abd_filter *from,
                        struct abd_filter **ret)
{
    _cleanup_free_ struct abd_filter *filter = NULL;
    _cleanup_free_ struct abd_plugin *plugin = NULL;
    int err;

    if (!from)
        return refuse(path, "abd_filter_entry() returned NULL");
    err = check_version(path, from->abi, from->struct_size,
                        offsetof(struct abd_filter, flags));
    if (err)
        return err;
    filter = copy_struct(path, from, from->struct_size, sizeof *filter);
    if (!filter)
        return ENOMEM;
    err = check_filter_fields(path, filter);
    if (err)
        return err;
    err = check_version(path, filter->plugin->abi, filter->plugin->struct_size,
                        offsetof(struct abd_plugin, create));
    if (err)
        return err;
    plugin = copy_struct(path, filter->plugin, filter->plugin->struct_size,
                         sizeof *plugin);
    if (!plugin)
        return ENOMEM;
    err = check_fields(path, plugin);
    if (err)
        return err;
    if (plugin->open && !plugin->close)
        return refuse(path, "a filter with open() needs close()");
    filter->plugin = take_pointer(plugin);
    *ret = take_pointer(filter);
    return 0;
}
