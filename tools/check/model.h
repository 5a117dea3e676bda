/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the disk must contain, as far as the kit looks: in some windows, and
 * there for each byte, whether it is known.  What lies outside of the windows
 * is ignored.  One thread. */
#ifndef ABD_CHECK_MODEL_H
#define ABD_CHECK_MODEL_H

#include <stdint.h>

#define MODEL_WINDOWS 3

struct window {
    uint64_t offset, length;
    uint8_t *bytes;
    uint8_t *known; /* 1: bytes counts */
};
struct model {
    struct window windows[MODEL_WINDOWS];
    unsigned n;
};

/* A zeroed one is empty.  Ends the process without memory. */
void model_add_window(struct model *model, uint64_t offset, uint64_t length);
void model_finish(struct model *model);

/* data NULL: zeroes. */
void model_write(struct model *model, uint64_t offset, uint64_t length,
                 const uint8_t *data);
void model_forget(struct model *model, uint64_t offset, uint64_t length);
/* Compares, and learns what was unknown.  UINT64_MAX: as it must be, else the
 * first offset that differs. */
uint64_t model_check(struct model *model, uint64_t offset, uint64_t length,
                     const uint8_t *data);
/* The first byte known to be other than zero, or UINT64_MAX. */
uint64_t model_find_data(const struct model *model, uint64_t offset,
                         uint64_t length);

#endif
