/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* One profile out of a credentials or config file, as Amazon's tools keep them:
 *
 *     [default]              in a config file: [profile NAME] for the others
 *     key = value            # and ; begin a comment in a line of their own
 *     s3 =
 *         nested = value     passed over
 *
 * The last of two values counts, and profiles of the same name are one. */
#ifndef ABD_OBJECT_PROFILE_FILE_H
#define ABD_OBJECT_PROFILE_FILE_H

#include <stdbool.h>
#include <stddef.h>

#define PROFILE_WHY_MAX 256

struct profile_entry {
    char *key, *value;
};
struct profile {
    bool found;
    struct profile_entry *entries;
    size_t n;
};

/* 0; ENOENT: there is no such file; EINVAL: a line is wrong; or another errno
 * value; why names file and line, never what the line says.  May block. */
int profile_read(const char *path, bool is_config, const char *name,
                 struct profile *ret, char why[PROFILE_WHY_MAX]);
/* NULL: it has none, or it is empty. */
const char *profile_get(const struct profile *profile, const char *key);
/* Wipes the values. */
void profile_finish(struct profile *profile);

#endif
