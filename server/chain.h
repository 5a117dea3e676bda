/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The life of the layers: loaded, configured, ready, started, destroyed.
 *
 * create, ready and start go from the plugin outwards, so that what is below is
 * there; destroy goes the other way.  Parameters are given in the order of the
 * command line.  All of it on the main thread.  Functions that return int give
 * 0 or an errno value, after a message. */
#ifndef ABD_SERVER_CHAIN_H
#define ABD_SERVER_CHAIN_H

/* Appends a layer: filters first, outermost first, the plugin last.  The names
 * are borrowed for ever. */
int chain_load_filter(const char *name);
int chain_load_plugin(const char *name);
/* Derives what follows (layer.h) and refuses what is out of bounds. */
int chain_complete(void);

int chain_create(void);
/* KEY=VALUE, or a VALUE for the plugin's magic key. */
int chain_configure(const char *parameter);
/* NAME.FLAG=N of -D, unless NAME is "server". */
int chain_set_debug_flag(const char *text);
int chain_ready(void);
int chain_start(void);
/* Destroys what was created. */
void chain_destroy(void);

#endif
