/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the disk must contain, as far as it is known. */
#include "tools/kit/kit.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool model_init(struct model *model, uint64_t offset, uint64_t length)
{
    *model = (struct model){
        .offset = offset,
        .length = length,
        .bytes = calloc(1, length),
        .known = calloc(1, length),
    };
    return model->bytes && model->known;
}

void model_finish(struct model *model)
{
    free(model->bytes);
    free(model->known);
}

static uint64_t place(const struct model *model, uint64_t offset,
                      uint64_t length)
{
    uint64_t at = offset - model->offset;

    assert(at <= model->length && length <= model->length - at);
    return at;
}

void model_write(struct model *model, uint64_t offset, uint64_t length,
                 const uint8_t *data)
{
    uint64_t at = place(model, offset, length);

    memcpy(model->bytes + at, data, length);
    memset(model->known + at, 1, length);
}

void model_zero(struct model *model, uint64_t offset, uint64_t length)
{
    uint64_t at = place(model, offset, length);

    memset(model->bytes + at, 0, length);
    memset(model->known + at, 1, length);
}

void model_forget(struct model *model, uint64_t offset, uint64_t length)
{
    memset(model->known + place(model, offset, length), 0, length);
}

uint64_t model_check(struct model *model, uint64_t offset, uint64_t length,
                     const uint8_t *data)
{
    uint64_t at = place(model, offset, length);

    for (uint64_t i = 0; i < length; i++) {
        if (model->known[at + i] && model->bytes[at + i] != data[i])
            return offset + i;
        model->bytes[at + i] = data[i];
        model->known[at + i] = 1;
    }
    return UINT64_MAX;
}
