/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Parameters of the filters: parsed by common/base, and what is wrong with one
 * said in one line that names the key, the value and what is allowed.  Main
 * thread, from config(). */
#ifndef ABD_PLUGINS_COMMON_CONFIG_H
#define ABD_PLUGINS_COMMON_CONFIG_H

#include "abd-plugin.h"
#include "base/parse.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* For create(), config(), ready() and start(), which say why they fail. */
static inline int config_no_memory(const struct abd_instance *instance)
{
    abd_log(instance, NULL, ABD_ERROR, "out of memory");
    return ENOMEM;
}

/* Logs why, unless err is 0; returns err. */
static inline int config_check(struct abd_instance *instance, const char *key,
                               const char *value, int err, const char *why)
{
    if (err)
        abd_log(instance, NULL, ABD_ERROR, "%s=%s: %s", key, value,
                why ? why : strerrordesc_np(err));
    return err;
}

static inline int config_delay(struct abd_instance *instance, const char *key,
                               const char *value, uint64_t *ret_ns)
{
    const char *why = NULL;
    int err = parse_delay(value, ret_ns, &why);

    return config_check(instance, key, value, err, why);
}

static inline int config_bool(struct abd_instance *instance, const char *key,
                              const char *value, bool *ret)
{
    const char *why = NULL;
    int err = parse_bool(value, ret, &why);

    return config_check(instance, key, value, err, why);
}

static inline int config_number(struct abd_instance *instance, const char *key,
                                const char *value, uint64_t max, uint64_t *ret)
{
    const char *why = NULL;
    int err = parse_number(value, max, ret, &why);

    return config_check(instance, key, value, err, why);
}

#endif
