/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A plugin in the words that C11 and C++17 share, for the installed headers:
 * each byte of a read-only disk of 1 MiB is the letter of "letter=", which each
 * instance has of its own. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <abd-filter.h>
#include <abd-loop.h>
#include <abd-plugin.h>

static int letters_create(struct abd_instance *instance)
{
    char *letter = (char *)malloc(1);

    if (letter == NULL)
        return ENOMEM;
    *letter = '?';
    instance->state = letter;
    return 0;
}

static int letters_config(struct abd_instance *instance, const char *key,
                          const char *value)
{
    if (strcmp(key, "letter") != 0 || strlen(value) != 1) {
        abd_log(instance, NULL, ABD_ERROR, "%s=%s: not a letter", key, value);
        return EINVAL;
    }
    *(char *)instance->state = *value;
    return 0;
}

static void letters_destroy(struct abd_instance *instance)
{
    free(instance->state);
}

static void letters_open(struct abd_disk *disk)
{
    disk->size = 1 << 20;
    disk->ops = 1 << ABD_OP_READ;
    abd_opened(disk, 0);
}

static void letters_submit(struct abd_request *request)
{
    const char *letter = (const char *)request->disk->instance->state;

    memset(request->data, *letter, request->length);
    abd_complete(request, 0);
}

static void letters_close(struct abd_disk *disk)
{
    abd_closed(disk);
}

const struct abd_plugin *abd_plugin_entry(void)
{
    static struct abd_plugin plugin;

    plugin.abi = ABD_ABI;
    plugin.struct_size = sizeof plugin;
    plugin.name = "letters";
    plugin.create = letters_create;
    plugin.config = letters_config;
    plugin.destroy = letters_destroy;
    plugin.open = letters_open;
    plugin.submit = letters_submit;
    plugin.close = letters_close;
    return &plugin;
}
