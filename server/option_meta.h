/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. */
#ifndef ABD_SERVER_OPTION_META_H
#define ABD_SERVER_OPTION_META_H

#include <stdbool.h>

struct handshake;

void option_list_meta_context(struct handshake *handshake);
void option_set_meta_context(struct handshake *handshake);
/* Nothing is selected any more. */
void option_meta_forget(struct handshake *handshake);
/* Is base:allocation selected for the export of this name? */
bool option_meta_selected(const struct handshake *handshake, const char *name);

/* The identity of base:allocation, the only context that there is. */
#define ALLOCATION_ID 1

#endif
