/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The limit of open files. */
#ifndef ABD_SERVER_OPEN_FILES_H
#define ABD_SERVER_OPEN_FILES_H

/* Raises the soft limit to what settings and chain need.  0 or an errno value,
 * after a message that says what is missing. */
int open_files_raise(void);

#endif
