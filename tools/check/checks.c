/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The order of the scenarios: simple ones first, so that what is broken shows
 * in the simplest. */
#include "tools/check/checks.h"

#include "tools/check/load.h"
#include "tools/check/options.h"
#include "tools/check/registered.h"
#include "tools/check/rules.h"

static void run(struct stack *stack, const char *name,
                const struct load_plan *plan)
{
    struct abd_client client = disk_new_client();
    const struct abd_client *clients = &client;
    struct load_plan own = *plan;
    struct disk *disk;

    rules_scenario(name);
    disk = disk_need(stack, &client);
    own.clients = &clients;
    own.clients_n = 1;
    if (disk_admit(disk, &client)) {
        rules_skip(RULE_CLIENTS, "it admits nobody");
        disk_close(disk);
        return;
    }
    if (!plan->lends || disk->pub->flags & ABD_DISK_LENDS)
        load_run(disk, &own);
    registered_check();
    disk_leave(disk, &client);
    disk_close(disk);
}

static void skip_what_is_not_there(struct stack *stack)
{
    struct abd_client client = disk_new_client();
    struct disk *disk = disk_need(stack, &client);
    const struct abd_disk *pub = disk->pub;

    if (!(pub->flags & ABD_DISK_INLINE))
        rules_skip(RULE_INLINE, "the disk is not ABD_DISK_INLINE");
    if (!(pub->flags & ABD_DISK_LENDS)) {
        rules_skip(RULE_LENT_PIECES, "the disk is not ABD_DISK_LENDS");
        rules_skip(RULE_LENT_STAYS, "the disk is not ABD_DISK_LENDS");
    }
    if (!disk_has(disk, ABD_OP_EXTENTS)) {
        rules_skip(RULE_EXTENTS, "ops has no ABD_OP_EXTENTS");
        rules_skip(RULE_EXTENTS_ZERO, "ops has no ABD_OP_EXTENTS");
    }
    if (!(pub->flags & ABD_DISK_FAST_ZERO) || !options.writes)
        rules_skip(RULE_FAST_ZERO, "the disk is not ABD_DISK_FAST_ZERO, or is "
                                   "not written to");
    disk_close(disk);
    if (layers_n > 1)
        return;
    rules_skip(RULE_FORWARD, "there is no filter");
    rules_skip(RULE_CHILDREN, "there is no filter");
    rules_skip(RULE_BELOW, "there is no filter");
}

static void check_data(struct stack *stack)
{
    uint64_t n = options.operations;
    unsigned depth = options.depth;
    const struct {
        const char *name;
        struct load_plan plan;
    } scenarios[] = {
        {"borders", {.operations = 250, .depth = 1, .borders = true}},
        {"one-by-one", {.operations = n / 4, .depth = 1}},
        {"random", {.operations = n, .depth = depth}},
        {"lending", {.operations = n, .depth = depth, .lends = true}},
        {"lending-borders",
         {.operations = 250, .depth = 2, .borders = true, .lends = true}},
        {"cancel", {.operations = n / 2, .depth = depth, .cancels = true}},
        {"cancel-lending",
         {.operations = n / 2, .depth = depth, .cancels = true, .lends = true}},
    };

    for (unsigned i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        if (!rules_ever_broken())
            run(stack, scenarios[i].name, &scenarios[i].plan);
    }
}

static void check_client_gone(struct stack *stack)
{
    for (unsigned i = 0; i < 8 && !rules_ever_broken(); i++)
        run(stack, "client-gone",
            &(struct load_plan){.operations = options.depth,
                                .depth = options.depth,
                                .abandons = true,
                                .lends = i & 1,
                                .overlaps = true});
}

/* Nothing can be said of the data, but all other rules hold. */
static void check_overlapping(struct stack *stack)
{
    for (unsigned i = 0; i < 2 && !rules_ever_broken(); i++)
        run(stack, i ? "overlapping-lending" : "overlapping",
            &(struct load_plan){.operations = options.operations / (1 + i),
                                .depth = options.depth,
                                .overlaps = true,
                                .cancels = true,
                                .lends = i == 1});
}

/* Goes on only as long as nothing is broken: what comes then would be blamed on
 * rules that have nothing to do with it. */
void checks_run(struct stack *stack, struct stack *other)
{
    rules_scenario("open");
    check_fields(stack);
    skip_what_is_not_there(stack);
    check_exports(stack);
    check_data(stack);
    check_client_gone(stack);
    if (!rules_ever_broken())
        check_clients(stack);
    if (!rules_ever_broken())
        check_keeps(stack);
    if (!rules_ever_broken())
        check_read_only(stack);
    if (!rules_ever_broken())
        check_instances(stack, other);
    check_overlapping(stack);
}
