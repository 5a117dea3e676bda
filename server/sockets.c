/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The listening sockets: unix, TCP, vsock, or those of a superserver.
 *
 * They are bound while the process has all its privileges.  After an error the
 * process ends, so what was opened before is not closed.  Main thread. */
#include "server/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse.h"
#include "server/leftovers.h"
#include "server/options.h"

/* Where sockets of a superserver begin. */
#define ACTIVATED_FIRST 3

static int add(struct sockets *sockets, int fd)
{
    int *fds = realloc(sockets->fds, (sockets->n + 1) * sizeof *fds);

    if (!fds) {
        log_write(ABD_ERROR, NULL, "sockets: %s", strerror(ENOMEM));
        return ENOMEM;
    }
    fds[sockets->n++] = fd;
    sockets->fds = fds;
    return 0;
}

static int fail(const char *what, const char *where, int err)
{
    log_write(ABD_ERROR, NULL, "%s %s: %s", what, where, strerror(err));
    return err;
}

/* Unix. */

static int give_to(const char *path, const struct identity *identity)
{
    if (lchown(path, identity->uid, identity->gid) < 0)
        return fail("changing the owner of", path, errno);
    return 0;
}

int sockets_listen_unix(const char *path, const struct identity *identity,
                        int *ret)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int err;

    if (fd < 0)
        return fail("unix socket", path, errno);
    if (strlen(path) >= sizeof address.sun_path) {
        log_write(ABD_ERROR, NULL,
                  "unix socket %s: the path is too long, at most %zu bytes "
                  "are possible",
                  path, sizeof address.sun_path - 1);
        return ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path));
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        if (errno != EADDRINUSE)
            return fail("unix socket", path, errno);
        log_write(ABD_ERROR, NULL,
                  "unix socket %s: it exists; another server uses it, or has "
                  "left it behind (then remove it)",
                  path);
        return EADDRINUSE;
    }
    leftovers_add(path, false);
    err = give_to(path, identity);
    if (err)
        return err;
    if (listen(fd, SOMAXCONN) < 0)
        return fail("unix socket", path, errno);
    *ret = take_fd(&fd);
    return 0;
}

static int listen_unix(const char *path, const struct identity *identity,
                       struct sockets *sockets)
{
    int fd, err = sockets_listen_unix(path, identity, &fd);

    if (err)
        return err;
    sockets->unix_path = path;
    return add(sockets, fd);
}

/* -U -: in a folder that only the user can enter. */
static int listen_private(const struct identity *identity,
                          struct sockets *sockets)
{
    const char *base = getenv("TMPDIR");
    char *folder = NULL, *path = NULL;
    int err;

    if (!base || base[0] != '/' || strlen(base) > 60)
        base = "/tmp";
    if (asprintf(&folder, "%s/abdkitXXXXXX", base) < 0)
        return fail("-U -:", "a private socket", ENOMEM);
    if (!mkdtemp(folder)) {
        err = fail("-U -: creating", folder, errno);
        free(folder);
        return err;
    }
    leftovers_add(folder, true);
    err = give_to(folder, identity);
    if (err)
        return err;
    if (asprintf(&path, "%s/socket", folder) < 0)
        return fail("-U -:", folder, ENOMEM);
    return listen_unix(path, identity, sockets);
}

/* TCP. */

static unsigned port_of(int fd)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t length = sizeof address;

    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return 0;
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

static void set_port(struct sockaddr *address, unsigned port)
{
    if (address->sa_family == AF_INET6)
        ((struct sockaddr_in6 *)address)->sin6_port = htons((uint16_t)port);
    else
        ((struct sockaddr_in *)address)->sin_port = htons((uint16_t)port);
}

/* 0 or an errno value, without a message. */
static int listen_address(const struct addrinfo *info, int *ret)
{
    _cleanup_close_ int fd =
        socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC, 0);
    int one = 1;

    if (fd < 0)
        return errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0)
        return errno;
    /* IPv4 has a socket of its own. */
    if (info->ai_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) < 0)
        return errno;
    if (bind(fd, info->ai_addr, info->ai_addrlen) < 0 ||
        listen(fd, SOMAXCONN) < 0)
        return errno;
    *ret = take_fd(&fd);
    return 0;
}

static int fail_tcp(const char *host, const char *port, const char *why)
{
    log_write(ABD_ERROR, NULL, "TCP address %s port %s: %s", host ? host : "*",
              port, why);
    return EADDRNOTAVAIL;
}

/* A family that this machine does not have is passed over, unless it was all
 * that there is. */
static int listen_all(const struct options *options, const char *port,
                      struct addrinfo *list, struct sockets *sockets)
{
    int missing = 0, before = (int)sockets->n;

    for (struct addrinfo *info = list; info; info = info->ai_next) {
        int fd = -1, err;

        if (sockets->port)
            set_port(info->ai_addr, sockets->port);
        err = listen_address(info, &fd);
        if (err == EAFNOSUPPORT || err == EADDRNOTAVAIL) {
            missing = err;
            continue;
        }
        if (err)
            return fail_tcp(options->ip_address, port, strerror(err));
        sockets->port = port_of(fd);
        err = add(sockets, fd);
        if (err)
            return err;
    }
    if ((int)sockets->n == before)
        return fail_tcp(options->ip_address, port, strerror(missing));
    return 0;
}

static int listen_tcp(const struct options *options, struct sockets *sockets)
{
    const char *port = options->port ? options->port : OPTIONS_DEFAULT_PORT;
    const struct addrinfo hints = {
        .ai_family = options->family,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_PASSIVE,
    };
    struct addrinfo *list = NULL;
    int failure = getaddrinfo(options->ip_address, port, &hints, &list), err;

    if (failure)
        return fail_tcp(options->ip_address, port,
                        failure == EAI_SYSTEM ? strerror(errno)
                                              : gai_strerror(failure));
    err = listen_all(options, port, list, sockets);
    freeaddrinfo(list);
    return err;
}

/* vsock. */

static int listen_vsock(const struct options *options, struct sockets *sockets)
{
    const char *port = options->port ? options->port : OPTIONS_DEFAULT_PORT;
    struct sockaddr_vm address = {.svm_family = AF_VSOCK,
                                  .svm_cid = VMADDR_CID_ANY};
    _cleanup_close_ int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const char *why = NULL;
    uint64_t number = 0;

    if (fd < 0 && errno == EAFNOSUPPORT) {
        log_write(ABD_ERROR, NULL, "--vsock: this kernel has no vsock");
        return EAFNOSUPPORT;
    }
    if (fd < 0)
        return fail("--vsock: port", port, errno);
    if (parse_number(port, UINT32_MAX - 1, &number, &why))
        return EINVAL; /* options have refused it */
    address.svm_port = (unsigned)number;
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 ||
        listen(fd, SOMAXCONN) < 0)
        return fail("--vsock: port", port, errno);
    if (!sockets->port)
        sockets->port = address.svm_port;
    return add(sockets, take_fd(&fd));
}

/* Superservers. */

static int take_activated(unsigned n, struct sockets *sockets)
{
    for (unsigned i = 0; i < n; i++) {
        int fd = ACTIVATED_FIRST + (int)i, listening = 0, err;
        socklen_t length = sizeof listening;

        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) <
                0 ||
            !listening) {
            log_write(ABD_ERROR, NULL,
                      "LISTEN_FDS: file descriptor %d is not a listening "
                      "stream socket",
                      fd);
            return ENOTSOCK;
        }
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        err = add(sockets, fd);
        if (err)
            return err;
    }
    return 0;
}

int sockets_open(const struct options *options, const struct identity *identity,
                 struct sockets *ret)
{
    int err = 0;

    *ret = (struct sockets){.n = 0};
    if (options->activated)
        return take_activated(options->activated, ret);
    if (options->unix_path && strcmp(options->unix_path, "-") == 0)
        err = listen_private(identity, ret);
    else if (options->unix_path)
        err = listen_unix(options->unix_path, identity, ret);
    if (!err && options->tcp)
        err = listen_tcp(options, ret);
    if (!err && options->vsock)
        err = listen_vsock(options, ret);
    return err;
}
