/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the program tells about itself and its plugin.  The keys are nbdkit's
 * where there is such a thing here.  Main thread. */
#include "server/dump.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "server/layer.h"
#include "server/module.h"

/* From meson. */
#ifndef ABDKIT_VERSION
#define ABDKIT_VERSION "0.0.0"
#endif

static void line(const char *key, const char *value)
{
    if (value)
        printf("%s=%s\n", key, value);
}

void dump_version(void)
{
    printf("abdkit %s\n", ABDKIT_VERSION);
}

static void dump_folder(const char *key, enum module_kind kind)
{
    _cleanup_free_ char *folder = module_default_folder(kind);

    line(key, folder);
}

void dump_config(void)
{
    _cleanup_free_ char *program = realpath("/proc/self/exe", NULL);
    char *slash = program ? strrchr(program, '/') : NULL;
    char *minor = NULL;
    long major = strtol(ABDKIT_VERSION, &minor, 10);
    struct utsname system;

    line("binary", program);
    if (slash)
        printf("bindir=%.*s\n", (int)(slash - program), program);
    line("exit_with_parent", "yes");
    dump_folder("filterdir", MODULE_FILTER);
    if (uname(&system) == 0)
        line("host_cpu", system.machine);
    line("host_os", "linux-gnu");
    line("name", "abdkit");
    dump_folder("plugindir", MODULE_PLUGIN);
    printf("plugin_abi=%d\n", ABD_ABI);
    line("selinux", "no");
    line("tls", "no");
    line("version", ABDKIT_VERSION);
    printf("version_major=%ld\n", major);
    printf("version_minor=%ld\n", *minor ? strtol(minor + 1, NULL, 10) : 0);
}

static const char *path_of(const struct layer *layer)
{
    struct link_map *map = NULL;

    if (dlinfo(layer->handle, RTLD_DI_LINKMAP, &map) != 0)
        return NULL;
    return map->l_name;
}

void dump_layer_versions(void)
{
    for (unsigned i = 0; i < chain.n; i++) {
        const struct abd_plugin *plugin = chain.layers[i]->plugin;

        printf("%s%s%s\n", plugin->name, plugin->version ? " " : "",
               plugin->version ? plugin->version : "");
    }
}

void dump_layer_parameters(void)
{
    for (unsigned i = 0; i < chain.n; i++) {
        const struct layer *layer = chain.layers[i];
        const struct abd_plugin *plugin = layer->plugin;
        const struct abd_parameter *parameter = plugin->parameters;
        const char *path = path_of(layer);

        printf("\n%s: %s%s%s%s\n", layer->filter ? "filter" : "plugin",
               plugin->name, plugin->longname ? " (" : "",
               plugin->longname ? plugin->longname : "",
               plugin->longname ? ")" : "");
        if (path)
            printf("(%s)\n", path);
        if (plugin->description)
            printf("%s\n", plugin->description);
        for (; parameter && parameter->name; parameter++) {
            bool magic = plugin->magic_key &&
                         strcmp(plugin->magic_key, parameter->name) == 0;

            printf("  %s%s=%s  %s\n", magic ? "[" : "", parameter->name,
                   magic ? "]" : "", parameter->help ? parameter->help : "");
        }
    }
}

static void dump_callbacks(const struct abd_plugin *plugin)
{
    const struct {
        const char *name;
        bool there;
    } callbacks[] = {
        {"create", plugin->create},   {"config", plugin->config},
        {"ready", plugin->ready},     {"start", plugin->start},
        {"dump", plugin->dump},       {"destroy", plugin->destroy},
        {"exports", plugin->exports}, {"open", plugin->open},
        {"admit", plugin->admit},     {"leave", plugin->leave},
        {"submit", plugin->submit},   {"kick", plugin->kick},
        {"cancel", plugin->cancel},   {"close", plugin->close},
    };

    for (size_t i = 0; i < sizeof callbacks / sizeof callbacks[0]; i++)
        if (callbacks[i].there)
            printf("has_%s=1\n", callbacks[i].name);
}

void dump_plugin(void)
{
    struct layer *layer = chain.layers[chain.n - 1];
    const struct abd_plugin *plugin = layer->plugin;
    const struct abd_parameter *parameter = plugin->parameters;

    line("path", path_of(layer));
    line("name", plugin->name);
    line("version", plugin->version);
    printf("api_version=%u\n", plugin->abi);
    printf("struct_size=%u\n", plugin->struct_size);
    line("longname", plugin->longname);
    line("description", plugin->description);
    line("magic_config_key", plugin->magic_key);
    for (; parameter && parameter->name; parameter++)
        line("parameter", parameter->name);
    printf("exports=%d\n", plugin->flags & ABD_PLUGIN_EXPORTS ? 1 : 0);
    printf("per_client=%d\n", plugin->flags & ABD_PLUGIN_PER_CLIENT ? 1 : 0);
    printf("registers=%d\n", plugin->flags & ABD_PLUGIN_REGISTERS ? 1 : 0);
    dump_callbacks(plugin);
    /* Before the plugin writes, maybe by other means. */
    fflush(stdout);
    if (plugin->dump)
        plugin->dump(&layer->instance);
}
