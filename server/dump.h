/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the program tells about itself and its plugin, on stdout: for people
 * (--help, --version) and for scripts, in lines KEY=VALUE (--dump-config,
 * --dump-plugin). */
#ifndef ABD_SERVER_DUMP_H
#define ABD_SERVER_DUMP_H

void dump_version(void);
void dump_config(void);

/* Of the layers in chain, if any. */
void dump_layer_versions(void);
void dump_layer_parameters(void);
/* The plugin, which has been created. */
void dump_plugin(void);

#endif
