/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A disk on object storage: parameters, opening and closing.
 *
 *     object_open -> the store, its wrappers -> volume_open ... on_opened
 *     object_close -> volume_close ... on_closed -> abd_closed */
#include "object.h"

#include "store_wrap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)

static void say_why(const struct object_disk *disk, enum abd_level level)
{
    abd_log(disk->pub->instance, disk->pub, level, "%s: %s", disk->config->url,
            disk->volume.why);
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
            disk->config->url, text);
}

static void on_crash(void *arg)
{
    const struct object_disk *disk = arg;

    abd_log(disk->pub->instance, disk->pub, ABD_WARNING,
            "%s: fault=crash: the store does not answer any more",
            disk->config->url);
}

static void describe(struct object_disk *disk)
{
    struct abd_disk *pub = disk->pub;

    pub->size = disk->volume.superblock.size;
    pub->block_min = 1;
    pub->block_preferred = BLOCK_SIZE;
    pub->max_transfer = MIB;
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

static void disk_free(struct object_disk *disk)
{
    volume_finish(&disk->volume);
    store_destroy(disk->store);
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
    describe(disk);
    abd_opened(pub, 0);
}

/* The store with all that is to be around it. */
static int make_store(struct object_disk *disk, char why[STORE_WHY_MAX])
{
    const struct object_config *config = disk->config;
    int err = store_dir(disk->pub->loop, config->url + strlen("dir:"),
                        &disk->store, why);

    if (!err && config->fault)
        err = store_fault(disk->store, config->fault, &disk->store, why);
    if (!err && config->fault)
        store_fault_on_crash(disk->store, on_crash, disk);
    if (!err)
        err = store_retry(disk->store, config->options.retry_for_ns,
                          &disk->store);
    return err;
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
    err = make_store(disk, why);
    if (err) {
        abd_log(pub->instance, pub, ABD_ERROR, "%s: %s", config->url,
                why[0] ? why : strerrordesc_np(err));
        if (disk->store)
            store_destroy(disk->store);
        free(disk);
        abd_opened(pub, err);
        return;
    }
    options.read_only = pub->read_only;
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
                "%s: what was not flushed is lost: %s", disk->config->url,
                strerrordesc_np(error));
    disk_free(disk);
    abd_closed(pub);
}

static void object_close(struct abd_disk *pub)
{
    struct object_disk *disk = pub->state;

    volume_close(&disk->volume, on_closed, disk);
}

/* --- parameters --- */

static int wrong(const struct abd_instance *instance, const char *key,
                 const char *value, const char *allowed)
{
    abd_log(instance, NULL, ABD_ERROR, "%s=%s: %s", key, value, allowed);
    return EINVAL;
}

static int set_url(struct abd_instance *instance, const char *value)
{
    struct object_config *config = instance->state;
    char *path = NULL;
    int err;

    if (strncmp(value, "dir:", 4) != 0 || !value[4])
        return wrong(instance, "url", value, "it must be dir:PATH");
    err = abd_absolute_path(instance, value + 4, &path);
    if (err)
        return err;
    free(config->url);
    config->url = malloc(strlen(path) + 5);
    if (config->url) {
        strcpy(config->url, "dir:");
        strcat(config->url, path);
    }
    free(path);
    return config->url ? 0 : ENOMEM;
}

static int set_size(struct abd_instance *instance, const char *key,
                    const char *value, uint64_t least, uint64_t most,
                    uint64_t unit, uint64_t *to)
{
    int err = abd_parse_size(instance, value, to);

    if (!err && (*to < least || *to > most || *to % unit)) {
        abd_log(instance, NULL, ABD_ERROR,
                "%s=%s: allowed are %llu to %llu bytes, a multiple of %llu",
                key, value, (unsigned long long)least, (unsigned long long)most,
                (unsigned long long)unit);
        err = EINVAL;
    }
    return err;
}

static int set_time(struct abd_instance *instance, const char *key,
                    const char *value, uint64_t *to)
{
    int err = abd_parse_delay(instance, value, to);

    if (!err && *to < 1000000)
        return wrong(instance, key, value, "at least 1ms is allowed");
    return err;
}

static int set_word(struct abd_instance *instance, const char *key,
                    const char *value)
{
    struct object_config *config = instance->state;

    if (strcmp(key, "create") == 0) {
        config->options.create = strcmp(value, "if-missing") == 0;
        if (!config->options.create && strcmp(value, "no") != 0)
            return wrong(instance, key, value, "allowed are if-missing and no");
        return 0;
    }
    if (strcmp(key, "fault") == 0) {
        free(config->fault);
        config->fault = strdup(value);
        return config->fault ? 0 : ENOMEM;
    }
    abd_log(instance, NULL, ABD_ERROR,
            "unknown parameter \"%s\": abdkit --help object lists them", key);
    return EINVAL;
}

static int object_configure(struct abd_instance *instance, const char *key,
                            const char *value)
{
    struct object_config *config = instance->state;
    struct volume_options *options = &config->options;
    uint64_t number;
    int err;

    if (strcmp(key, "url") == 0)
        return set_url(instance, value);
    if (strcmp(key, "size") == 0)
        return set_size(instance, key, value, BLOCK_SIZE,
                        INT64_MAX / BLOCK_SIZE * BLOCK_SIZE, BLOCK_SIZE,
                        &options->size);
    if (strcmp(key, "object-size") == 0)
        return set_size(instance, key, value, 64 * 1024, 256 * MIB, BLOCK_SIZE,
                        &options->object_size);
    if (strcmp(key, "memory") == 0)
        return set_size(instance, key, value, 16 * MIB, UINT64_C(1) << 40, MIB,
                        &config->memory);
    if (strcmp(key, "seal-after") == 0)
        return set_time(instance, key, value, &options->seal_after_ns);
    if (strcmp(key, "retry-for") == 0)
        return set_time(instance, key, value, &options->retry_for_ns);
    if (strcmp(key, "watch") == 0)
        return set_time(instance, key, value, &options->watch_ns);
    if (strcmp(key, "take-over") == 0)
        return abd_parse_bool(instance, value, &options->take_over);
    if (strcmp(key, "requests") == 0) {
        err = abd_parse_number(instance, value, 4096, &number);
        if (!err && number == 0)
            return wrong(instance, key, value, "allowed are 1 to 4096");
        options->gets = (unsigned)number;
        return err;
    }
    return set_word(instance, key, value);
}

static int object_ready(struct abd_instance *instance)
{
    struct object_config *config = instance->state;
    struct volume_options *options = &config->options;

    if (!config->url) {
        abd_log(instance, NULL, ABD_ERROR,
                "parameter url=URL is required: where is the volume?");
        return EINVAL;
    }
    if (options->create && !options->size) {
        abd_log(instance, NULL, ABD_ERROR,
                "create=if-missing needs size=SIZE, too");
        return EINVAL;
    }
    options->write_memory = config->memory / 2;
    options->read_memory = config->memory / 4;
    return 0;
}

static int object_create(struct abd_instance *instance)
{
    struct object_config *config = calloc(1, sizeof *config);

    if (!config) {
        abd_log(instance, NULL, ABD_ERROR, "no memory");
        return ENOMEM;
    }
    config->memory = 64 * MIB;
    config->options = (struct volume_options){
        .object_size = 8 * MIB,
        .take_over = true,
        .seal_after_ns = UINT64_C(5000000000),
        .retry_for_ns = UINT64_C(300000000000),
        .watch_ns = UINT64_C(10000000000),
        .gets = 128,
    };
    instance->state = config;
    return 0;
}

static void object_destroy(struct abd_instance *instance)
{
    struct object_config *config = instance->state;

    if (!config)
        return;
    free(config->url);
    free(config->fault);
    free(config);
    instance->state = NULL;
}

static const struct abd_parameter parameters[] = {
    {"url", "[url=]URL  (required) the volume: dir:PATH"},
    {"size", "size=SIZE  of a volume that is created"},
    {"create", "create=if-missing|no  make the volume (default: no)"},
    {"object-size", "object-size=SIZE  of a volume that is created (8M)"},
    {"memory", "memory=SIZE  for all that is cached and buffered (64M)"},
    {"seal-after", "seal-after=TIME  unflushed data is stored then (5s)"},
    {"requests", "requests=N  to the store at once (128)"},
    {"retry-for", "retry-for=TIME  before a request fails (5m)"},
    {"watch", "watch=TIME  between looks for another writer (10s)"},
    {"take-over", "take-over=BOOL  also if it was not closed (yes)"},
    {"fault", "fault=PLAN  latency and errors, for tests"},
    {NULL, NULL},
};

static const struct abd_plugin plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "object",
    .longname = "abdkit object plugin",
    .description = "a disk on object storage",
    .parameters = parameters,
    .magic_key = "url",
    .create = object_create,
    .config = object_configure,
    .ready = object_ready,
    .destroy = object_destroy,
    .open = object_open,
    .submit = object_submit,
    .close = object_close,
};

__attribute__((visibility("default"))) const struct abd_plugin *
abd_plugin_entry(void)
{
    return &plugin;
}
