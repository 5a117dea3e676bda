/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The chain of layers: what is refused when it is loaded, what is derived, who
 * gets which parameter, in which order all of it lives and ends.  Shared
 * objects are doubles: module_load() hands out structs of this file. */
#include "server/layer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "captured.h"
#include "server/chain.h"
#include "server/module.h"
#include "server/module_check.h"
#include "server/settings.h"

struct settings settings;

/* What the layers' callbacks were called with, in order. */
static char calls[512];

static void note(const struct abd_instance *instance, const char *what)
{
    size_t used = strlen(calls);

    snprintf(calls + used, sizeof calls - used, "%s:%s ", instance->name, what);
}

static const char *failing; /* "NAME:CALL" */

static int call(const struct abd_instance *instance, const char *what)
{
    char text[128];

    note(instance, what);
    snprintf(text, sizeof text, "%s:%s", instance->name, what);
    return failing && strcmp(failing, text) == 0 ? EIO : 0;
}

static int on_create(struct abd_instance *instance)
{
    return call(instance, "create");
}

static int on_config(struct abd_instance *instance, const char *key,
                     const char *value)
{
    char text[64];

    snprintf(text, sizeof text, "%s=%s", key, value);
    return call(instance, text);
}

static int on_ready(struct abd_instance *instance)
{
    return call(instance, "ready");
}

static int on_start(struct abd_instance *instance)
{
    return call(instance, "start");
}

static void on_destroy(struct abd_instance *instance)
{
    note(instance, "destroy");
}

static void on_disk(struct abd_disk *disk)
{
    (void)disk;
}

static void on_submit(struct abd_request *request)
{
    (void)request;
}

static int flag_value;
static const struct abd_debug_flag flags[] = {{"noisy", &flag_value}, {NULL}};
static const struct abd_parameter delay_keys[] = {
    {"delay", ""}, {"both", ""}, {NULL}};
static const struct abd_parameter disk_keys[] = {
    {"size", ""}, {"both", ""}, {NULL}};

#define CALLBACKS                                                              \
    .abi = ABD_ABI, .struct_size = sizeof(struct abd_plugin),                  \
    .create = on_create, .config = on_config, .ready = on_ready,               \
    .start = on_start, .destroy = on_destroy, .open = on_disk,                 \
    .close = on_disk, .submit = on_submit

static const struct abd_plugin plugins[] = {
    {CALLBACKS, .name = "disk", .parameters = disk_keys, .magic_key = "size",
     .scratch_size = 17},
    {CALLBACKS, .name = "any"},
    {CALLBACKS, .name = "mine", .flags = ABD_PLUGIN_PER_CLIENT},
    {CALLBACKS, .name = "named",
     .flags = ABD_PLUGIN_EXPORTS | ABD_PLUGIN_REGISTERS},
    {CALLBACKS, .name = "delay", .parameters = delay_keys, .debug_flags = flags,
     .scratch_size = 1},
    {CALLBACKS, .name = "own", .flags = ABD_PLUGIN_PER_CLIENT},
};

static const struct abd_plugin *plugin_called(const char *name)
{
    for (size_t i = 0; i < sizeof plugins / sizeof plugins[0]; i++)
        if (strcmp(plugins[i].name, name) == 0)
            return &plugins[i];
    return NULL;
}

#define FILTER(name_, plugin_, flags_, children_)                              \
    {                                                                          \
        name_,                                                                 \
        {                                                                      \
            .abi = ABD_ABI, .struct_size = sizeof(struct abd_filter),          \
            .plugin = &plugins[plugin_], .flags = flags_,                      \
            .children = children_                                              \
        }                                                                      \
    }

static const struct {
    const char *name;
    struct abd_filter filter;
} filters[] = {
    FILTER("delay", 4, 0, 0),
    FILTER("delay2", 4, 0, 0),
    FILTER("one", 4, ABD_FILTER_ONE, 0),
    FILTER("own", 5, 0, 0),
    FILTER("two", 4, 0, 2),
    FILTER("sixteen", 4, 0, 16),
};

int module_load(enum module_kind kind, const char *name, struct module *ret)
{
    *ret = (struct module){.handle = NULL};
    if (kind == MODULE_PLUGIN)
        return module_check_plugin(name, plugin_called(name), &ret->plugin);
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
        if (strcmp(filters[i].name, name) != 0)
            continue;
        assert_int_equal(
            module_check_filter(name, &filters[i].filter, &ret->filter), 0);
        ret->plugin = (struct abd_plugin *)ret->filter->plugin;
        return 0;
    }
    return ENOENT;
}

/* A name that is not from strdup(). */
static const char borrowed[] = "delay";

static int forget_chain(void **state)
{
    (void)state;
    chain_destroy();
    for (unsigned i = 0; i < chain.n; i++) {
        free((void *)chain.layers[i]->plugin);
        free((void *)chain.layers[i]->filter);
        if (chain.layers[i]->instance.name != borrowed)
            free((void *)chain.layers[i]->instance.name);
        free(chain.layers[i]);
    }
    chain = (struct chain){.n = 0};
    calls[0] = '\0';
    failing = NULL;
    return 0;
}

/* "FILTER FILTER PLUGIN"; returns what chain_complete() says. */
static int build(const char *names)
{
    char copy[128], *next;

    forget_chain(NULL);
    snprintf(copy, sizeof copy, "%s", names);
    for (char *name = copy; name; name = next) {
        char *kept;

        next = strchr(name, ' ');
        if (next)
            *next++ = '\0';
        /* Layers borrow their names; the copy is gone soon. */
        kept = strdup(name);
        assert_int_equal(
            next ? chain_load_filter(kept) : chain_load_plugin(kept), 0);
    }
    return chain_complete();
}

static void scratch_is_aligned_and_disjoint(void **state)
{
    (void)state;
    assert_int_equal(build("delay delay2 disk"), 0);
    assert_int_equal(chain.layers[0]->scratch_at, 0);
    assert_int_equal(chain.layers[1]->scratch_at, 16);
    assert_int_equal(chain.layers[2]->scratch_at, 32);
    assert_int_equal(chain.scratch_size, 64);
    assert_int_equal(build("any"), 0);
    assert_int_equal(chain.scratch_size, 0);
}

/* Of each layer, the outermost first: c for per_client, n for per_name. */
static const char *sharing(const char *names)
{
    static char text[128];
    size_t used = 0;

    assert_int_equal(build(names), 0);
    for (unsigned i = 0; i < chain.n; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s%s",
                                 i ? " " : "",
                                 chain.layers[i]->per_client ? "c" : "-",
                                 chain.layers[i]->per_name ? "n" : "-");
    return text;
}

static void layers_are_shared_as_what_is_below(void **state)
{
    (void)state;
    assert_string_equal(sharing("any"), "--");
    assert_string_equal(sharing("delay any"), "-- --");
    assert_string_equal(sharing("delay mine"), "c- c-");
    assert_string_equal(sharing("own any"), "c- --");
    assert_string_equal(sharing("delay own any"), "c- c- --");
    assert_string_equal(sharing("one mine"), "-- --");
    assert_string_equal(sharing("delay one mine"), "-- -- --");
    assert_string_equal(sharing("own one mine"), "c- -- --");
    assert_string_equal(sharing("one own mine"), "-- -- --");
    assert_string_equal(sharing("own one delay one mine"), "c- -- -- -- --");
    assert_string_equal(sharing("delay named"), "-n -n");
    assert_true(chain.registers);
    assert_string_equal(sharing("own named"), "cn -n");
    assert_string_equal(sharing("any"), "--");
    assert_false(chain.registers);
}

static void children_multiply_down_the_chain(void **state)
{
    struct capture capture;

    (void)state;
    assert_int_equal(build("delay any"), 0);
    assert_int_equal(chain.children, 0);
    /* Two, and one that has ended but is not gone yet. */
    assert_int_equal(build("two any"), 0);
    assert_int_equal(chain.children, 3);
    /* Three, three for each of those, and three for the request itself. */
    assert_int_equal(build("two two any"), 0);
    assert_int_equal(chain.children, 15);
    assert_int_equal(build("delay two delay2 two any"), 0);
    assert_int_equal(chain.children, 15);
    capture_start(&capture);
    assert_int_equal(build("sixteen sixteen any"), E2BIG);
    assert_non_null(strstr(capture_end(&capture), "at most 256"));
    capture_start(&capture);
    assert_int_equal(build("sixteen sixteen sixteen sixteen sixteen sixteen "
                           "sixteen sixteen sixteen sixteen any"),
                     E2BIG);
    capture_end(&capture);
}

static void life_goes_from_the_plugin_outwards(void **state)
{
    (void)state;
    assert_int_equal(build("delay own any"), 0);
    assert_int_equal(chain_create(), 0);
    assert_int_equal(chain_ready(), 0);
    assert_int_equal(chain_start(), 0);
    chain_destroy();
    chain_destroy();
    assert_string_equal(calls, "any:create own:create delay:create "
                               "any:ready own:ready delay:ready "
                               "any:start own:start delay:start "
                               "delay:destroy own:destroy any:destroy ");
}

static void only_what_was_created_is_destroyed(void **state)
{
    struct capture capture;

    (void)state;
    assert_int_equal(build("delay own any"), 0);
    failing = "own:create";
    capture_start(&capture);
    assert_int_equal(chain_create(), EIO);
    assert_non_null(strstr(capture_end(&capture), "own: error: create()"));
    chain_destroy();
    assert_string_equal(calls, "any:create own:create any:destroy ");
}

static int configure(const char *parameter, const char **ret_said)
{
    static struct capture capture;
    int err;

    calls[0] = '\0';
    capture_start(&capture);
    err = chain_configure(parameter);
    *ret_said = capture_end(&capture);
    return err;
}

static void assert_goes_to(const char *parameter, const char *expected)
{
    const char *said;

    assert_int_equal(configure(parameter, &said), 0);
    assert_string_equal(calls, expected);
}

static void parameters_go_to_the_first_layer_that_knows_them(void **state)
{
    const char *said;

    (void)state;
    assert_int_equal(build("delay delay2 disk"), 0);
    assert_goes_to("delay=1", "delay:delay=1 ");
    assert_goes_to("both=x=y", "delay:both=x=y ");
    assert_goes_to("size=", "disk:size= ");
    assert_goes_to("1G", "disk:size=1G ");
    assert_goes_to("./a=b", "disk:size=./a=b ");
    assert_goes_to("", "disk:size= ");
    assert_goes_to("7z=1", "disk:size=7z=1 ");
    assert_int_equal(configure("sizze=1", &said), EINVAL);
    assert_string_equal(calls, "");
    assert_non_null(strstr(said, "\"sizze\""));
    assert_non_null(strstr(said, "did you mean size?"));
    assert_non_null(strstr(said, "delay both"));
    failing = "disk:size=2";
    assert_int_equal(configure("2", &said), EIO);
    assert_non_null(strstr(said, "size=2"));
}

static void a_plugin_without_a_list_sees_every_key(void **state)
{
    const char *said;

    (void)state;
    assert_int_equal(build("delay any"), 0);
    assert_goes_to("what.ever-1_2=3", "any:what.ever-1_2=3 ");
    assert_goes_to("delay=3", "delay:delay=3 ");
    assert_int_equal(configure("alone", &said), EINVAL);
    assert_non_null(strstr(said, "\"alone\""));
    assert_non_null(strstr(said, "KEY=VALUE"));
}

static void debug_flags_reach_the_layer_of_that_name(void **state)
{
    struct capture capture;

    (void)state;
    assert_int_equal(build("delay any"), 0);
    assert_int_equal(chain_set_debug_flag("delay.noisy=3"), 0);
    assert_int_equal(flag_value, 3);
    capture_start(&capture);
    assert_int_equal(chain_set_debug_flag("any.noisy=1"), EINVAL);
    assert_non_null(strstr(capture_end(&capture), "delay.noisy"));
    capture_start(&capture);
    assert_int_equal(chain_set_debug_flag("delay.quiet=1"), EINVAL);
    assert_non_null(strstr(capture_end(&capture), "delay.quiet"));
}

static void too_many_layers_are_refused(void **state)
{
    struct capture capture;

    (void)state;
    forget_chain(NULL);
    for (unsigned i = 0; i < LIMIT_LAYERS - 1; i++)
        assert_int_equal(chain_load_filter(borrowed), 0);
    capture_start(&capture);
    assert_int_equal(chain_load_filter(borrowed), E2BIG);
    assert_non_null(strstr(capture_end(&capture), "at most 31"));
    assert_int_equal(chain_load_plugin(strdup("any")), 0);
}

/* The plugin is refused with all of the texts in the message (end: NULL). */
static void refuse_plugin(const struct abd_plugin *plugin, ...)
{
    struct abd_plugin *copy = NULL;
    struct capture capture;
    const char *said;
    va_list texts;
    int err;

    capture_start(&capture);
    err = module_check_plugin("x.so", plugin, &copy);
    said = capture_end(&capture);
    assert_int_equal(err, ENOEXEC);
    assert_null(copy);
    assert_non_null(strstr(said, "x.so"));
    va_start(texts, plugin);
    for (const char *text; (text = va_arg(texts, const char *)) != NULL;)
        if (!strstr(said, text))
            fail_msg("no \"%s\" in: %s", text, said);
    va_end(texts);
}

static void what_cannot_work_is_refused(void **state)
{
    struct abd_plugin plugin = plugins[1];

    (void)state;
    refuse_plugin(NULL, "NULL", NULL);
    plugin.abi = ABD_ABI + 6;
    refuse_plugin(&plugin, "ABI 7", "has 1", "newer server", NULL);
    plugin.abi = 0;
    refuse_plugin(&plugin, "ABI 0", NULL);
    plugin = plugins[1];
    plugin.struct_size = 8;
    refuse_plugin(&plugin, "struct_size is 8", NULL);
    plugin = plugins[1];
    plugin.submit = NULL;
    refuse_plugin(&plugin, "needs submit()", NULL);
    plugin = plugins[1];
    plugin.open = NULL;
    refuse_plugin(&plugin, "needs open()", NULL);
    plugin = plugins[1];
    plugin.close = NULL;
    refuse_plugin(&plugin, "needs close()", NULL);
    plugin = plugins[1];
    plugin.scratch_size = 257;
    refuse_plugin(&plugin, "257", "256", NULL);
    plugin = plugins[1];
    plugin.flags = 0x80;
    refuse_plugin(&plugin, "0x80", NULL);
    plugin = plugins[1];
    plugin.name = "a/b";
    refuse_plugin(&plugin, "name", NULL);
}

static void older_and_bigger_structs_are_taken(void **state)
{
    struct {
        struct abd_plugin plugin;
        char later[64];
    } bigger = {.plugin = plugins[1]};
    struct abd_plugin *copy = NULL;

    (void)state;
    bigger.plugin.struct_size = sizeof bigger;
    memset(bigger.later, 0xff, sizeof bigger.later);
    assert_int_equal(module_check_plugin("x.so", &bigger.plugin, &copy), 0);
    assert_ptr_equal(copy->submit, on_submit);
    free(copy);
    /* An older one ends before close(): what lies behind is not looked at. */
    bigger.plugin.struct_size = offsetof(struct abd_plugin, close);
    refuse_plugin(&bigger.plugin, "needs close()", NULL);
    struct abd_filter filter = filters[0].filter, *taken = NULL;

    filter.struct_size = offsetof(struct abd_filter, children);
    filter.children = 9999;
    assert_int_equal(module_check_filter("x.so", &filter, &taken), 0);
    assert_int_equal(taken->children, 0);
    free((void *)taken->plugin);
    free(taken);
}

static void filters_are_checked_too(void **state)
{
    struct abd_filter filter = filters[0].filter, *taken = NULL;
    struct abd_plugin plugin = plugins[4];
    struct capture capture;

    (void)state;
    capture_start(&capture);
    assert_int_equal(module_check_filter("x.so", NULL, &taken), ENOEXEC);
    filter.children = 17;
    assert_int_equal(module_check_filter("x.so", &filter, &taken), ENOEXEC);
    filter.children = 0;
    filter.flags = 0x100;
    assert_int_equal(module_check_filter("x.so", &filter, &taken), ENOEXEC);
    filter.flags = 0;
    filter.plugin = NULL;
    assert_int_equal(module_check_filter("x.so", &filter, &taken), ENOEXEC);
    filter.plugin = &plugin;
    plugin.abi++;
    assert_int_equal(module_check_filter("x.so", &filter, &taken), ENOEXEC);
    plugin.abi--;
    plugin.close = NULL;
    assert_int_equal(module_check_filter("x.so", &filter, &taken), ENOEXEC);
    capture_end(&capture);
    assert_non_null(strstr(capture.text, "children are 17, at most 16"));
    assert_non_null(strstr(capture.text, "0x100"));
    assert_non_null(strstr(capture.text, "has no plugin"));
    assert_non_null(strstr(capture.text, "needs close()"));
    /* Everything is forwarded then. */
    plugin.open = NULL;
    plugin.submit = NULL;
    assert_int_equal(module_check_filter("x.so", &filter, &taken), 0);
    free((void *)taken->plugin);
    free(taken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scratch_is_aligned_and_disjoint),
        cmocka_unit_test(layers_are_shared_as_what_is_below),
        cmocka_unit_test(children_multiply_down_the_chain),
        cmocka_unit_test(life_goes_from_the_plugin_outwards),
        cmocka_unit_test(only_what_was_created_is_destroyed),
        cmocka_unit_test(parameters_go_to_the_first_layer_that_knows_them),
        cmocka_unit_test(a_plugin_without_a_list_sees_every_key),
        cmocka_unit_test(debug_flags_reach_the_layer_of_that_name),
        cmocka_unit_test(too_many_layers_are_refused),
        cmocka_unit_test(what_cannot_work_is_refused),
        cmocka_unit_test(older_and_bigger_structs_are_taken),
        cmocka_unit_test(filters_are_checked_too),
    };

    return cmocka_run_group_tests(tests, NULL, forget_chain);
}
