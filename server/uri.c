/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* NBD URIs: "nbd://HOST:PORT/NAME", "nbd+vsock://CID:PORT/NAME",
 * "nbd+unix:///NAME?socket=PATH".  Bytes that mean something in a URI, or are
 * not ASCII, are written as %XX.  Main thread. */
#include "server/uri.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* A client on this machine, for which it is the server's address, too. */
#define VSOCK_CID_LOCAL 1U

/* The caller's to free. */
static char *escape(const char *text, const char *also_plain)
{
    char *escaped = malloc(3 * strlen(text) + 1);
    char *to = escaped;

    if (!escaped)
        return NULL;
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;

        if (byte < 0x80 &&
            (isalnum(byte) || strchr("-._~", byte) || strchr(also_plain, byte)))
            *to++ = (char)byte;
        else
            to += sprintf(to, "%%%02X", byte);
    }
    *to = '\0';
    return escaped;
}

static bool is_wildcard(const char *host)
{
    return !host || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

char *uri_make(const struct uri_parts *parts)
{
    _cleanup_free_ char *name = escape(parts->export_name, "");
    _cleanup_free_ char *path =
        parts->unix_path ? escape(parts->unix_path, "/") : NULL;
    const char *host = is_wildcard(parts->host) ? "localhost" : parts->host;
    bool is_ipv6 = strchr(host, ':') != NULL;
    char *uri = NULL;
    int n;

    if (!name || (parts->unix_path && !path))
        return NULL;
    if (path)
        n = asprintf(&uri, "nbd+unix:///%s?socket=%s", name, path);
    else if (parts->tcp_port)
        n = asprintf(&uri, "nbd://%s%s%s:%u/%s", is_ipv6 ? "[" : "", host,
                     is_ipv6 ? "]" : "", parts->tcp_port, name);
    else
        n = asprintf(&uri, "nbd+vsock://%u:%u/%s", VSOCK_CID_LOCAL,
                     parts->vsock_port, name);
    return n < 0 ? NULL : uri;
}
