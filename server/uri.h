/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* NBD URIs, as the NBD project defines them. */
#ifndef ABD_SERVER_URI_H
#define ABD_SERVER_URI_H

/* Where a client finds the server; the first that is not NULL or 0 counts. */
struct uri_parts {
    const char *unix_path;
    const char *host;    /* TCP; NULL or a wildcard: localhost */
    unsigned tcp_port;   /* 0: no TCP */
    unsigned vsock_port; /* 0: no vsock */
    const char *export_name;
};

/* The caller's to free; NULL: no memory. */
char *uri_make(const struct uri_parts *parts);

#endif
