/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The object plugin's parameters: what each may be, and what they are together.
 * All is checked here, before anything is opened or created. */
#include "object.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)

static int wrong(const struct abd_instance *instance, const char *key,
                 const char *value, const char *allowed)
{
    abd_log(instance, NULL, ABD_ERROR, "%s=%s: %s", key, value, allowed);
    return EINVAL;
}

/* To a copy of its own. */
static int set_text(const char **to, const char *value)
{
    free((char *)*to);
    *to = strdup(value);
    return *to ? 0 : ENOMEM;
}

static int set_url(struct abd_instance *instance, const char *value)
{
    struct object_config *config = instance->state;
    const char *not_one = place_check_url(value);
    char *path = NULL, *url = NULL;
    int err;

    if (not_one)
        return wrong(instance, "url", value, not_one);
    if (strncmp(value, "dir:", 4) != 0)
        return set_text(&config->where.url, value);
    err = abd_absolute_path(instance, value + 4, &path);
    if (!err && asprintf(&url, "dir:%s", path) < 0)
        err = ENOMEM;
    if (!err)
        err = set_text(&config->where.url, url);
    free(url);
    free(path);
    return err;
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

static int set_path(const struct abd_instance *instance, const char **to,
                    const char *value)
{
    char *path = NULL;
    int err = abd_absolute_path(instance, value, &path);

    if (!err)
        err = set_text(to, path);
    free(path);
    return err;
}

static int set_word(struct abd_instance *instance, const char *key,
                    const char *value)
{
    struct object_config *config = instance->state;
    struct place_options *where = &config->where;
    bool yes = false;
    int err;

    if (strcmp(key, "create") == 0) {
        config->options.create = strcmp(value, "if-missing") == 0;
        if (!config->options.create && strcmp(value, "no") != 0)
            return wrong(instance, key, value, "allowed are if-missing and no");
        return 0;
    }
    if (strcmp(key, "path-style") == 0) {
        err = abd_parse_bool(instance, value, &yes);
        where->s3.path_style = yes ? S3_STYLE_PATH : S3_STYLE_HOST;
        return err;
    }
    if (strcmp(key, "fault") == 0)
        return set_text(&where->fault, value);
    if (strcmp(key, "endpoint") == 0)
        return set_text(&where->s3.endpoint, value);
    if (strcmp(key, "region") == 0)
        return set_text(&where->s3.region, value);
    if (strcmp(key, "profile") == 0)
        return set_text(&where->s3.profile, value);
    if (strcmp(key, "ca-file") == 0)
        return set_path(instance, &where->s3.ca_file, value);
    abd_log(instance, NULL, ABD_ERROR,
            "unknown parameter \"%s\": abdkit --help object lists them", key);
    return EINVAL;
}

int object_configure(struct abd_instance *instance, const char *key,
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
        return set_size(instance, key, value, 2 * MIB, UINT64_C(1) << 40, MIB,
                        &config->memory);
    if (strcmp(key, "readahead") == 0)
        return set_size(instance, key, value, 0, UINT64_C(1) << 30, BLOCK_SIZE,
                        &options->readahead);
    if (strcmp(key, "seal-after") == 0)
        return set_time(instance, key, value, &options->seal_after_ns);
    if (strcmp(key, "retry-for") == 0)
        return set_time(instance, key, value, &options->retry_for_ns);
    if (strcmp(key, "stall") == 0)
        return set_time(instance, key, value, &config->where.s3.stall_ns);
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

int object_ready(struct abd_instance *instance)
{
    struct object_config *config = instance->state;
    struct volume_options *options = &config->options;
    char why[STORE_WHY_MAX] = "";
    int err;

    if (!config->where.url) {
        abd_log(instance, NULL, ABD_ERROR,
                "parameter url=URL is required: where is the volume?");
        return EINVAL;
    }
    if (options->create && !options->size) {
        abd_log(instance, NULL, ABD_ERROR,
                "create=if-missing needs size=SIZE, too");
        return EINVAL;
    }
    config->where.retry_for_ns = options->retry_for_ns;
    /* Those of the reader, the writer's, and a few. */
    config->where.s3.requests = options->gets + WRITER_AHEAD + 8;
    err = place_find(&config->where, &config->place, why);
    if (err)
        abd_log(instance, NULL, ABD_ERROR, "%s: %s", config->where.url, why);
    return err;
}

int object_create(struct abd_instance *instance)
{
    struct object_config *config = calloc(1, sizeof *config);

    if (!config) {
        abd_log(instance, NULL, ABD_ERROR, "no memory");
        return ENOMEM;
    }
    config->options = (struct volume_options){
        .object_size = 8 * MIB,
        .take_over = true,
        .seal_after_ns = UINT64_C(5000000000),
        .retry_for_ns = UINT64_C(300000000000),
        .watch_ns = UINT64_C(10000000000),
        .gets = 128,
        .readahead = 4 * MIB,
    };
    config->where.s3.stall_ns = UINT64_C(60000000000);
    instance->state = config;
    return 0;
}

void object_destroy(struct abd_instance *instance)
{
    struct object_config *config = instance->state;

    if (!config)
        return;
    place_free(config->place);
    free((char *)config->where.url);
    free((char *)config->where.fault);
    free((char *)config->where.s3.endpoint);
    free((char *)config->where.s3.region);
    free((char *)config->where.s3.profile);
    free((char *)config->where.s3.ca_file);
    free(config);
    instance->state = NULL;
}

const struct abd_parameter object_parameters[] = {
    {"url", "[url=]URL  (required) the volume: dir:PATH or s3://BUCKET/PREFIX"},
    {"size", "size=SIZE  of a volume that is created"},
    {"create", "create=if-missing|no  make the volume (default: no)"},
    {"object-size", "object-size=SIZE  of a volume that is created (8M)"},
    {"memory", "memory=SIZE  of the server's --memory (64M, or 4/5 of it)"},
    {"readahead", "readahead=SIZE  for who reads sequentially (4M)"},
    {"seal-after", "seal-after=TIME  unflushed data is stored then (5s)"},
    {"requests", "requests=N  to the store at once (128)"},
    {"retry-for", "retry-for=TIME  before a request fails (5m)"},
    {"watch", "watch=TIME  between looks for another writer (10s)"},
    {"take-over", "take-over=BOOL  also if it was not closed (yes)"},
    {"endpoint", "endpoint=URL  of S3: http[s]://HOST[:PORT] (Amazon's)"},
    {"region", "region=NAME  of the bucket (as configured, or us-east-1)"},
    {"path-style", "path-style=BOOL  the bucket in the path (with endpoint=)"},
    {"profile", "profile=NAME  in the credentials and config files"},
    {"ca-file", "ca-file=PATH  certificates to trust (the system's)"},
    {"stall", "stall=TIME  an attempt without progress has failed (60s)"},
    {"fault", "fault=PLAN  latency and errors, for tests"},
    {NULL, NULL},
};
