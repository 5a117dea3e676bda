/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

#include "tools/check/model.h"

#include "tools/check/host.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* What a range and a window have in common: where it begins in each. */
struct overlap {
    uint64_t in_window, in_range, length;
};

static bool overlap(const struct window *window, uint64_t offset,
                    uint64_t length, struct overlap *ret)
{
    uint64_t begin = offset > window->offset ? offset : window->offset;
    uint64_t end = offset + length;

    if (end > window->offset + window->length)
        end = window->offset + window->length;
    if (begin >= end)
        return false;
    *ret =
        (struct overlap){begin - window->offset, begin - offset, end - begin};
    return true;
}

void model_add_window(struct model *model, uint64_t offset, uint64_t length)
{
    struct window *window = &model->windows[model->n++];

    *window = (struct window){
        .offset = offset,
        .length = length,
        .bytes = calloc(1, length),
        .known = calloc(1, length),
    };
    if (!window->bytes || !window->known)
        host_die("there is no memory left");
}

void model_finish(struct model *model)
{
    for (unsigned i = 0; i < model->n; i++) {
        free(model->windows[i].bytes);
        free(model->windows[i].known);
    }
    model->n = 0;
}

void model_write(struct model *model, uint64_t offset, uint64_t length,
                 const uint8_t *data)
{
    struct overlap common;

    for (unsigned i = 0; i < model->n; i++) {
        struct window *window = &model->windows[i];

        if (!overlap(window, offset, length, &common))
            continue;
        if (data)
            memcpy(window->bytes + common.in_window, data + common.in_range,
                   common.length);
        else
            memset(window->bytes + common.in_window, 0, common.length);
        memset(window->known + common.in_window, 1, common.length);
    }
}

void model_forget(struct model *model, uint64_t offset, uint64_t length)
{
    struct overlap common;

    for (unsigned i = 0; i < model->n; i++) {
        if (overlap(&model->windows[i], offset, length, &common))
            memset(model->windows[i].known + common.in_window, 0,
                   common.length);
    }
}

/* Relative to bytes; length: all as it must be. */
static uint64_t check(uint8_t *bytes, uint8_t *known, const uint8_t *data,
                      uint64_t length)
{
    if (!memchr(known, 0, length) && memcmp(bytes, data, length) == 0)
        return length;
    for (uint64_t i = 0; i < length; i++) {
        if (known[i] && bytes[i] != data[i])
            return i;
        bytes[i] = data[i];
        known[i] = 1;
    }
    return length;
}

uint64_t model_check(struct model *model, uint64_t offset, uint64_t length,
                     const uint8_t *data)
{
    struct overlap common;

    for (unsigned i = 0; i < model->n; i++) {
        struct window *window = &model->windows[i];
        uint64_t same;

        if (!overlap(window, offset, length, &common))
            continue;
        same = check(window->bytes + common.in_window,
                     window->known + common.in_window, data + common.in_range,
                     common.length);
        if (same < common.length)
            return offset + common.in_range + same;
    }
    return UINT64_MAX;
}

uint64_t model_find_data(const struct model *model, uint64_t offset,
                         uint64_t length)
{
    struct overlap common;

    for (unsigned i = 0; i < model->n; i++) {
        const struct window *window = &model->windows[i];

        if (!overlap(window, offset, length, &common))
            continue;
        for (uint64_t k = 0; k < common.length; k++) {
            if (window->known[common.in_window + k] &&
                window->bytes[common.in_window + k])
                return offset + common.in_range + k;
        }
    }
    return UINT64_MAX;
}
