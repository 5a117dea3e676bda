/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A filter that holds the loop for 200 ms in the callback that nap=NAME names;
 * otherwise it forwards all. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "abd-filter.h"

/* The instance's state. */
struct config {
    char *where;
};

/* The disk's state. */
struct nap {
    struct abd_disk *below;
};

static void nap_in(const struct abd_disk *disk, const char *where)
{
    const struct config *config = disk->instance->state;
    struct timespec time = {.tv_nsec = 200 * 1000 * 1000};

    if (config->where && strcmp(config->where, where) == 0)
        nanosleep(&time, NULL);
}

static int nap_create(struct abd_instance *instance)
{
    instance->state = calloc(1, sizeof(struct config));
    return instance->state ? 0 : ENOMEM;
}

static int nap_config(struct abd_instance *instance, const char *key,
                      const char *value)
{
    struct config *config = instance->state;

    (void)key;
    config->where = strdup(value);
    return config->where ? 0 : ENOMEM;
}

static void nap_destroy(struct abd_instance *instance)
{
    struct config *config = instance->state;

    free(config->where);
    free(config);
}

static void on_below(struct abd_disk *disk, struct abd_disk *below, int error)
{
    struct nap *nap = disk->state;

    nap_in(disk, "opened");
    nap->below = below;
    if (!error)
        abd_inherit(disk, below);
    else
        free(nap);
    abd_opened(disk, error);
}

static void nap_open(struct abd_disk *disk)
{
    disk->state = calloc(1, sizeof(struct nap));
    if (disk->state)
        abd_open_below(disk, NULL, disk->read_only, on_below);
    else
        abd_opened(disk, ENOMEM);
}

static void on_closed(struct abd_disk *disk)
{
    nap_in(disk, "closed");
    free(disk->state);
    abd_closed(disk);
}

static void nap_close(struct abd_disk *disk)
{
    const struct nap *nap = disk->state;

    nap_in(disk, "close");
    abd_close_below(disk, nap->below, on_closed);
}

static int after(struct abd_request *request, int error)
{
    nap_in(request->disk, "after");
    return error;
}

static void nap_submit(struct abd_request *request)
{
    const struct nap *nap = request->disk->state;

    nap_in(request->disk, "submit");
    abd_forward(request, nap->below, request->offset, after);
}

static int nap_admit(struct abd_disk *disk, const struct abd_client *client)
{
    (void)client;
    nap_in(disk, "admit");
    return 0;
}

static void nap_leave(struct abd_disk *disk, const struct abd_client *client)
{
    (void)client;
    nap_in(disk, "leave");
}

static void nap_status(struct abd_disk *disk, struct abd_status *status)
{
    (void)status;
    nap_in(disk, "status");
}

static const struct abd_parameter parameters[] = {
    {"nap", "the callback that holds the loop"},
    {NULL, NULL},
};

static const struct abd_plugin plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof plugin,
    .name = "nap",
    .parameters = parameters,
    .create = nap_create,
    .config = nap_config,
    .destroy = nap_destroy,
    .open = nap_open,
    .close = nap_close,
    .submit = nap_submit,
    .admit = nap_admit,
    .leave = nap_leave,
    .status = nap_status,
};

static const struct abd_filter filter = {
    .abi = ABD_ABI,
    .struct_size = sizeof filter,
    .plugin = &plugin,
};

__attribute__((visibility("default"))) const struct abd_filter *
abd_filter_entry(void)
{
    return &filter;
}
