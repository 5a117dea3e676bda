/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Addresses of servers and the client's side of the fixed newstyle handshake.
 *
 * Written for benchmarks: no TLS, no meta contexts, no oldstyle.  Each step
 * sends one option and reads until that option has been answered.  Runs on the
 * only thread of abd-load, with a blocking socket. */
#include "tests/bench/target.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "wire/nbd.h"

/* The longest option reply that is looked at; longer ones are a mistake of the
 * server's for the options that are sent here. */
#define REPLY_MAX 8192

struct option_reply {
    uint32_t type, length;
    uint8_t data[REPLY_MAX];
};

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* A copy of length bytes with %XX decoded; NULL: no memory. */
static char *decode(const char *text, size_t length)
{
    char *to = malloc(length + 1), *p = to;

    if (!to)
        return NULL;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '%' && i + 2 < length && hex_digit(text[i + 1]) >= 0 &&
            hex_digit(text[i + 2]) >= 0) {
            *p++ = (char)(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
            i += 2;
        } else {
            *p++ = text[i];
        }
    }
    *p = '\0';
    return to;
}

static int parse_unix_uri(struct target *target, const char *rest,
                          const char **ret_why)
{
    const char *query = strchr(rest, '?');

    if (rest[0] != '/' || !query || strncmp(query, "?socket=", 8) != 0) {
        *ret_why = "expected nbd+unix:///NAME?socket=PATH";
        return EINVAL;
    }
    target->export_name = decode(rest + 1, (size_t)(query - rest - 1));
    target->path = decode(query + 8, strlen(query + 8));
    return target->export_name && target->path ? 0 : ENOMEM;
}

static int parse_tcp_uri(struct target *target, const char *rest,
                         const char **ret_why)
{
    size_t length = strcspn(rest, "/");
    const char *name = rest[length] ? rest + length + 1 : "";
    const char *colon = memrchr(rest, ':', length);

    if (rest[0] == '[' && colon && colon > rest && colon[-1] != ']')
        colon = NULL; /* a colon of the IPv6 address */
    size_t host = colon ? (size_t)(colon - rest) : length;
    if (host == 0) {
        *ret_why = "expected nbd://HOST[:PORT]/NAME";
        return EINVAL;
    }
    target->port =
        colon ? strndup(colon + 1, length - host - 1) : strdup("10809");
    if (rest[0] == '[' && rest[host - 1] == ']')
        target->host = strndup(rest + 1, host - 2);
    else
        target->host = strndup(rest, host);
    target->export_name = decode(name, strlen(name));
    return target->port && target->host && target->export_name ? 0 : ENOMEM;
}

int target_parse(struct target *target, const char *text, const char **ret_why)
{
    *target = (struct target){0};
    *ret_why = "no memory";
    if (strncmp(text, "nbd+unix://", 11) == 0)
        return parse_unix_uri(target, text + 11, ret_why);
    if (strncmp(text, "nbd://", 6) == 0)
        return parse_tcp_uri(target, text + 6, ret_why);
    if (strstr(text, "://")) {
        *ret_why = "expected nbd+unix://, nbd:// or the path of a socket";
        return EINVAL;
    }
    target->path = strdup(text);
    target->export_name = strdup("");
    return target->path && target->export_name ? 0 : ENOMEM;
}

void target_finish(struct target *target)
{
    free(target->path);
    free(target->host);
    free(target->port);
    free(target->export_name);
    *target = (struct target){0};
}

static int connect_unix(const char *path, int *ret)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof address.sun_path)
        return ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path));
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return errno;
    *ret = take_fd(&fd);
    return 0;
}

static int connect_tcp(const struct target *target, int *ret)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    int err = EHOSTUNREACH, on = 1;

    if (getaddrinfo(target->host, target->port, &hints, &list) != 0)
        return EHOSTUNREACH;
    for (struct addrinfo *a = list; a; a = a->ai_next) {
        int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0) {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            *ret = fd;
            err = 0;
            break;
        }
        err = errno;
        if (fd >= 0)
            close(fd);
    }
    freeaddrinfo(list);
    return err;
}

static int receive(int fd, void *to, size_t length)
{
    uint8_t *at = to;

    while (length > 0) {
        ssize_t n = recv(fd, at, length, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            return ECONNRESET;
        at += n;
        length -= (size_t)n;
    }
    return 0;
}

static int send_all(int fd, const void *from, size_t length)
{
    const uint8_t *at = from;

    while (length > 0) {
        ssize_t n = send(fd, at, length, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        at += n;
        length -= (size_t)n;
    }
    return 0;
}

static int send_option(int fd, uint32_t option, const void *data,
                       uint32_t length)
{
    uint8_t header[16];

    store_be64(header, NBD_IHAVEOPT);
    store_be32(header + 8, option);
    store_be32(header + 12, length);
    int err = send_all(fd, header, sizeof header);
    return err ? err : send_all(fd, data, length);
}

static int receive_option_reply(int fd, struct option_reply *reply)
{
    uint8_t header[20];

    int err = receive(fd, header, sizeof header);
    if (err)
        return err;
    reply->type = load_be32(header + 12);
    reply->length = load_be32(header + 16);
    if (load_be64(header) != NBD_REP_MAGIC || reply->length > REPLY_MAX)
        return EPROTO;
    return receive(fd, reply->data, reply->length);
}

/* Asks for a reply style; what the server doesn't have is EOPNOTSUPP. */
static int ask_for_style(int fd, uint32_t option, struct option_reply *reply)
{
    int err = send_option(fd, option, NULL, 0);
    if (!err)
        err = receive_option_reply(fd, reply);
    if (err)
        return err;
    return reply->type == NBD_REP_ACK ? 0 : EOPNOTSUPP;
}

/* GO without information requests: the export's size and flags always come. */
static int ask_go(int fd, const char *name, struct session *session,
                  struct option_reply *reply)
{
    size_t length = strlen(name);
    _cleanup_free_ uint8_t *data = malloc(length + 6);

    if (!data)
        return ENOMEM;
    store_be32(data, (uint32_t)length);
    memcpy(data + 4, name, length);
    store_be16(data + 4 + length, 0);
    int err = send_option(fd, NBD_OPT_GO, data, (uint32_t)length + 6);
    while (!err) {
        err = receive_option_reply(fd, reply);
        if (err || reply->type == NBD_REP_ACK)
            return err;
        if (reply->type == NBD_REP_ERR_UNSUP)
            return EOPNOTSUPP;
        if (reply->type & NBD_REP_ERROR(0))
            return ENOENT;
        if (reply->type == NBD_REP_INFO && reply->length >= 12 &&
            load_be16(reply->data) == NBD_INFO_EXPORT) {
            session->size = load_be64(reply->data + 2);
            session->flags = load_be16(reply->data + 10);
        }
    }
    return err;
}

static int ask_export_name(int fd, const char *name, bool no_zeroes,
                           struct session *session)
{
    uint8_t reply[10 + 124];

    int err =
        send_option(fd, NBD_OPT_EXPORT_NAME, name, (uint32_t)strlen(name));
    if (!err)
        err = receive(fd, reply, no_zeroes ? 10 : sizeof reply);
    if (err)
        return err;
    session->size = load_be64(reply);
    session->flags = load_be16(reply + 8);
    return 0;
}

static int negotiate(const struct target *target, enum reply_style style,
                     struct session *session, const char **ret_why)
{
    uint8_t greeting[18], client_flags[4];
    struct option_reply reply;
    int fd = session->fd;

    *ret_why = "handshake";
    int err = receive(fd, greeting, sizeof greeting);
    if (err)
        return err;
    uint16_t flags = load_be16(greeting + 16);
    if (load_be64(greeting) != NBD_MAGIC ||
        load_be64(greeting + 8) != NBD_IHAVEOPT ||
        !(flags & NBD_FLAG_FIXED_NEWSTYLE)) {
        *ret_why = "not a fixed newstyle NBD server";
        return EPROTO;
    }
    bool no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    store_be32(client_flags,
               flags & (NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES));
    err = send_all(fd, client_flags, sizeof client_flags);
    if (!err && style != REPLY_SIMPLE) {
        *ret_why = style == REPLY_STRUCTURED ? "ask for structured replies"
                                             : "ask for extended headers";
        err =
            ask_for_style(fd,
                          style == REPLY_STRUCTURED ? NBD_OPT_STRUCTURED_REPLY
                                                    : NBD_OPT_EXTENDED_HEADERS,
                          &reply);
    }
    if (err)
        return err;
    *ret_why = "choose the export";
    err = ask_go(fd, target->export_name, session, &reply);
    if (err == EOPNOTSUPP)
        err = ask_export_name(fd, target->export_name, no_zeroes, session);
    return err;
}

int target_connect(const struct target *target, enum reply_style style,
                   struct session *ret, const char **ret_why)
{
    _cleanup_close_ int fd = -1;

    *ret_why = "connect";
    int err = target->path ? connect_unix(target->path, &fd)
                           : connect_tcp(target, &fd);
    if (err)
        return err;
    struct session session = {.fd = fd, .style = style};
    err = negotiate(target, style, &session, ret_why);
    if (err)
        return err;
    take_fd(&fd);
    *ret = session;
    return 0;
}
