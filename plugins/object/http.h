/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* HTTP/1.1 to one server (RFC 9112), as many requests at once as there may be
 * connections, all on one loop; connections are kept.  What the answer means is
 * the caller's affair.
 *
 * http_start() does not call back from inside; done() is called once for each
 * call, whatever happens.  Nothing is tried again here, but for one thing: a
 * kept connection that the server had closed before it saw the request. */
#ifndef ABD_OBJECT_HTTP_H
#define ABD_OBJECT_HTTP_H

#include "abd-loop.h"

#include "base/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define HTTP_WHY_MAX 160

struct http;
struct http_slot;

enum http_failure {
    HTTP_NONE,      /* the whole answer came */
    HTTP_UNREACHED, /* no connection: the server never saw the request */
    HTTP_LOST,      /* it broke, was cut, or is no HTTP: who knows */
    HTTP_STALLED,   /* no byte moved for stall_ns */
    HTTP_REFUSED,   /* the callee did not want the answer */
    HTTP_CANCELLED,
};

struct http_options {
    const char *ca_file;  /* certificates to trust; NULL: the system's */
    unsigned connections; /* at once; further calls wait for their turn */
    uint64_t buffers;     /* bytes, of all connections together */
    uint64_t connect_ns, stall_ns;
};

struct http_call {
    /* The caller's, until done(). */
    const char *method;
    const char *url;
    const char *const *headers; /* "Name: value" */
    unsigned headers_n;
    const struct iovec *body;
    unsigned body_n;
    uint64_t length; /* of the body */
    /* Each field of the answer; status is there.  Name and value end with NUL,
     * are valid until it returns; NULL: nobody wants them. */
    void (*field)(struct http_call *call, const char *name, const char *value);
    /* Bytes of the answer's body; false: REFUSED. */
    bool (*bytes)(struct http_call *call, const void *bytes, size_t n);
    void (*done)(struct http_call *call);
    void *arg;

    /* The answer. */
    enum http_failure failure;
    int status;
    uint64_t content_length; /* UINT64_MAX: not said */
    uint64_t sent;           /* bytes of the body that left */
    char why[HTTP_WHY_MAX];

    /* http's own. */
    struct list link;
    struct http_slot *slot; /* its connection; NULL: it waits for one */
};

/* 0 or an errno value, why tells people. */
int http_create(struct abd_loop *loop, const struct http_options *options,
                struct http **ret, char why[HTTP_WHY_MAX]);
/* No call is under way. */
void http_destroy(struct http *http);
void http_start(struct http *http, struct http_call *call);
/* It ends soon, with CANCELLED or as it would have. */
void http_cancel(struct http *http, struct http_call *call);

#endif
