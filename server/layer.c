/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The layers of the command line, and what follows from their order: where the
 * scratch of each lies, who is shared, how many requests of filters' own one
 * request of a client may need.  Main thread, before the loops run. */
#include "server/layer.h"

#include <stdint.h>

#define SCRATCH_ALIGNMENT 16U
/* Past this the numbers are not right any more, only too large. */
#define NEED_MAX 100000U

struct chain chain;

static void derive_scratch(void)
{
    unsigned at = 0;

    for (unsigned i = 0; i < chain.n; i++) {
        unsigned size = chain.layers[i]->plugin->scratch_size;

        chain.layers[i]->scratch_at = at;
        at += (size + SCRATCH_ALIGNMENT - 1) & ~(SCRATCH_ALIGNMENT - 1);
    }
    chain.scratch_size = at;
}

/* The outermost layer with ABD_FILTER_ONE; chain.n: there is none. */
static unsigned outermost_one(void)
{
    for (unsigned i = 0; i < chain.n; i++) {
        const struct abd_filter *filter = chain.layers[i]->filter;

        if (filter && (filter->flags & ABD_FILTER_ONE))
            return i;
    }
    return chain.n;
}

/* A layer is a client's own if it says so or what is below it is; one with
 * ABD_FILTER_ONE is shared, and uses all that is below as one client would. */
static void derive_sharing(void)
{
    unsigned one = outermost_one();
    bool per_client = false, per_name = false;

    for (unsigned i = chain.n; i-- > 0;) {
        struct layer *layer = chain.layers[i];
        uint32_t flags = layer->plugin->flags;

        per_client = i < one && (per_client || (flags & ABD_PLUGIN_PER_CLIENT));
        per_name = per_name || (flags & ABD_PLUGIN_EXPORTS);
        layer->per_client = per_client;
        layer->per_name = per_name;
    }
}

/* One request of a client becomes one in each layer (its frames, no requests of
 * their own), and each filter may have children, which become the same again in
 * the layers below.  One more is for a child that has ended but is still there:
 * while ended() is called, which may make the next, and until what it was lent
 * has been sent, for a request that may not be its parent. */
unsigned chain_children_from(unsigned index)
{
    unsigned need = 0;

    for (unsigned i = chain.n; i-- > index;) {
        const struct abd_filter *filter = chain.layers[i]->filter;
        unsigned children = filter ? filter->children : 0;

        if (filter && (children || filter->background))
            children++;
        need += children * (1 + need);
        if (need > NEED_MAX)
            need = NEED_MAX;
    }
    return need;
}

void chain_derive(void)
{
    bool children = false;

    chain.registers = false;
    for (unsigned i = 0; i < chain.n; i++) {
        struct layer *layer = chain.layers[i];

        if (layer->plugin->flags & ABD_PLUGIN_REGISTERS)
            chain.registers = true;
        layer->below_children = children;
        if (layer->filter &&
            (layer->filter->children || layer->filter->background))
            children = true;
    }
    derive_scratch();
    derive_sharing();
    chain.children = chain_children_from(0);
}
