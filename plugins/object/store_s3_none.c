/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* S3 where its libraries were not there when this was built. */
#include "store_s3.h"

#include <errno.h>
#include <stdio.h>

int s3_place_find(const struct store_s3_options *options, struct s3_place **ret,
                  char why[STORE_WHY_MAX])
{
    (void)options;
    (void)ret;
    snprintf(why, STORE_WHY_MAX,
             "S3 is not built in: libcurl, libcrypto and expat were missing");
    return ENOTSUP;
}

void s3_place_free(struct s3_place *place)
{
    (void)place;
}

int store_s3(struct abd_loop *loop, const struct s3_place *place,
             struct store **ret, char why[STORE_WHY_MAX])
{
    (void)loop;
    (void)place;
    (void)ret;
    (void)why;
    return ENOTSUP;
}
