/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The status as tables for people, at most 80 columns wide. */
#ifndef ABD_SERVER_STATUS_PRINT_H
#define ABD_SERVER_STATUS_PRINT_H

struct json_value;

/* Prints what status_write() wrote to stdout.  What is missing (an older
 * server's) is shown as 0 or "?"; texts are made safe for terminals. */
void status_print(const struct json_value *status);

#endif
