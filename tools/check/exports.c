/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

#include "tools/check/exports.h"

#include "tools/check/host.h"
#include "tools/check/options.h"
#include "tools/check/rules.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 4096

/* One list that is being made.  Never freed, so that a late call is noticed. */
struct list_call {
    struct abd_exports pub;
    struct listing *listing;
    const struct abd_plugin *plugin;
    sem_t done;
    atomic_bool is_done;
    struct list_call *older;
};

static struct list_call *call_of(struct abd_exports *pub, const char *function)
{
    struct list_call *call = container_of(pub, struct list_call, pub);

    if (atomic_load(&call->is_done))
        rules_stop(RULE_EXPORTS, call->plugin->name,
                   "%s after abd_exports_done()", function);
    return call;
}

LOOP_EXPORTED void abd_add_export(struct abd_exports *pub, const char *name,
                                  const char *description)
{
    struct list_call *call = call_of(pub, "abd_add_export()");
    struct listing *listing = call->listing;

    if (!name || strlen(name) > NAME_MAX_BYTES ||
        (description && strlen(description) > NAME_MAX_BYTES)) {
        rules_break(RULE_EXPORTS, call->plugin->name,
                    "abd_add_export() without a name, or of more than %d bytes",
                    NAME_MAX_BYTES);
        return;
    }
    if (listing->n < EXPORTS_KEPT &&
        !(listing->names[listing->n] = strdup(name)))
        host_die("there is no memory left");
    listing->n++;
}

LOOP_EXPORTED void abd_exports_done(struct abd_exports *pub, int error)
{
    struct list_call *call = call_of(pub, "abd_exports_done()");

    if (error < 0 || error > 4095)
        rules_break(RULE_EXPORTS, call->plugin->name,
                    "abd_exports_done() with error %d", error);
    call->listing->error = error;
    atomic_store(&call->is_done, true);
    sem_post(&call->done);
}

static void on_list(void *arg)
{
    struct list_call *call = arg;
    struct host_call before = host_enter(call->plugin->name, "exports()");

    call->plugin->exports(&call->pub);
    host_leave(before);
}

void exports_list(struct stack *stack, const struct abd_client *client,
                  struct listing *ret)
{
    static struct list_call *newest; /* which leads to the older ones */
    struct list_call *call = calloc(1, sizeof *call);
    unsigned i = 0;

    if (!call)
        host_die("there is no memory left");
    call->older = newest;
    newest = call;
    while (layer_is_filter(i) && !layers[i].plugin.exports)
        i++;
    *ret = (struct listing){0};
    call->pub.instance = &stack->instances[i];
    call->pub.client = client;
    call->plugin = &layers[i].plugin;
    call->listing = ret;
    sem_init(&call->done, 0, 0);
    host_run(abd_loop_at(0), on_list, call);
    if (!host_wait(&call->done, options.timeout_ns))
        rules_stop(RULE_EXPORTS, call->plugin->name,
                   "abd_exports_done() was not called");
}

void exports_finish(struct listing *listing)
{
    for (unsigned i = 0; i < EXPORTS_KEPT; i++)
        free(listing->names[i]);
}
