/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A disk on object storage: opening and closing.
 *
 *     object_open -> the store, its wrappers -> volume_open ... on_opened
 *     object_close -> volume_close ... on_closed -> abd_closed */
#include "object.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB          (UINT64_C(1) << 20)
#define LEAST_BUDGET (8 * MIB)

static void say_why(const struct object_disk *disk, enum abd_level level)
{
    abd_log(disk->pub->instance, disk->pub, level, "%s: %s",
            disk->config->where.url, disk->volume.why);
}

/* --- opening --- */

static void on_room(void *arg)
{
    object_io_room(arg);
}

static void on_trusted(struct volume *volume, void *arg)
{
    (void)volume;
    object_io_trusted(arg);
}

/* It is lost, while it is open. */
static void on_ended(struct volume *volume, void *arg)
{
    struct object_disk *disk = arg;

    (void)volume;
    say_why(disk, ABD_ERROR);
}

static void on_trouble(struct volume *volume, const char *text, void *arg)
{
    const struct object_disk *disk = arg;

    (void)volume;
    abd_log(disk->pub->instance, disk->pub, ABD_ERROR, "%s: %s",
            disk->config->where.url, text);
}

static void on_crash(void *arg)
{
    const struct object_disk *disk = arg;

    abd_log(disk->pub->instance, disk->pub, ABD_WARNING,
            "%s: fault=crash: the store does not answer any more",
            disk->config->where.url);
}

static void describe(struct object_disk *disk)
{
    struct abd_disk *pub = disk->pub;

    pub->size = disk->volume.superblock.size;
    pub->block_min = 1;
    pub->block_preferred = BLOCK_SIZE;
    /* Each write in one object: what is longer is several (P2). */
    pub->max_transfer = disk->volume.options.read_only
                            ? 8 * MIB
                            : writer_longest(&disk->volume.writer) * BLOCK_SIZE;
    /* In the log it is a few entries, and in the map as many extents. */
    pub->max_zero = pub->max_trim = UINT64_C(1) << 43;
    pub->data_alignment = 1;
    pub->ops = 1U << ABD_OP_READ | 1U << ABD_OP_EXTENTS;
    if (!disk->volume.options.read_only)
        pub->ops |= 1U << ABD_OP_WRITE | 1U << ABD_OP_ZERO | 1U << ABD_OP_TRIM |
                    1U << ABD_OP_FLUSH;
    pub->flags = ABD_DISK_FAST_ZERO;
    pub->fua = disk->volume.options.read_only ? ABD_FUA_NONE : ABD_FUA_NATIVE;
}

/* What the store keeps is no part of the budget, so that much of the budget is
 * set aside, as far as it can be had: all together is to stay within. */
static void pay_for_store(struct object_disk *disk)
{
    uint64_t left = place_memory(disk->config->place);

    if (abd_buffer_budget() == 0)
        return;
    for (; left >= ABD_BUFFER_MAX && disk->paid_n < OBJECT_PAID_MAX;
         left -= ABD_BUFFER_MAX) {
        void *buffer = abd_buffer_take(ABD_BUFFER_MAX, ABD_BUFFER_NEEDED);

        if (!buffer)
            return;
        disk->paid[disk->paid_n++] = buffer;
    }
}

static void disk_free(struct object_disk *disk)
{
    volume_finish(&disk->volume);
    store_destroy(disk->store);
    while (disk->paid_n > 0)
        abd_buffer_give(disk->paid[--disk->paid_n], ABD_BUFFER_MAX,
                        ABD_BUFFER_NEEDED);
    free(disk);
}

static void on_opened(struct volume *volume, int error, void *arg)
{
    struct object_disk *disk = arg;
    struct abd_disk *pub = disk->pub;

    (void)volume;
    if (error) {
        say_why(disk, ABD_ERROR);
        if (error == ENOENT)
            abd_log(pub->instance, pub, ABD_ERROR,
                    "size=SIZE and create=if-missing make a volume");
        disk_free(disk);
        /* What a client can be told is that it can't be had. */
        abd_opened(pub, error);
        return;
    }
    volume->ended = on_ended;
    volume->writer.on_room = on_room;
    volume->writer.on_room_arg = disk;
    pub->state = disk;
    pay_for_store(disk);
    describe(disk);
    abd_opened(pub, 0);
}

/* Of the server's budget: half of ours is taken for the log, the other half may
 * become cache while nobody needs it; requests need the rest. */
static int share_memory(const struct object_disk *disk,
                        struct volume_options *options)
{
    uint64_t budget = abd_buffer_budget(), most = budget / 5 * 4;
    uint64_t memory = disk->config->memory;

    if (budget && memory > most) {
        abd_log(disk->pub->instance, disk->pub, ABD_ERROR,
                "memory=%lluM: at most four fifths of --memory=%lluM are "
                "allowed",
                (unsigned long long)(memory / MIB),
                (unsigned long long)(budget / MIB));
        return EINVAL;
    }
    if (budget && budget < LEAST_BUDGET) {
        abd_log(disk->pub->instance, disk->pub, ABD_ERROR,
                "--memory=%lluM: this plugin needs 8M at least",
                (unsigned long long)(budget / MIB));
        return EINVAL;
    }
    if (!memory)
        memory = budget && most < 64 * MIB ? most : 64 * MIB;
    options->write_memory = options->read_only ? 0 : memory / 2;
    options->cache_memory = memory - options->write_memory;
    return 0;
}

static void object_open(struct abd_disk *pub)
{
    const struct object_config *config = pub->instance->state;
    struct object_disk *disk = calloc(1, sizeof *disk);
    struct volume_options options = config->options;
    char why[STORE_WHY_MAX] = "";
    int err;

    if (!disk) {
        abd_opened(pub, ENOMEM);
        return;
    }
    disk->pub = pub;
    disk->config = config;
    object_io_init(disk);
    options.read_only = pub->read_only;
    err = share_memory(disk, &options);
    if (err) {
        free(disk);
        abd_opened(pub, err);
        return;
    }
    err = place_store(config->place, pub->loop, on_crash, disk, &disk->store,
                      why);
    if (err) {
        abd_log(pub->instance, pub, ABD_ERROR, "%s: %s", config->where.url,
                why);
        free(disk);
        abd_opened(pub, err);
        return;
    }
    disk->volume.trusted = on_trusted;
    disk->volume.trouble = on_trouble;
    disk->volume.arg = disk;
    volume_open(&disk->volume, pub->loop, disk->store, &options, on_opened,
                disk);
}

static void on_closed(struct volume *volume, int error, void *arg)
{
    struct object_disk *disk = arg;
    struct abd_disk *pub = disk->pub;

    if (error && volume->state != VOLUME_FENCED &&
        volume->state != VOLUME_FAILED)
        abd_log(pub->instance, pub, ABD_ERROR,
                "%s: what was not flushed is lost: %s", disk->config->where.url,
                strerrordesc_np(error));
    disk_free(disk);
    abd_closed(pub);
}

static void object_close(struct abd_disk *pub)
{
    struct object_disk *disk = pub->state;

    volume_close(&disk->volume, on_closed, disk);
}

static const struct abd_plugin plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "object",
    .longname = "abdkit object plugin",
    .description = "a disk on object storage",
    .parameters = object_parameters,
    .magic_key = "url",
    .create = object_create,
    .config = object_configure,
    .ready = object_ready,
    .destroy = object_destroy,
    .open = object_open,
    .submit = object_submit,
    .close = object_close,
    .status = object_status,
};

__attribute__((visibility("default"))) const struct abd_plugin *
abd_plugin_entry(void)
{
    return &plugin;
}
