/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Hooks: called once in each turn.
 *
 * A run moves them all to a second list and from there one by one back behind
 * the first, so a callback may stop any of them, and one that is started
 * meanwhile waits for the next turn.  Loop thread only. */
#include "loop/self.h"

#include <stddef.h>

/* Lies in the caller's struct abd_hook; ours from start to stop. */
struct __attribute__((may_alias)) hook {
    struct list link;
    void (*fn)(void *arg);
    void *arg;
};

_Static_assert(sizeof(struct hook) <= sizeof(struct abd_hook),
               "a hook fits into what plugins reserve for it");

static struct hook *to_hook(struct abd_hook *hook)
{
    return (struct hook *)hook->reserved;
}

static bool holds(const struct list *head, const struct hook *hook)
{
    for (const struct list *link = head->next; link != head; link = link->next)
        if (link == &hook->link)
            return true;
    return false;
}

void hook_run(struct abd_loop *loop)
{
    struct list *link;

    list_append_all(&loop->hooks_to_run, &loop->hooks);
    while ((link = list_take_first(&loop->hooks_to_run))) {
        const struct hook *hook = container_of(link, struct hook, link);

        list_append(&loop->hooks, link);
        busy_begin(loop, (uintptr_t)hook->fn);
        hook->fn(hook->arg);
        busy_check(loop);
    }
}

LOOP_EXPORTED void abd_hook_start(struct abd_hook *hook, void (*fn)(void *arg),
                                  void *arg)
{
    struct abd_loop *loop = loop_need_self((uintptr_t)fn, "abd_hook_start");
    struct hook *own = to_hook(hook);

    if (list_is_linked(&own->link))
        loop_misuse((uintptr_t)fn, "abd_hook_start", "already started");
    own->fn = fn;
    own->arg = arg;
    list_append(&loop->hooks, &own->link);
}

LOOP_EXPORTED void abd_hook_stop(struct abd_hook *hook)
{
    struct hook *own = to_hook(hook);

    if (!list_is_linked(&own->link))
        return;
    /* There is no room for its loop, but hooks are few: look for it. */
    if (!loop_self || (!holds(&loop_self->hooks, own) &&
                       !holds(&loop_self->hooks_to_run, own)))
        loop_misuse((uintptr_t)own->fn, "abd_hook_stop",
                    "not on the thread of its loop");
    list_remove(&own->link);
}
