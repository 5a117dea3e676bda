/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What is done to ranges without their data.  In the work pool: all may block.
 * Each returns 0 or an errno value for the client. */
#ifndef FILE_RANGE_H
#define FILE_RANGE_H

struct abd_request;
struct file;

int range_zero(struct file *file, struct abd_request *request);
int range_trim(struct file *file, struct abd_request *request);
int range_extents(struct file *file, struct abd_request *request);
int range_cache(struct file *file, const struct abd_request *request);
int file_sync(struct file *file);

#endif
