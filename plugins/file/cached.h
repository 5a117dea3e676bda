/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the page cache can do at once, without blocking.  Any loop. */
#ifndef FILE_CACHED_H
#define FILE_CACHED_H

#include <stdbool.h>
#include <stdint.h>

struct file;
struct op;

/* Reads or writes as much of the op as goes without waiting, adding to
 * op->done. 0, or what ends the request; the rest, if any, has to wait. */
int cached_read(struct op *op);
int cached_write(struct op *op);

/* Is the whole range in the page cache, ready to be sent? */
bool cached_is_resident(struct file *file, uint64_t offset, uint64_t length);

#endif
