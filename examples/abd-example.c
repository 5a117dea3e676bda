/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* An asynchronous plugin in under 100 lines: a disk in memory whose every
 * request takes a millisecond, without a thread: abdkit ./abd-example.so 16M */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "abd-loop.h"
#include "abd-plugin.h"

/* The instance's state: what its parameters say, and the bytes. */
struct example {
    uint64_t size;
    char *bytes;
};

static int example_create(struct abd_instance *instance)
{
    instance->state = calloc(1, sizeof(struct example));
    return instance->state ? 0 : ENOMEM;
}

static int example_config(struct abd_instance *instance, const char *key,
                          const char *value)
{
    struct example *example = (struct example *)instance->state;
    int err = abd_parse_size(instance, value, &example->size);

    (void)key; /* the server lets only "size" through */
    if (err)
        return err;
    free(example->bytes); /* of a size that was given before */
    example->bytes = (char *)calloc(1, example->size + 1);
    return example->bytes ? 0 : ENOMEM;
}

static void example_destroy(struct abd_instance *instance)
{
    struct example *example = (struct example *)instance->state;

    free(example->bytes);
    free(example);
}

static void example_open(struct abd_disk *disk)
{
    struct example *example = (struct example *)disk->instance->state;

    disk->size = example->size;
    disk->ops = 1U << ABD_OP_READ | 1U << ABD_OP_WRITE | 1U << ABD_OP_FLUSH;
    abd_opened(disk, 0);
}

/* The time has come: carries the request out, and ends it. */
static void on_time(void *arg)
{
    struct abd_request *request = (struct abd_request *)arg;
    struct example *example = (struct example *)request->disk->instance->state;
    char *at = example->bytes + request->offset;

    if (request->op == ABD_OP_READ)
        memcpy(request->data, at, request->length);
    else if (request->op == ABD_OP_WRITE)
        memcpy(at, request->data, request->length);
    abd_complete(request, 0);
}

/* Returns at once.  A thousand requests may wait; the timer of each lies in its
 * scratch, which is zeroed and stays until the request has ended. */
static void example_submit(struct abd_request *request)
{
    abd_timer_start((struct abd_timer *)request->scratch, 1000000, 0, on_time,
                    request);
}

static const struct abd_parameter parameters[] = {
    {"size", "how large the disk is"}, {NULL, NULL}};
static struct abd_plugin plugin;

__attribute__((visibility("default"))) const struct abd_plugin *
abd_plugin_entry(void)
{
    plugin.abi = ABD_ABI;
    plugin.struct_size = sizeof plugin;
    plugin.name = "example";
    plugin.version = "1";
    plugin.parameters = parameters;
    plugin.magic_key = "size";
    plugin.scratch_size = sizeof(struct abd_timer);
    plugin.create = example_create;
    plugin.config = example_config;
    plugin.destroy = example_destroy;
    plugin.open = example_open;
    plugin.submit = example_submit;
    plugin.close = abd_closed; /* there is nothing to be closed */
    return &plugin;
}
