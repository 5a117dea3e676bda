/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The hot path of abd-bound: the barest thing that can be called an NBD server.
 *
 * One recv takes many requests, a ring holds the answers (with a constant
 * delay they become due in order, so the ring is the timer queue, too), one
 * sendmsg sends many.  Reads from memory are sent from where they lie; large
 * writes are received to where they belong.  Nothing is checked but that
 * offsets lie inside the disk.  One thread; sockets are not waited for. */
#include "tests/bench/responder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bytes.h"
#include "wire/nbd.h"

/* More than one recv can bring (28 bytes a request), twice. */
#define RING     32768u
#define RING_ONE (RESPONDER_RECEIVE / 28 + 2)
#define BATCH    512u /* replies in one sendmsg: two iovecs each */
#define HEADER   28u  /* the longest: a structured chunk and its offset */

/* What a file's reads of one batch may hold. */
#define FILE_BUFFER ((size_t)1024 * 1024)

struct answer {
    uint64_t due_ns, cookie, offset;
    uint32_t length; /* of a read's data; else 0 */
    uint32_t is_read;
};

struct responder {
    /* set once */
    const struct store *store;
    int fd;
    bool structured;

    /* what comes in */
    uint8_t carry[RESPONDER_ROOM];
    unsigned carry_length;
    uint32_t write_left; /* of the payload that is being received */
    uint64_t write_offset, write_cookie;

    /* what goes out */
    struct answer *ring; /* head .. tail, both without bounds */
    uint32_t head, tail;
    struct iovec iov[2 * BATCH];
    unsigned iov_at, iov_count;
    uint8_t headers[BATCH * HEADER];
    uint8_t *data;  /* STORE_FILE: FILE_BUFFER bytes */
    uint8_t *large; /* STORE_FILE: a read larger than that */
};

struct responder *responder_create(const struct store *store, int fd,
                                   bool structured)
{
    struct responder *responder = calloc(1, sizeof *responder);

    if (!responder) {
        close(fd);
        return NULL;
    }
    responder->store = store;
    responder->fd = fd;
    responder->structured = structured;
    responder->ring = malloc(RING * sizeof *responder->ring);
    if (store->mode == STORE_FILE)
        responder->data = malloc(FILE_BUFFER);
    if (!responder->ring || (store->mode == STORE_FILE && !responder->data)) {
        responder_destroy(responder);
        return NULL;
    }
    return responder;
}

void responder_destroy(struct responder *responder)
{
    if (!responder)
        return;
    close(responder->fd);
    free(responder->ring);
    free(responder->data);
    free(responder->large);
    free(responder);
}

bool responder_has_room(const struct responder *responder)
{
    return responder->tail - responder->head <= RING - RING_ONE;
}

bool responder_is_blocked(const struct responder *responder)
{
    return responder->iov_at < responder->iov_count;
}

uint64_t responder_due(const struct responder *responder)
{
    if (responder->head == responder->tail || responder_is_blocked(responder))
        return UINT64_MAX;
    return responder->ring[responder->head % RING].due_ns;
}

static void push(struct responder *responder, uint64_t now_ns, uint64_t cookie)
{
    struct answer *answer = &responder->ring[responder->tail++ % RING];

    answer->due_ns = now_ns + responder->store->delay_ns;
    answer->cookie = cookie;
    answer->length = 0;
    answer->is_read = false;
}

static void push_read(struct responder *responder, uint64_t now_ns,
                      const uint8_t *request)
{
    struct answer *answer = &responder->ring[responder->tail++ % RING];

    answer->due_ns = now_ns + responder->store->delay_ns;
    answer->cookie = load_be64(request + 8);
    answer->offset = load_be64(request + 16);
    answer->length = load_be32(request + 24);
    answer->is_read = true;
}

static bool is_inside(const struct store *store, const uint8_t *request)
{
    uint64_t offset = load_be64(request + 16);
    uint32_t length = load_be32(request + 24);

    return offset <= store->size && length <= store->size - offset &&
           length <= RESPONDER_LONGEST;
}

static int write_all(int fd, const uint8_t *from, size_t length,
                     uint64_t offset)
{
    while (length > 0) {
        ssize_t n = pwrite(fd, from, length, (off_t)offset);
        if (n < 0)
            return errno;
        from += n;
        length -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

/* Takes what has come of a write's payload; at its end, the write is answered.
 */
static int take_payload(struct responder *responder, const uint8_t **at,
                        const uint8_t *end, uint64_t now_ns)
{
    const struct store *store = responder->store;
    size_t n = (size_t)(end - *at);
    int err = 0;

    if (n > responder->write_left)
        n = responder->write_left;
    if (store->mode == STORE_MEMORY)
        memcpy(store->memory + responder->write_offset, *at, n);
    else if (store->mode == STORE_FILE)
        err = write_all(store->fd, *at, n, responder->write_offset);
    *at += n;
    responder->write_offset += n;
    responder->write_left -= (uint32_t)n;
    if (responder->write_left == 0)
        push(responder, now_ns, responder->write_cookie);
    return err;
}

static int take_request(struct responder *responder, const uint8_t *request,
                        uint64_t now_ns)
{
    const struct store *store = responder->store;

    if (load_be32(request) != NBD_REQUEST_MAGIC)
        return EPROTO;
    if (!is_inside(store, request))
        return ERANGE;
    switch (load_be16(request + 6)) {
    case NBD_CMD_READ:
        push_read(responder, now_ns, request);
        return 0;
    case NBD_CMD_WRITE:
        responder->write_cookie = load_be64(request + 8);
        responder->write_offset = load_be64(request + 16);
        responder->write_left = load_be32(request + 24);
        return responder->write_left ? 0 : EPROTO;
    case NBD_CMD_FLUSH:
        if (store->mode == STORE_FILE && fdatasync(store->fd) < 0)
            return errno;
        push(responder, now_ns, load_be64(request + 8));
        return 0;
    case NBD_CMD_TRIM:
    case NBD_CMD_WRITE_ZEROES:
        if (store->mode == STORE_MEMORY)
            memset(store->memory + load_be64(request + 16), 0,
                   load_be32(request + 24));
        push(responder, now_ns, load_be64(request + 8));
        return 0;
    default:
        return ECONNABORTED; /* DISC */
    }
}

static int take_requests(struct responder *responder, const uint8_t *at,
                         const uint8_t *end, uint64_t now_ns)
{
    int err = 0;

    while (!err && at < end) {
        if (responder->write_left > 0) {
            err = take_payload(responder, &at, end, now_ns);
        } else if (end - at >= 28) {
            err = take_request(responder, at, now_ns);
            at += 28;
        } else {
            break;
        }
    }
    if (!err) {
        responder->carry_length = (unsigned)(end - at);
        memcpy(responder->carry, at, responder->carry_length);
    }
    return err;
}

int responder_receive(struct responder *responder, uint64_t now_ns)
{
    const struct store *store = responder->store;
    uint8_t *buffer = store->receive_buffer + RESPONDER_ROOM;
    struct iovec places[2] = {{NULL, 0}, {buffer, RESPONDER_RECEIVE}};
    struct msghdr message = {.msg_iov = places + 1, .msg_iovlen = 1};

    if (responder->write_left > 0 && store->mode == STORE_MEMORY) {
        places[0].iov_base = store->memory + responder->write_offset;
        places[0].iov_len = responder->write_left;
        message.msg_iov = places;
        message.msg_iovlen = 2;
    }
    ssize_t n = recvmsg(responder->fd, &message, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : errno;
    if (n == 0)
        return ECONNRESET;
    size_t direct = places[0].iov_len;
    if ((size_t)n < direct)
        direct = (size_t)n;
    if (direct > 0) {
        responder->write_offset += direct;
        responder->write_left -= (uint32_t)direct;
        if (responder->write_left == 0)
            push(responder, now_ns, responder->write_cookie);
    }
    uint8_t *end = buffer + ((size_t)n - direct);
    buffer -= responder->carry_length;
    memcpy(buffer, responder->carry, responder->carry_length);
    responder->carry_length = 0;
    int err = take_requests(responder, buffer, end, now_ns);
    return err ? err : responder_answer(responder, now_ns);
}

static unsigned write_header(const struct responder *responder, uint8_t *to,
                             const struct answer *answer)
{
    if (!responder->structured || !answer->is_read) {
        store_be32(to, NBD_SIMPLE_REPLY_MAGIC);
        store_be32(to + 4, 0);
        store_be64(to + 8, answer->cookie);
        return 16;
    }
    store_be32(to, NBD_STRUCTURED_REPLY_MAGIC);
    store_be16(to + 4, NBD_REPLY_FLAG_DONE);
    store_be16(to + 6, NBD_REPLY_TYPE_OFFSET_DATA);
    store_be64(to + 8, answer->cookie);
    store_be32(to + 16, answer->length + 8);
    store_be64(to + 20, answer->offset);
    return 28;
}

/* Where the data of a read are to be sent from; NULL: with errno.  used: of
 * the file buffer. */
static uint8_t *find_data(struct responder *responder,
                          const struct answer *answer, size_t used)
{
    const struct store *store = responder->store;
    uint8_t *to = responder->data + used;

    if (store->mode == STORE_NULL)
        return store->memory;
    if (store->mode == STORE_MEMORY)
        return store->memory + answer->offset;
    if (answer->length > FILE_BUFFER) {
        free(responder->large);
        to = responder->large = malloc(answer->length);
        if (!to)
            return NULL;
    }
    for (uint32_t done = 0; done < answer->length;) {
        ssize_t n = pread(store->fd, to + done, answer->length - done,
                          (off_t)(answer->offset + done));
        if (n <= 0)
            return NULL;
        done += (uint32_t)n;
    }
    return to;
}

/* The next batch of what is due.  A read too large for the rest of the file
 * buffer waits for the next one, unless it is the first. */
static int build_batch(struct responder *responder, uint64_t now_ns)
{
    bool file = responder->store->mode == STORE_FILE;
    struct iovec *iov = responder->iov;
    uint8_t *header = responder->headers;
    size_t used = 0;

    for (unsigned i = 0; i < BATCH && responder->head != responder->tail; i++) {
        const struct answer *answer = &responder->ring[responder->head % RING];
        if (answer->due_ns > now_ns ||
            (i > 0 && file && used + answer->length > FILE_BUFFER))
            break;
        unsigned length = write_header(responder, header, answer);
        if (iov > responder->iov &&
            (uint8_t *)iov[-1].iov_base + iov[-1].iov_len == header)
            iov[-1].iov_len += length;
        else
            *iov++ = (struct iovec){header, length};
        header += length;
        if (answer->length > 0) {
            uint8_t *data = find_data(responder, answer, used);
            if (!data)
                return EIO;
            *iov++ = (struct iovec){data, answer->length};
            used += answer->length;
        }
        responder->head++;
    }
    if (responder->head == responder->tail)
        responder->head = responder->tail = 0; /* keeps the ring's use hot */
    responder->iov_at = 0;
    responder->iov_count = (unsigned)(iov - responder->iov);
    return 0;
}

static void consume_batch(struct responder *responder, size_t n)
{
    while (n > 0) {
        struct iovec *iov = &responder->iov[responder->iov_at];
        if (n < iov->iov_len) {
            iov->iov_base = (uint8_t *)iov->iov_base + n;
            iov->iov_len -= n;
            return;
        }
        n -= iov->iov_len;
        responder->iov_at++;
    }
}

int responder_answer(struct responder *responder, uint64_t now_ns)
{
    for (;;) {
        if (!responder_is_blocked(responder)) {
            int err = build_batch(responder, now_ns);
            if (err || responder->iov_count == 0)
                return err;
        }
        struct msghdr message = {
            .msg_iov = responder->iov + responder->iov_at,
            .msg_iovlen = responder->iov_count - responder->iov_at,
        };
        ssize_t n =
            sendmsg(responder->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : errno;
        consume_batch(responder, (size_t)n);
    }
}
