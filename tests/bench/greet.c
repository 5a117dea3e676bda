/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The handshake of abd-bound: fixed newstyle with EXPORT_NAME, GO, INFO, LIST,
 * ABORT and STRUCTURED_REPLY; every other option is unsupported.
 *
 * It blocks the only thread, which is fine before a measurement, and reads not
 * one byte too much, so that the hot path begins with an empty buffer. */
#include "tests/bench/greet.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/bytes.h"
#include "wire/nbd.h"

#define OPTION_MAX 8192

struct greeting {
    int fd;
    uint64_t size;
    uint16_t flags;
    bool no_zeroes, structured, chosen;
};

static int receive(int fd, void *to, size_t length)
{
    ssize_t n = length ? recv(fd, to, length, MSG_WAITALL) : 0;

    if (n < 0)
        return errno;
    return (size_t)n == length ? 0 : ECONNRESET;
}

static int send_all(int fd, const void *from, size_t length)
{
    ssize_t n = send(fd, from, length, MSG_NOSIGNAL);

    if (n < 0)
        return errno;
    return (size_t)n == length ? 0 : EAGAIN;
}

static int send_reply(int fd, uint32_t option, uint32_t type, const void *data,
                      uint32_t length)
{
    uint8_t reply[20 + 32];

    store_be64(reply, NBD_REP_MAGIC);
    store_be32(reply + 8, option);
    store_be32(reply + 12, type);
    store_be32(reply + 16, length);
    if (length)
        memcpy(reply + 20, data, length);
    return send_all(fd, reply, 20 + length);
}

static int answer_export_name(struct greeting *greeting)
{
    uint8_t reply[10 + 124] = {0};

    store_be64(reply, greeting->size);
    store_be16(reply + 8, greeting->flags);
    greeting->chosen = true;
    return send_all(greeting->fd, reply,
                    greeting->no_zeroes ? 10 : sizeof reply);
}

static int answer_go(struct greeting *greeting, uint32_t option)
{
    uint8_t info[12], block_size[14];

    store_be16(info, NBD_INFO_EXPORT);
    store_be64(info + 2, greeting->size);
    store_be16(info + 10, greeting->flags);
    store_be16(block_size, NBD_INFO_BLOCK_SIZE);
    store_be32(block_size + 2, 1);
    store_be32(block_size + 6, 4096);
    store_be32(block_size + 10, 32 * 1024 * 1024);
    int err = send_reply(greeting->fd, option, NBD_REP_INFO, info, sizeof info);
    if (!err)
        err = send_reply(greeting->fd, option, NBD_REP_INFO, block_size,
                         sizeof block_size);
    if (!err)
        err = send_reply(greeting->fd, option, NBD_REP_ACK, NULL, 0);
    greeting->chosen = !err && option == NBD_OPT_GO;
    return err;
}

static int answer(struct greeting *greeting, uint32_t option)
{
    static const uint8_t no_name[4];
    int err;

    switch (option) {
    case NBD_OPT_EXPORT_NAME:
        return answer_export_name(greeting);
    case NBD_OPT_GO:
    case NBD_OPT_INFO:
        return answer_go(greeting, option);
    case NBD_OPT_LIST:
        err = send_reply(greeting->fd, option, NBD_REP_SERVER, no_name,
                         sizeof no_name);
        return err ? err
                   : send_reply(greeting->fd, option, NBD_REP_ACK, NULL, 0);
    case NBD_OPT_STRUCTURED_REPLY:
        greeting->structured = true;
        return send_reply(greeting->fd, option, NBD_REP_ACK, NULL, 0);
    case NBD_OPT_ABORT:
        send_reply(greeting->fd, option, NBD_REP_ACK, NULL, 0);
        return ECONNABORTED;
    default:
        return send_reply(greeting->fd, option, NBD_REP_ERR_UNSUP, NULL, 0);
    }
}

static int take_option(struct greeting *greeting)
{
    uint8_t header[16], data[OPTION_MAX];

    int err = receive(greeting->fd, header, sizeof header);
    if (err)
        return err;
    uint32_t length = load_be32(header + 12);
    if (load_be64(header) != NBD_IHAVEOPT || length > OPTION_MAX)
        return EPROTO;
    err = receive(greeting->fd, data, length);
    return err ? err : answer(greeting, load_be32(header + 8));
}

int greet(int fd, uint64_t size, uint16_t flags, bool *ret_structured)
{
    struct greeting greeting = {.fd = fd, .size = size, .flags = flags};
    struct timeval patience = {.tv_sec = 5};
    uint8_t hello[18], client_flags[4];

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    store_be64(hello, NBD_MAGIC);
    store_be64(hello + 8, NBD_IHAVEOPT);
    store_be16(hello + 16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    int err = send_all(fd, hello, sizeof hello);
    if (!err)
        err = receive(fd, client_flags, sizeof client_flags);
    greeting.no_zeroes = load_be32(client_flags) & NBD_FLAG_C_NO_ZEROES;
    while (!err && !greeting.chosen)
        err = take_option(&greeting);
    if (!err)
        *ret_structured = greeting.structured;
    return err;
}
