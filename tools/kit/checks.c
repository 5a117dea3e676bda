/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The checks, in the order in which they run. */
#include "tools/kit/kit.h"

#include <inttypes.h>
#include <stdio.h>

static struct abd_instance instance;

static void with_disk(const struct load_plan *plan)
{
    struct kit_disk disk;

    if (!disk_open(&disk, &instance, !options.may_write))
        return;
    if (disk.pub.size == 0)
        report_skip("the disk is empty");
    else
        load_run(&disk, plan);
    disk_close(&disk);
}

static void check_fields(void)
{
    struct kit_disk disk;

    if (!disk_open(&disk, &instance, !options.may_write))
        return;
    disk_check_fields(&disk);
    disk_close(&disk);
}

static void check_borders(void)
{
    with_disk(
        &(struct load_plan){.operations = 200, .depth = 4, .borders = true});
}

static void check_one_by_one(void)
{
    with_disk(
        &(struct load_plan){.operations = options.operations / 10, .depth = 1});
}

static void check_random(void)
{
    with_disk(&(struct load_plan){.operations = options.operations,
                                  .depth = options.depth});
}

static void check_cancel(void)
{
    with_disk(&(struct load_plan){.operations = options.operations / 4,
                                  .depth = options.depth,
                                  .cancels = true});
}

static void check_client_gone(void)
{
    for (unsigned i = 0; i < 20 && !report_has_failed(); i++)
        with_disk(&(struct load_plan){.operations = options.depth,
                                      .depth = options.depth,
                                      .abandons = true});
}

static void check_lending(void)
{
    struct kit_disk disk;

    if (!disk_open(&disk, &instance, !options.may_write))
        return;
    if (!(disk.pub.flags & ABD_DISK_LENDS)) {
        report_skip("the disk is not ABD_DISK_LENDS");
    } else if (disk.pub.size > 0) {
        load_run(&disk, &(struct load_plan){.operations = options.operations,
                                            .depth = options.depth,
                                            .lends = true,
                                            .borders = true});
    }
    disk_close(&disk);
}

static void check_reopen(void)
{
    for (unsigned i = 0; i < 50 && !report_has_failed(); i++)
        with_disk(&(struct load_plan){.operations = 10, .depth = 4});
}

static void check_two_instances(void)
{
    struct abd_instance other;
    struct kit_disk first, second;
    bool ready = instance_begin(&other) && instance_start(&other);

    if (ready && disk_open(&first, &instance, !options.may_write)) {
        if (disk_open(&second, &other, !options.may_write)) {
            load_run(&first,
                     &(struct load_plan){.operations = 100, .depth = 4});
            load_run(&second,
                     &(struct load_plan){.operations = 100, .depth = 4});
            disk_close(&second);
        }
        disk_close(&first);
    }
    instance_end(&other);
}

static void check_exports(void)
{
    if (!plugin->exports)
        report_skip("there is no exports()");
    else
        exports_count(&instance);
}

static void check_read_only(void)
{
    struct kit_disk disk;
    bool may_write = options.may_write;

    if (!disk_open(&disk, &instance, true))
        return;
    options.may_write = false;
    if (disk.pub.size > 0)
        load_run(&disk, &(struct load_plan){.operations = 200, .depth = 4});
    options.may_write = may_write;
    disk_close(&disk);
}

static const struct check {
    const char *name, *what;
    void (*run)(void);
} checks[] = {
    {"fields", "what open() says of the disk is allowed", check_fields},
    {"borders", "shortest and longest requests at both ends", check_borders},
    {"one_by_one", "random operations, one at a time", check_one_by_one},
    {"random", "random operations, many at a time, on all loops", check_random},
    {"lending", "lent memory stays until release, whatever is written",
     check_lending},
    {"cancel", "cancelled requests still end, once", check_cancel},
    {"client_gone", "a client vanishes with requests in flight",
     check_client_gone},
    {"reopen", "the disk is closed and opened again", check_reopen},
    {"read_only", "the disk is opened read-only", check_read_only},
    {"two_instances", "two instances at once", check_two_instances},
    {"exports", "the list of exports", check_exports},
};

void checks_list(void)
{
    for (unsigned i = 0; i < sizeof checks / sizeof checks[0]; i++)
        printf("%-14s %s\n", checks[i].name, checks[i].what);
}

void checks_run(void)
{
    for (unsigned i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        report_begin(checks[i].name);
        if (i == 0 && !(instance_begin(&instance) && instance_start(&instance)))
            report_fatal("nothing can be checked without an instance");
        checks[i].run();
        report_end();
    }
    instance_end(&instance);
}
