/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* NBD_OPT_LIST. */
#ifndef ABD_SERVER_OPTION_LIST_H
#define ABD_SERVER_OPTION_LIST_H

struct handshake;

void option_list(struct handshake *handshake);

#endif
