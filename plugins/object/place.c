/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* From a URL to a stack of stores.  See place.h. */
#include "place.h"

#include "store_wrap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct place {
    char *url, *fault;
    uint64_t retry_for_ns;
    struct s3_place *s3; /* NULL: it is a directory */
};

static bool is_s3(const char *url)
{
    return strncmp(url, "s3:", 3) == 0;
}

const char *place_check_url(const char *url)
{
    if (is_s3(url))
        return strncmp(url, "s3://", 5) == 0 && url[5] && url[5] != '/'
                   ? NULL
                   : "it must be s3://BUCKET or s3://BUCKET/PREFIX";
    return strncmp(url, "dir:", 4) == 0 && url[4]
               ? NULL
               : "it must be dir:PATH or s3://BUCKET/PREFIX";
}

void place_free(struct place *place)
{
    if (!place)
        return;
    s3_place_free(place->s3);
    free(place->url);
    free(place->fault);
    free(place);
}

int place_find(const struct place_options *options, struct place **ret,
               char why[STORE_WHY_MAX])
{
    const char *wrong = place_check_url(options->url);
    struct store_s3_options s3 = options->s3;
    struct place *place;
    int err = 0;

    if (wrong) {
        snprintf(why, STORE_WHY_MAX, "%s", wrong);
        return EINVAL;
    }
    if (!is_s3(options->url) && (s3.endpoint || s3.region || s3.profile ||
                                 s3.path_style != S3_STYLE_AUTO)) {
        snprintf(why, STORE_WHY_MAX,
                 "endpoint, region, profile and path-style are for s3://");
        return EINVAL;
    }
    place = calloc(1, sizeof *place);
    if (place) {
        place->url = strdup(options->url);
        place->fault = options->fault ? strdup(options->fault) : NULL;
        place->retry_for_ns = options->retry_for_ns;
    }
    if (!place || !place->url || (options->fault && !place->fault)) {
        snprintf(why, STORE_WHY_MAX, "no memory");
        err = ENOMEM;
    } else if (options->fault) {
        err = store_fault_check(options->fault, why);
    }
    if (!err && is_s3(options->url)) {
        s3.url = options->url;
        err = s3_place_find(&s3, &place->s3, why);
    }
    if (err)
        place_free(place);
    else
        *ret = place;
    return err;
}

uint64_t place_memory(const struct place *place)
{
    return place->s3 ? STORE_S3_MEMORY : 0;
}

int place_store(const struct place *place, struct abd_loop *loop,
                void (*on_crash)(void *arg), void *on_crash_arg,
                struct store **ret, char why[STORE_WHY_MAX])
{
    struct store *store = NULL;
    int err;

    why[0] = '\0';
    if (place->s3)
        err = store_s3(loop, place->s3, &store, why);
    else
        err = store_dir(loop, place->url + strlen("dir:"), &store, why);
    if (!err && place->fault)
        err = store_fault(store, place->fault, &store, why);
    if (!err && place->fault && on_crash)
        store_fault_on_crash(store, on_crash, on_crash_arg);
    if (!err)
        err = store_retry(store, place->retry_for_ns, &store);
    if (err && !why[0])
        snprintf(why, STORE_WHY_MAX, "%s", strerrordesc_np(err));
    if (err && store)
        store_destroy(store);
    else
        *ret = store;
    return err;
}
