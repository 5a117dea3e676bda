/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Scenarios of disks: opened, closed, listed, shared, read-only. */
#include "tools/check/checks.h"
#include "tools/check/exports.h"
#include "tools/check/load.h"
#include "tools/check/options.h"
#include "tools/check/rules.h"

#include <errno.h>
#include <string.h>

static bool is_power_of_2(uint32_t n)
{
    return n && (n & (n - 1)) == 0;
}

static bool fields_are_wrong;

static void wrong(const struct disk *disk, const char *what, uint64_t value)
{
    fields_are_wrong = true;
    rules_break(RULE_DISK_FIELDS, disk->layer->plugin.name, "%s (it is %llu)",
                what, (unsigned long long)value);
}

static void check_sizes(const struct disk *disk)
{
    const struct abd_disk *pub = disk->pub;

    if (pub->size > INT64_MAX)
        wrong(disk, "size is above INT64_MAX", pub->size);
    if (pub->max_transfer % 4096)
        wrong(disk, "max_transfer is no multiple of 4096", pub->max_transfer);
    if (!is_power_of_2(disk->block_min) || disk->block_min > 65536)
        wrong(disk, "block_min is no power of 2 from 1 to 65536",
              pub->block_min);
    else if (disk->transfer % disk->block_min)
        wrong(disk, "max_transfer is no multiple of block_min", disk->transfer);
    if (pub->max_zero && pub->max_zero < disk->block_min)
        wrong(disk, "max_zero is less than block_min", pub->max_zero);
    if (pub->max_trim && pub->max_trim < disk->block_min)
        wrong(disk, "max_trim is less than block_min", pub->max_trim);
    if (pub->block_preferred && (!is_power_of_2(pub->block_preferred) ||
                                 pub->block_preferred < disk->block_min))
        wrong(disk, "block_preferred is no power of 2, or below block_min",
              pub->block_preferred);
    if (pub->block_max && pub->block_max < disk->block_min)
        wrong(disk, "block_max is below block_min", pub->block_max);
    if (pub->data_alignment && !is_power_of_2(pub->data_alignment))
        wrong(disk, "data_alignment is no power of 2", pub->data_alignment);
    if (pub->flags & ABD_DISK_LENDS && pub->lend_min > disk->transfer)
        wrong(disk, "lend_min is above max_transfer", pub->lend_min);
}

static void check_strings(const struct disk *disk)
{
    const struct abd_disk *pub = disk->pub;

    if ((pub->canonical_name && strlen(pub->canonical_name) > 4096) ||
        (pub->description && strlen(pub->description) > 4096))
        wrong(disk, "canonical_name or description is above 4096 bytes", 0);
}

/* What is wrong here ends the run: no use makes sense. */
void check_fields(struct stack *stack)
{
    struct abd_client client = disk_new_client();
    struct disk *disk = disk_need(stack, &client);
    const struct abd_disk *pub = disk->pub;

    rules_try(RULE_DISK_FIELDS);
    check_sizes(disk);
    if (!disk_has(disk, ABD_OP_READ))
        wrong(disk, "ops has no ABD_OP_READ", pub->ops);
    if (pub->ops & ~((2U << ABD_OP_CACHE) - 2))
        wrong(disk, "ops has bits that mean nothing", pub->ops);
    if (pub->flags & ~((2U << 6) - 1))
        wrong(disk, "flags has bits that mean nothing", pub->flags);
    if (pub->fua > ABD_FUA_NATIVE)
        wrong(disk, "fua is none of enum abd_fua", pub->fua);
    if (pub->fua == ABD_FUA_EMULATE && !disk_has(disk, ABD_OP_FLUSH))
        wrong(disk, "fua is ABD_FUA_EMULATE without ABD_OP_FLUSH", pub->fua);
    check_strings(disk);
    disk_close(disk);
    if (fields_are_wrong)
        rules_stop(RULE_DISK_FIELDS, stack_name(), "no use goes on");
}

/* --- exports --- */

static void open_export(struct stack *stack, const struct abd_client *client,
                        const char *name)
{
    int error;
    struct disk *disk = disk_open(stack, client, name, !options.writes, &error);

    if (disk)
        disk_close(disk);
    else if (error == ENOENT)
        rules_break(RULE_EXPORTS, stack_name(),
                    "exports() names \"%s\", but open() does not know it",
                    name);
}

void check_exports(struct stack *stack)
{
    struct abd_client client = disk_new_client();
    struct listing listing;
    unsigned last = layers_n - 1;
    int error;

    rules_skip(RULE_EXPORTS, "there is no exports()");
    for (unsigned i = 0; i < layers_n; i++) {
        if (layers[i].plugin.exports)
            last = i;
    }
    if (!layers[last].plugin.exports)
        return;
    rules_try(RULE_EXPORTS);
    exports_list(stack, &client, &listing);
    for (unsigned i = 0; i < EXPORTS_KEPT && listing.names[i]; i++)
        open_export(stack, &client, listing.names[i]);
    exports_finish(&listing);
    /* Any name may be asked for. */
    struct disk *disk = disk_open(stack, &client, "no such \xc3\xa9xport",
                                  !options.writes, &error);
    if (disk)
        disk_close(disk);
}

/* --- clients --- */

#define CLIENTS 3

void check_clients(struct stack *stack)
{
    struct abd_client clients[CLIENTS];
    const struct abd_client *admitted[CLIENTS];
    struct disk *disks[CLIENTS] = {NULL};
    bool own = layer_is_per_client(0);
    unsigned n = 0;

    rules_scenario("clients");
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = disk_new_client();
        if (own || i == 0)
            disks[n] = disk_need(stack, &clients[i]);
        else
            disks[n] = disks[0];
        if (disk_admit(disks[n], &clients[i]) == 0)
            admitted[n++] = &clients[i];
        else if (own || i == 0)
            disk_close(disks[n]); /* to refuse is allowed */
    }
    for (unsigned i = 0; i < n && (own || i == 0); i++)
        load_run(disks[i],
                 &(struct load_plan){.operations = options.operations / 4,
                                     .depth = options.depth,
                                     .clients = own ? &admitted[i] : admitted,
                                     .clients_n = own ? 1 : n});
    while (n > 0) {
        n--;
        disk_leave(disks[n], admitted[n]);
        if (own || n == 0)
            disk_close(disks[n]);
    }
}

/* --- closing and opening again --- */

/* So many, or fewer if fewer are asked for. */
static uint64_t up_to(uint64_t n)
{
    return n < options.operations ? n : options.operations;
}

static void use(struct stack *stack, const struct load_plan *plan)
{
    struct abd_client client = disk_new_client();
    const struct abd_client *clients = &client;
    struct disk *disk = disk_need(stack, &client);
    struct load_plan own = *plan;

    own.clients = &clients;
    own.clients_n = 1;
    if (disk_admit(disk, &client) == 0) {
        load_run(disk, &own);
        disk_leave(disk, &client);
    }
    disk_close(disk);
}

void check_keeps(struct stack *stack)
{
    struct model model = {0};

    rules_scenario("reopen");
    if (!options.keeps || !options.writes || layer_is_per_client(0)) {
        rules_skip(RULE_KEEPS, "it has nothing to keep");
        return;
    }
    for (unsigned i = 0; i < 5 && !rules_broken(); i++) {
        use(stack, &(struct load_plan){
                       .operations = up_to(100), .depth = 8, .keeps = &model});
        use(stack, &(struct load_plan){.operations = up_to(200),
                                       .depth = 8,
                                       .only_reads = true,
                                       .rule = RULE_KEEPS,
                                       .keeps = &model});
        rules_try(RULE_KEEPS);
    }
    model_finish(&model);
}

void check_read_only(struct stack *stack)
{
    struct abd_client client = disk_new_client();
    const struct abd_client *clients = &client;
    struct disk *disk = disk_need(stack, &client);
    uint64_t size = disk->pub->size;
    int error;

    rules_scenario("read-only");
    rules_try(RULE_READ_ONLY);
    disk_close(disk);
    disk = disk_open(stack, &client, "", true, &error);
    if (!disk) {
        rules_break(RULE_READ_ONLY, stack_name(),
                    "open() with read_only ended with error %d (%s)", error,
                    strerrordesc_np(error));
        return;
    }
    if (disk->pub->size != size)
        rules_break(RULE_READ_ONLY, stack_name(),
                    "opened read-only it has %llu bytes instead of %llu",
                    (unsigned long long)disk->pub->size,
                    (unsigned long long)size);
    else if (size)
        load_run(disk, &(struct load_plan){.operations = up_to(400),
                                           .depth = 8,
                                           .only_reads = true,
                                           .clients = &clients,
                                           .clients_n = 1});
    disk_close(disk);
}

/* Two instances, each with a model.  Where both have one disk behind them (the
 * same file), neither may be written to. */
void check_instances(struct stack *stack, struct stack *other)
{
    struct stack *const both[2] = {stack, other};
    struct model models[2] = {{.n = 0}, {.n = 0}};
    bool writes = options.writes && options.other_n;

    rules_scenario("instances");
    for (unsigned i = 0; i < 6 && !rules_broken(); i++) {
        use(both[i % 2], &(struct load_plan){
                             .operations = up_to(100),
                             .depth = 8,
                             .only_reads = !writes || i > 1,
                             .rule = RULE_INSTANCES,
                             .keeps = options.keeps ? &models[i % 2] : NULL});
        rules_try(RULE_INSTANCES);
    }
    model_finish(&models[0]);
    model_finish(&models[1]);
}
