/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The options that name an export and open its disk: NBD_OPT_EXPORT_NAME,
 * NBD_OPT_INFO and NBD_OPT_GO; and oldstyle, which opens without being asked.
 */
#ifndef ABD_SERVER_OPTION_EXPORT_H
#define ABD_SERVER_OPTION_EXPORT_H

#include <stdbool.h>

struct handshake;

void option_export_by_name(struct handshake *handshake); /* EXPORT_NAME */
void option_info(struct handshake *handshake);           /* INFO and GO */
void option_oldstyle(struct handshake *handshake);

/* The handshake has ended well: hands disk and parameters to the connection. */
void option_export_enter(struct handshake *handshake);
/* Begins to put the disk back, if there is one. */
void option_export_forget(struct handshake *handshake);
/* Is a disk being opened or put back, or the connection moving to it? */
bool option_export_is_under_way(const struct handshake *handshake);

#endif
