/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The status as one JSON object; what is in it: abdkit-status(5). */
#ifndef ABD_SERVER_STATUS_WRITE_H
#define ABD_SERVER_STATUS_WRITE_H

#include <stdint.h>

struct status;

/* The object, with a line feed behind it; the caller's to free.  NULL: no
 * memory.  uptime_ns: of the server. */
char *status_write(const struct status *status, uint64_t uptime_ns);

#endif
