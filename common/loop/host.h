/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What of the plugin interface depends on no server: abd_log(), abd_parse_*(),
 * abd_absolute_path(), abd_read_secret() of include/ are implemented in host.c.
 * Relative paths are taken as of the directory that the process was started in,
 * which it may have left. */
#ifndef ABD_LOOP_HOST_H
#define ABD_LOOP_HOST_H

/* Remembers the current directory; at start-up, before anything is parsed.  0
 * or an errno value. */
int host_remember_directory(void);

#endif
