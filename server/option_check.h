/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Which options go together, and what follows from them. */
#ifndef ABD_SERVER_OPTION_CHECK_H
#define ABD_SERVER_OPTION_CHECK_H

struct options;

/* Derives tcp, activated and foreground; takes LISTEN_* out of the environment.
 * 0 or an errno value, after a message. */
int options_check(struct options *options);

#endif
