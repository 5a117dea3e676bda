/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The layers of the command line: filters, outermost first, then the plugin.
 *
 * A layer is one configured use of a shared object.  All of them are created
 * and configured on the main thread before the loops run, and stay to the end;
 * from then on the struct is read-only. */
#ifndef ABD_SERVER_LAYER_H
#define ABD_SERVER_LAYER_H

#include "abd-filter.h"
#include "abd-plugin.h"

#include "server/limits.h"

#include <stdbool.h>

struct layer {
    unsigned index;                  /* 0: outermost */
    const struct abd_plugin *plugin; /* a filter's, too; fields past the
                                        struct_size it was built with are 0 */
    const struct abd_filter *filter; /* NULL: this is the plugin */
    struct abd_instance instance;
    void *handle; /* dlopen()'s, never closed */

    /* Derived by chain_derive(). */
    unsigned scratch_at; /* where in a request its scratch lies */
    bool per_client;     /* each client has a disk of its own */
    bool per_name;       /* each export name has a disk of its own */
    bool below_children; /* a filter above makes requests of its own */
};

struct chain {
    struct layer *layers[LIMIT_LAYERS];
    unsigned n;            /* the plugin is layers[n - 1] */
    unsigned scratch_size; /* of all layers together */
    unsigned children;     /* requests of filters' own, for one of a client */
    bool registers;        /* a layer has ABD_PLUGIN_REGISTERS */
};

extern struct chain chain;

/* Fills in what is derived, once all layers are there. */
void chain_derive(void);

/* How many requests of filters' own one request can need that enters the chain
 * at this layer; 0 past the last. */
unsigned chain_children_from(unsigned index);

#endif
