/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Loading a plugin, and the life of an instance.  Main thread. */
#include "tools/kit/kit.h"

#include "base/log.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

const struct abd_plugin *plugin;

static void check_plugin(void)
{
    if (plugin->abi != ABD_ABI)
        report_fatal("it was built for ABI %u, this kit has %u", plugin->abi,
                     ABD_ABI);
    if (plugin->struct_size != sizeof *plugin)
        report_fatal("struct_size is %u instead of %zu", plugin->struct_size,
                     sizeof *plugin);
    if (!plugin->name || !plugin->open || !plugin->submit || !plugin->close)
        report_fatal("name, open, submit and close must be there");
    if (plugin->scratch_size > 256)
        report_fatal("scratch_size is %u, at most 256 is allowed",
                     plugin->scratch_size);
}

void plugin_load(void)
{
    void *handle = dlopen(options.path, RTLD_NOW | RTLD_LOCAL);
    const struct abd_plugin *(*entry)(void);

    if (!handle)
        report_fatal("%s", dlerror());
    *(void **)&entry = dlsym(handle, "abd_plugin_entry");
    if (!entry)
        report_fatal("there is no abd_plugin_entry() in it");
    plugin = entry();
    if (!plugin)
        report_fatal("abd_plugin_entry() returned NULL");
    check_plugin();
}

static bool configure(struct abd_instance *instance, const char *parameter)
{
    const char *value = strchr(parameter, '=');
    char key[128];
    int err;

    if (value && (size_t)(value - parameter) < sizeof key) {
        memcpy(key, parameter, (size_t)(value - parameter));
        key[value - parameter] = '\0';
        value++;
    } else if (plugin->magic_key && strlen(plugin->magic_key) < sizeof key) {
        strcpy(key, plugin->magic_key);
        value = parameter;
    } else {
        report_failure("the parameter \"%s\" has no key, and the plugin has "
                       "no magic one",
                       parameter);
        return false;
    }
    if (!plugin->config) {
        report_failure("it takes no parameters");
        return false;
    }
    err = plugin->config(instance, key, value);
    if (err)
        report_failure("config(\"%s\", \"%s\") returned %d", key, value, err);
    return err == 0;
}

bool instance_begin(struct abd_instance *instance)
{
    *instance = (struct abd_instance){.name = plugin->name,
                                      .read_only = !options.may_write};
    if (plugin->create && plugin->create(instance)) {
        report_failure("create() failed");
        return false;
    }
    for (unsigned i = 0; i < options.parameters_n; i++) {
        if (!configure(instance, options.parameters[i]))
            return false;
    }
    if (plugin->ready && plugin->ready(instance)) {
        report_failure("ready() failed with these parameters");
        return false;
    }
    return true;
}

bool instance_start(struct abd_instance *instance)
{
    if (plugin->start && plugin->start(instance)) {
        report_failure("start() failed");
        return false;
    }
    return true;
}

void instance_end(struct abd_instance *instance)
{
    if (plugin->destroy)
        plugin->destroy(instance);
}
