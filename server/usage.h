/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The text of --help. */
#ifndef ABD_SERVER_USAGE_H
#define ABD_SERVER_USAGE_H

/* Prints it on stdout. */
void usage_print(void);

#endif
