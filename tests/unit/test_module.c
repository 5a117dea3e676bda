/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* How shared objects are found and loaded.  The first argument is the folder
 * with the samples (module_sample.c). */
#include "server/module.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "captured.h"

/* What the samples call, and nobody runs here. */
__attribute__((visibility("default"))) void abd_opened(struct abd_disk *disk,
                                                       int error)
{
    (void)disk;
    (void)error;
}

__attribute__((visibility("default"))) void abd_complete(
    struct abd_request *request, int error)
{
    (void)request;
    (void)error;
}

__attribute__((visibility("default"))) void abd_closed(struct abd_disk *disk)
{
    (void)disk;
}

static const char *samples;
static const char *folders[3];

static void assert_loads(enum module_kind kind, const char *name)
{
    struct module module;

    assert_int_equal(module_load(kind, name, &module), 0);
    assert_int_equal(module.path[0], '/');
    assert_string_equal(module.plugin->name, "sample");
    assert_int_equal(module.filter != NULL, kind == MODULE_FILTER);
    free(module.path);
    free(module.filter);
    free(module.plugin);
}

/* The message must have all of the texts (end: NULL). */
static void assert_refused(enum module_kind kind, const char *name, ...)
{
    struct module module;
    struct capture capture;
    const char *said;
    va_list texts;
    int err;

    capture_start(&capture);
    err = module_load(kind, name, &module);
    said = capture_end(&capture);
    assert_int_not_equal(err, 0);
    va_start(texts, name);
    for (const char *text; (text = va_arg(texts, const char *)) != NULL;)
        if (!strstr(said, text))
            fail_msg("%s: no \"%s\" in: %s", name, text, said);
    va_end(texts);
}

static void names_are_looked_for_in_the_folders_in_order(void **state)
{
    (void)state;
    folders[0] = "/nonexistent";
    folders[1] = samples;
    module_set_path(MODULE_PLUGIN, folders);
    module_set_path(MODULE_FILTER, folders);
    assert_loads(MODULE_PLUGIN, "sample");
    assert_loads(MODULE_FILTER, "sample");
    assert_refused(MODULE_PLUGIN, "missing", "abdkit-missing-plugin.so",
                   "/nonexistent", samples, NULL);
    assert_refused(MODULE_FILTER, "missing", "abdkit-missing-filter.so", NULL);
    module_set_path(MODULE_PLUGIN, NULL);
    assert_refused(MODULE_PLUGIN, "sample", "abdkit-sample-plugin.so", NULL);
}

static void paths_are_taken_as_they_are(void **state)
{
    char path[4096];

    (void)state;
    snprintf(path, sizeof path, "%s/abdkit-sample-plugin.so", samples);
    assert_loads(MODULE_PLUGIN, path);
    snprintf(path, sizeof path, "%s/../%s/abdkit-sample-filter.so", samples,
             strrchr(samples, '/') + 1);
    assert_loads(MODULE_FILTER, path);
    assert_refused(MODULE_PLUGIN, "./missing.so", "./missing.so",
                   "No such file", NULL);
    assert_refused(MODULE_PLUGIN, "/dev/null", "/dev/null", NULL);
}

static void names_that_are_none_are_refused(void **state)
{
    (void)state;
    assert_refused(MODULE_PLUGIN, "", "\"\"", NULL);
    assert_refused(MODULE_PLUGIN, "a b", "\"a b\"", NULL);
    assert_refused(MODULE_PLUGIN, "-x", "\"-x\"", NULL);
    assert_refused(MODULE_FILTER, "a\nb", "a\\x0ab", NULL);
    assert_refused(MODULE_PLUGIN, "..", "plugin", NULL);
    assert_refused(MODULE_PLUGIN, "../sample", "../sample", NULL);
}

static void what_is_something_else_says_what(void **state)
{
    char path[4096];

    (void)state;
    snprintf(path, sizeof path, "%s/abdkit-sample-plugin.so", samples);
    assert_refused(MODULE_FILTER, path, path, "it is a plugin", NULL);
    snprintf(path, sizeof path, "%s/abdkit-sample-filter.so", samples);
    assert_refused(MODULE_PLUGIN, path, path, "--filter", NULL);
    snprintf(path, sizeof path, "%s/abdkit-neither-plugin.so", samples);
    assert_refused(MODULE_PLUGIN, path, path, "not a shared object of abdkit",
                   NULL);
    snprintf(path, sizeof path, "%s/abdkit-newer-plugin.so", samples);
    assert_refused(MODULE_PLUGIN, path, path, "ABI 99", "has 1", NULL);
    assert_refused(MODULE_FILTER, path, path, "ABI 99", "has 1", NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_looked_for_in_the_folders_in_order),
        cmocka_unit_test(paths_are_taken_as_they_are),
        cmocka_unit_test(names_that_are_none_are_refused),
        cmocka_unit_test(what_is_something_else_says_what),
    };

    if (argc != 2)
        return EXIT_FAILURE;
    samples = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
