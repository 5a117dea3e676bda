/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The life of the layers, see chain.h.  Nothing is freed before the process
 * ends: layers are read-only and may be looked at by any thread until then. */
#include "server/chain.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "server/layer.h"
#include "server/module.h"
#include "server/settings.h"

/* Requests of filters' own for one of a client: they are reserved for each
 * request that is let in, so more would cost more memory than data does. */
#define CHILDREN_MAX 256

/* The layers from created on were created: it goes down from n to 0. */
static unsigned created;

static int load(enum module_kind kind, const char *name)
{
    struct module module;
    struct layer *layer;
    int err;

    if (chain.n == LIMIT_LAYERS - (kind == MODULE_FILTER ? 1 : 0)) {
        log_write(ABD_ERROR, NULL, "too many filters: at most %d",
                  LIMIT_LAYERS - 1);
        return E2BIG;
    }
    err = module_load(kind, name, &module);
    if (err)
        return err;
    free(module.path);
    layer = calloc(1, sizeof *layer);
    if (!layer) {
        log_write(ABD_ERROR, NULL, "%s: %s", name, strerror(ENOMEM));
        return ENOMEM;
    }
    layer->index = chain.n;
    layer->plugin = module.plugin;
    layer->filter = module.filter;
    layer->handle = module.handle;
    layer->instance.name = name;
    layer->instance.read_only = settings.read_only;
    chain.layers[chain.n++] = layer;
    created = chain.n;
    return 0;
}

int chain_load_filter(const char *name)
{
    return load(MODULE_FILTER, name);
}

int chain_load_plugin(const char *name)
{
    return load(MODULE_PLUGIN, name);
}

int chain_complete(void)
{
    chain_derive();
    if (chain.children <= CHILDREN_MAX)
        return 0;
    log_write(ABD_ERROR, NULL,
              "these filters would need %u requests of their own for each one "
              "of a client, at most %d are possible",
              chain.children, CHILDREN_MAX);
    return E2BIG;
}

/* Calls one of the plugin's functions (NULL: it has none).  Says that it
 * failed, unless the plugin has said what was wrong. */
static int call(struct layer *layer, const char *what,
                int (*function)(struct abd_instance *instance))
{
    unsigned before = log_errors();
    int err = function ? function(&layer->instance) : 0;

    if (err && log_errors() == before)
        log_write(ABD_ERROR, layer->instance.name, "%s() failed: %s", what,
                  strerror(err));
    return err;
}

int chain_create(void)
{
    assert(created == chain.n);
    while (created > 0) {
        struct layer *layer = chain.layers[created - 1];
        int err = call(layer, "create", layer->plugin->create);

        if (err)
            return err;
        created--;
    }
    return 0;
}

int chain_ready(void)
{
    for (unsigned i = chain.n; i-- > 0;) {
        struct layer *layer = chain.layers[i];
        int err = call(layer, "ready", layer->plugin->ready);

        if (err)
            return err;
    }
    return 0;
}

int chain_start(void)
{
    for (unsigned i = chain.n; i-- > 0;) {
        struct layer *layer = chain.layers[i];
        int err = call(layer, "start", layer->plugin->start);

        if (err)
            return err;
    }
    return 0;
}

void chain_destroy(void)
{
    for (; created < chain.n; created++) {
        struct layer *layer = chain.layers[created];

        if (layer->plugin->destroy)
            layer->plugin->destroy(&layer->instance);
    }
}
