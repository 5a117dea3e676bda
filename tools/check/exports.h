/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* LIST: what exports() says.  Main thread. */
#ifndef ABD_CHECK_EXPORTS_H
#define ABD_CHECK_EXPORTS_H

#include "tools/check/stack.h"

#define EXPORTS_KEPT 32

struct listing {
    unsigned n; /* all of them, of which the first are kept */
    char *names[EXPORTS_KEPT];
    int error;
};
void exports_list(struct stack *stack, const struct abd_client *client,
                  struct listing *ret);
void exports_finish(struct listing *listing);

#endif
