/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Latency and faults from a plan.  See store_wrap.h.
 *
 * Chance is a sequence of numbers that begins with the seed; each call takes as
 * many of them, in the order in which calls start, so the same calls meet the
 * same faults. */
#include "store_wrap.h"

#include "base/parse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plan {
    uint64_t latency_ns, jitter_ns, rate, seed;
    uint64_t unknown, busy, broken, stall, stall_ns, stale, flip; /* of 1000 */
    uint64_t crash;
};

struct fault_store {
    struct store store;
    struct plan plan;
    uint64_t random;
    uint64_t changes;    /* CREATE and DELETE so far */
    uint64_t free_at_ns; /* rate=: when the line is free */
    bool crashed;
    void (*on_crash)(void *arg);
    void *on_crash_arg;
    struct list dead; /* calls that never end, until they are cancelled */
};

/* A call under way. */
struct fault {
    struct list link;
    struct fault_store *store;
    struct store_call *call;
    void (*done)(struct store_call *call);
    void *arg;
    struct abd_timer timer;
    bool lose_answer, lose_call, busy, damage, flip;
    uint64_t chance; /* where */
    bool below;      /* it is with the store below */
    bool dies;       /* it takes effect, and never ends */
    bool unwanted;   /* cancelled */
};

static uint64_t next_random(struct fault_store *store)
{
    uint64_t x = store->random += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static bool happens(struct fault_store *store, uint64_t of_1000)
{
    return next_random(store) % 1000 < of_1000;
}

static void end(struct fault *fault)
{
    struct store_call *call = fault->call;

    call->done = fault->done;
    call->arg = fault->arg;
    call->fault = NULL;
    free(fault);
    call->done(call);
}

/* --- the answer --- */

static void on_cancelled(void *arg)
{
    struct fault *fault = arg;

    store_answer(fault->call, STORE_CANCELLED, "it is not wanted any more");
    end(fault);
}

static void tell_crash(struct fault_store *store)
{
    if (store->on_crash)
        store->on_crash(store->on_crash_arg);
}

static void on_answer(struct store_call *call)
{
    struct fault *fault = call->arg;

    fault->below = false;
    if (fault->dies) {
        struct fault_store *store = fault->store;

        /* Who cancels gets an end all the same. */
        if (fault->unwanted)
            abd_timer_start(&fault->timer, 0, 0, on_cancelled, fault);
        else
            list_append(&store->dead, &fault->link);
        tell_crash(store);
        return;
    }
    if (fault->lose_answer && call->verb == STORE_CREATE)
        store_answer(call, STORE_UNKNOWN, "%s: the answer was lost",
                     call->name);
    if (fault->damage && call->verb == STORE_GET && call->result == STORE_OK) {
        call->got = call->got ? fault->chance % call->got : 0;
        store_answer(call, STORE_BROKEN, "%s: the body was cut", call->name);
    }
    if (fault->flip && call->verb == STORE_GET && call->result == STORE_OK &&
        call->got > 0) {
        *store_byte_at(call, fault->chance % call->got) ^=
            1 << fault->chance / 4096 % 8;
    }
    end(fault);
}

/* Now it reaches the store. */
static void go(struct fault *fault)
{
    struct store_call *call = fault->call;

    if (fault->busy) {
        store_answer(call, STORE_BUSY, "the store is busy");
        call->retry_after_ns = fault->chance % 20000000;
        end(fault);
        return;
    }
    if (fault->lose_call && call->verb == STORE_CREATE) {
        store_answer(call, STORE_UNKNOWN, "%s: the connection was cut",
                     call->name);
        end(fault);
        return;
    }
    call->done = on_answer;
    call->arg = fault;
    fault->below = true;
    store_start(fault->store->store.below, call);
}

static void on_time(void *arg)
{
    go(arg);
}

/* --- the plan --- */

enum fate { LIVES, DIES_NOW, DIES_AFTER };

/* The crash, and all calls that come after it. */
static enum fate fate_of(struct fault *fault)
{
    struct fault_store *store = fault->store;
    const struct store_call *call = fault->call;
    bool effect = next_random(store) % 2;

    if (store->crashed)
        return DIES_NOW;
    if (call->verb != STORE_CREATE && call->verb != STORE_DELETE)
        return LIVES;
    store->changes++;
    if (store->plan.crash == 0 || store->changes != store->plan.crash)
        return LIVES;
    store->crashed = true;
    return effect ? DIES_AFTER : DIES_NOW;
}

static uint64_t delay_of(struct fault *fault)
{
    struct fault_store *store = fault->store;
    const struct plan *plan = &store->plan;
    const struct store_call *call = fault->call;
    uint64_t delay_ns = plan->latency_ns, now_ns = abd_loop_now_ns();
    uint64_t chance = next_random(store);

    if (plan->jitter_ns)
        delay_ns += chance % plan->jitter_ns;
    if (happens(store, plan->stall))
        delay_ns += plan->stall_ns;
    if (plan->rate && (call->verb == STORE_CREATE || call->verb == STORE_GET)) {
        uint64_t cost_ns =
            (uint64_t)((double)call->length * 1e9 / (double)plan->rate);

        if (store->free_at_ns < now_ns)
            store->free_at_ns = now_ns;
        store->free_at_ns += cost_ns;
        delay_ns += store->free_at_ns - now_ns;
    }
    return delay_ns;
}

static void fault_start(struct store *base, struct store_call *call)
{
    struct fault_store *store = container_of(base, struct fault_store, store);
    const struct plan *plan = &store->plan;
    struct fault *fault = calloc(1, sizeof *fault);
    uint64_t delay_ns;
    bool lost, stale, was_crashed = store->crashed;
    enum fate fate;

    if (!fault) {
        call->fault = NULL;
        store_start(base->below, call);
        return;
    }
    fault->store = store;
    fault->call = call;
    fault->done = call->done;
    fault->arg = call->arg;
    call->fault = fault;
    lost = happens(store, plan->unknown);
    fault->lose_answer = next_random(store) % 2;
    fault->lose_call = lost && !fault->lose_answer;
    fault->lose_answer = lost && fault->lose_answer;
    fault->busy = happens(store, plan->busy);
    fault->damage = happens(store, plan->broken);
    fault->flip = happens(store, plan->flip);
    fault->chance = next_random(store);
    stale = happens(store, plan->stale);
    delay_ns = delay_of(fault);
    fate = fate_of(fault);
    if (fate == DIES_NOW) {
        list_append(&store->dead, &fault->link);
        if (!was_crashed)
            tell_crash(store);
        return;
    }
    fault->dies = fate == DIES_AFTER;
    if (fault->dies) /* it takes effect, whatever else was planned for it */
        fault->busy = fault->lose_call = false;
    /* A LIST that is stale is one that has failed: nothing is known by it. */
    if (call->verb == STORE_LIST && stale)
        fault->busy = true;
    abd_timer_start(&fault->timer, delay_ns, 0, on_time, fault);
}

static void fault_cancel(struct store *base, struct store_call *call)
{
    struct fault *fault = call->fault;

    if (!fault) {
        store_cancel(base->below, call);
    } else if (fault->below) {
        fault->unwanted = true;
        store_cancel(base->below, call);
    } else {
        if (fault->dies && !list_is_linked(&fault->link))
            tell_crash(fault->store); /* it will not come to pass */
        fault->dies = false;
        list_remove(&fault->link);
        abd_timer_stop(&fault->timer);
        abd_timer_start(&fault->timer, 0, 0, on_cancelled, fault);
    }
}

static void fault_destroy(struct store *base)
{
    free(container_of(base, struct fault_store, store));
}

static const struct store_class fault_class = {
    .name = "fault",
    .start = fault_start,
    .cancel = fault_cancel,
    .destroy = fault_destroy,
};

void store_fault_on_crash(struct store *base, void (*fn)(void *arg), void *arg)
{
    struct fault_store *store = container_of(base, struct fault_store, store);

    store->on_crash = fn;
    store->on_crash_arg = arg;
}

/* --- parsing --- */

static int take_part(struct plan *plan, char *key, char *value,
                     const char **ret_why)
{
    const struct {
        const char *key;
        uint64_t *number; /* of 1000 */
    } chances[] = {
        {"unknown", &plan->unknown}, {"busy", &plan->busy},
        {"broken", &plan->broken},   {"stale", &plan->stale},
        {"flip", &plan->flip},
    };
    char *colon;

    for (size_t i = 0; i < sizeof chances / sizeof chances[0]; i++)
        if (strcmp(key, chances[i].key) == 0)
            return parse_number(value, 1000, chances[i].number, ret_why);
    if (strcmp(key, "latency") == 0)
        return parse_delay(value, &plan->latency_ns, ret_why);
    if (strcmp(key, "jitter") == 0)
        return parse_delay(value, &plan->jitter_ns, ret_why);
    if (strcmp(key, "rate") == 0)
        return parse_size(value, &plan->rate, ret_why);
    if (strcmp(key, "seed") == 0)
        return parse_number(value, UINT64_MAX, &plan->seed, ret_why);
    if (strcmp(key, "crash") == 0)
        return parse_number(value, UINT64_MAX, &plan->crash, ret_why);
    if (strcmp(key, "stall") == 0) {
        colon = strchr(value, ':');
        *ret_why = "it must be CHANCE:TIME";
        if (!colon)
            return EINVAL;
        *colon = '\0';
        return parse_number(value, 1000, &plan->stall, ret_why) ||
                       parse_delay(colon + 1, &plan->stall_ns, ret_why)
                   ? EINVAL
                   : 0;
    }
    *ret_why = "there is no such fault";
    return EINVAL;
}

/* The plan is quoted as it was written: parsing cuts the copy to pieces. */
static int parse_plan(const char *text, struct plan *plan,
                      char why[STORE_WHY_MAX])
{
    char *copy = strdup(text), *rest = copy, *part;
    int err = 0;

    if (!copy) {
        snprintf(why, STORE_WHY_MAX, "no memory");
        return ENOMEM;
    }
    while (!err && (part = strsep(&rest, ","))) {
        const char *reason = "it must be KEY=VALUE";
        const char *written = text + (part - copy);
        char *equals = strchr(part, '=');

        if (equals)
            *equals = '\0';
        err = equals ? take_part(plan, part, equals + 1, &reason) : EINVAL;
        if (err)
            snprintf(why, STORE_WHY_MAX, "fault \"%.*s\": %s",
                     (int)strcspn(written, ","), written, reason);
    }
    free(copy);
    return err ? EINVAL : 0;
}

int store_fault_check(const char *plan, char why[STORE_WHY_MAX])
{
    struct plan unused = {0};

    return parse_plan(plan, &unused, why);
}

int store_fault(struct store *below, const char *plan, struct store **ret,
                char why[STORE_WHY_MAX])
{
    struct fault_store *store = calloc(1, sizeof *store);
    int err;

    if (!store)
        return ENOMEM;
    err = parse_plan(plan, &store->plan, why);
    if (err) {
        free(store);
        return err;
    }
    list_init(&store->dead);
    store->store.class = &fault_class;
    store->store.loop = below->loop;
    store->store.below = below;
    store->random = store->plan.seed;
    *ret = &store->store;
    return 0;
}
