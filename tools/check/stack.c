/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

#include "tools/check/stack.h"

#include "tools/check/host.h"
#include "tools/check/options.h"
#include "tools/check/rules.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCRATCH_MAX  256
#define CHILDREN_MAX 16

struct layer layers[STACK_LAYERS];
unsigned layers_n;

const char *stack_name(void)
{
    return layers_n ? layers[0].plugin.name : NULL;
}

const char *stack_name_of_file(const char *file)
{
    for (unsigned i = 0; i < layers_n; i++) {
        if (strcmp(layers[i].plugin.name, file) == 0 ||
            strcmp(layers[i].file, file) == 0)
            return layers[i].plugin.name;
    }
    return NULL;
}

bool layer_is_per_client(unsigned index)
{
    for (unsigned i = index; i < layers_n; i++) {
        if (layers[i].plugin.flags & ABD_PLUGIN_PER_CLIENT)
            return true;
        if (layers[i].filter.flags & ABD_FILTER_ONE)
            return false;
    }
    return false;
}

/* --- loading --- */

static void check_size(const char *file, uint32_t abi, size_t size,
                       size_t known)
{
    if (abi != ABD_ABI)
        rules_stop(RULE_ENTRY, file,
                   "it was built for ABI %u; this kit knows %d", abi, ABD_ABI);
    if (size > known || size < known / 2)
        rules_stop(RULE_ENTRY, file, "struct_size is %zu; this kit's is %zu",
                   size, known);
}

static void take_plugin(struct layer *layer, const struct abd_plugin *plugin)
{
    if (!plugin)
        rules_stop(RULE_ENTRY, layer->file, "it has no struct abd_plugin");
    check_size(layer->file, plugin->abi, plugin->struct_size, sizeof *plugin);
    memcpy(&layer->plugin, plugin, plugin->struct_size);
    plugin = &layer->plugin;
    if (!plugin->name || !plugin->name[0])
        rules_stop(RULE_ENTRY, layer->file, "it has no name");
    if (!layer->filter.abi &&
        (!plugin->open || !plugin->submit || !plugin->close))
        rules_stop(RULE_ENTRY, plugin->name,
                   "open, submit and close must be there");
    if (plugin->open && !plugin->close)
        rules_stop(RULE_ENTRY, plugin->name, "open() needs close()");
    if (plugin->scratch_size > SCRATCH_MAX)
        rules_stop(RULE_ENTRY, plugin->name,
                   "scratch_size is %u; %d are allowed", plugin->scratch_size,
                   SCRATCH_MAX);
    if (plugin->flags & ~(uint32_t)(ABD_PLUGIN_EXPORTS | ABD_PLUGIN_PER_CLIENT |
                                    ABD_PLUGIN_REGISTERS))
        rules_break(RULE_ENTRY, plugin->name, "unknown flags %#x",
                    plugin->flags);
    if (plugin->flags & ABD_PLUGIN_EXPORTS && !plugin->exports)
        rules_break(RULE_ENTRY, plugin->name,
                    "ABD_PLUGIN_EXPORTS without exports()");
}

static void take_filter(struct layer *layer, const struct abd_filter *filter)
{
    if (!filter)
        rules_stop(RULE_ENTRY, layer->file, "abd_filter_entry() returned NULL");
    check_size(layer->file, filter->abi, filter->struct_size, sizeof *filter);
    memcpy(&layer->filter, filter, filter->struct_size);
    take_plugin(layer, filter->plugin);
    if (filter->children > CHILDREN_MAX)
        rules_break(RULE_ENTRY, layer->plugin.name,
                    "children is %u; %d are allowed", filter->children,
                    CHILDREN_MAX);
}

static void load(struct layer *layer, const char *path, bool is_last)
{
    const char *slash = strrchr(path, '/');
    const char *symbol = is_last ? "abd_plugin_entry" : "abd_filter_entry";
    char here[4096];
    const struct abd_plugin *(*plugin_entry)(void);
    const struct abd_filter *(*filter_entry)(void);
    void *handle;
    void *entry;

    /* dlopen() would look for a bare name among the libraries. */
    snprintf(here, sizeof here, "%s%s", slash ? "" : "./", path);
    handle = dlopen(here, RTLD_NOW | RTLD_LOCAL);
    layer->file = slash ? slash + 1 : path;
    if (!handle)
        rules_stop(RULE_ENTRY, layer->file, "%s", dlerror());
    entry = dlsym(handle, symbol);
    if (!entry)
        rules_stop(RULE_ENTRY, layer->file, "it has no %s()%s", symbol,
                   is_last && dlsym(handle, "abd_filter_entry")
                       ? "; behind a filter there must be a plugin"
                       : "");
    /* A function, as POSIX promises; ISO C knows no other way. */
    if (is_last) {
        *(void **)&plugin_entry = entry;
        take_plugin(layer, plugin_entry());
    } else {
        *(void **)&filter_entry = entry;
        take_filter(layer, filter_entry());
    }
}

void stack_load(void)
{
    rules_try(RULE_ENTRY);
    if (options.modules_n > STACK_LAYERS)
        host_die("too many filters");
    for (unsigned i = 0; i < options.modules_n; i++) {
        load(&layers[i], options.modules[i], i + 1 == options.modules_n);
        layers_n++;
    }
}

/* --- instances --- */

static bool lists(const struct layer *layer, const char *key)
{
    const struct abd_parameter *parameter = layer->plugin.parameters;

    for (; parameter && parameter->name; parameter++) {
        if (strcmp(parameter->name, key) == 0)
            return true;
    }
    return false;
}

/* Who gets it: the first filter that lists it, else the plugin. */
static unsigned receiver(const char *key)
{
    unsigned i = 0;

    while (layer_is_filter(i) && !lists(&layers[i], key))
        i++;
    return i;
}

static void configure(struct stack *stack, const char *parameter)
{
    const char *equals = strchr(parameter, '=');
    const char *value = equals ? equals + 1 : parameter;
    const char *magic = layers[layers_n - 1].plugin.magic_key;
    char key[256];
    unsigned i;
    int err;

    if (!equals && !magic)
        rules_stop(RULE_CONFIGURE, stack_name(),
                   "\"%s\" has no key, and the plugin has no magic one",
                   parameter);
    snprintf(key, sizeof key, "%.*s",
             equals ? (int)(equals - parameter) : (int)strlen(magic),
             equals ? parameter : magic);
    i = receiver(key);
    if (!layers[i].plugin.config ||
        (layers[i].plugin.parameters && !lists(&layers[i], key)))
        rules_stop(RULE_CONFIGURE, layers[i].plugin.name,
                   "it has no parameter \"%s\"", key);
    err = layers[i].plugin.config(&stack->instances[i], key, value);
    if (err)
        rules_stop(RULE_CONFIGURE, layers[i].plugin.name,
                   "config(\"%s\", \"%s\") returned %d", key, value, err);
}

static void check_result(unsigned i, const char *callback, int err)
{
    rules_try(RULE_CONFIGURE);
    if (err)
        rules_stop(RULE_CONFIGURE, layers[i].plugin.name, "%s() returned %d",
                   callback, err);
}

static void create(struct stack *stack, unsigned i)
{
    const struct abd_plugin *plugin = &layers[i].plugin;

    stack->instances[i] = (struct abd_instance){
        .name = plugin->name,
        .read_only = !options.writes,
    };
    if (plugin->create)
        check_result(i, "create", plugin->create(&stack->instances[i]));
}

static void destroy(struct stack *stack, unsigned i)
{
    if (layers[i].plugin.destroy)
        layers[i].plugin.destroy(&stack->instances[i]);
}

void stack_begin(struct stack *stack, const char *const *parameters, unsigned n)
{
    memset(stack, 0, sizeof *stack);
    for (unsigned i = 0; i < layers_n; i++)
        create(stack, i);
    for (unsigned i = 0; i < n; i++)
        configure(stack, parameters[i]);
    for (unsigned i = 0; i < layers_n; i++) {
        if (layers[i].plugin.ready)
            check_result(i, "ready",
                         layers[i].plugin.ready(&stack->instances[i]));
    }
}

void stack_start(struct stack *stack)
{
    for (unsigned i = 0; i < layers_n; i++) {
        if (layers[i].plugin.start)
            check_result(i, "start",
                         layers[i].plugin.start(&stack->instances[i]));
    }
}

void stack_end(struct stack *stack)
{
    for (unsigned i = 0; i < layers_n; i++)
        destroy(stack, i);
}

/* --- nonsense --- */

/* config() with stderr in a file: was anything said? */
static int config_quietly(struct stack *stack, unsigned i, const char *key,
                          bool *ret_said)
{
    int captured = memfd_create("stderr", MFD_CLOEXEC);
    int kept = dup(STDERR_FILENO);
    struct stat status = {0};
    int err;

    if (captured < 0 || kept < 0)
        host_die("there are no more file descriptors");
    dup2(captured, STDERR_FILENO);
    /* No number, no size, no truth, and no file that could be made. */
    err = layers[i].plugin.config(&stack->instances[i], key,
                                  "/nonexistent/abdkit-check");
    dup2(kept, STDERR_FILENO);
    fstat(captured, &status);
    *ret_said = status.st_size > 0;
    close(captured);
    close(kept);
    return err;
}

static void try_parameter(unsigned i, const char *key)
{
    struct stack spare = {0};
    bool said;
    int err;

    create(&spare, i);
    err = config_quietly(&spare, i, key, &said);
    rules_try(RULE_SAYS_WHY);
    if (err < 0 || err > 4095)
        rules_break(RULE_SAYS_WHY, layers[i].plugin.name,
                    "config(\"%s\", ...) returned %d, which is no errno value",
                    key, err);
    if (err && !said)
        rules_break(RULE_SAYS_WHY, layers[i].plugin.name,
                    "config(\"%s\", \"/nonexistent/abdkit-check\") returned "
                    "%d without an abd_log()",
                    key, err);
    destroy(&spare, i);
}

void stack_try_nonsense(void)
{
    rules_scenario("nonsense");
    for (unsigned i = 0; i < layers_n; i++) {
        const struct abd_plugin *plugin = &layers[i].plugin;
        const struct abd_parameter *parameter = plugin->parameters;

        if (!plugin->config)
            continue;
        if (!parameter)
            try_parameter(i, "abdkit-check-nonsense");
        for (; parameter && parameter->name; parameter++)
            try_parameter(i, parameter->name);
    }
}
