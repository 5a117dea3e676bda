/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The listening sockets that the command line asks for. */
#ifndef ABD_SERVER_SOCKETS_H
#define ABD_SERVER_SOCKETS_H

#include "server/privileges.h"

struct options;

struct sockets {
    int *fds; /* bound and listening; the caller's to close */
    unsigned n;
    unsigned port;         /* of TCP, else of vsock; 0: none */
    const char *unix_path; /* absolute, owned for ever; NULL: none */
};

/* Opens all of them, or takes over those of a superserver.  What is created in
 * the file system becomes the identity's, and is left to leftovers.h.  0 or an
 * errno value, after a message. */
int sockets_open(const struct options *options, const struct identity *identity,
                 struct sockets *ret);

/* One unix socket, bound and listening, at an absolute path (borrowed for
 * ever). The same holds for it. */
int sockets_listen_unix(const char *path, const struct identity *identity,
                        int *ret);

#endif
