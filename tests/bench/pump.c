/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The hot path of abd-load: it must cost less than any server.
 *
 * All free requests leave with one sendmsg, and one large recv takes many
 * replies; payloads are skipped where they lie in the receive buffer (or
 * checked there), never copied.  A reply's cookie is the number of its slot.
 * The rest of a header that was cut by the end of the buffer is carried over
 * in front of the next recv.  Runs on the only thread; sockets don't block. */
#include "tests/bench/pump.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tests/bench/latency.h"
#include "wire/nbd.h"

#define HEADER_MAX 32
#define IOV_MAX_   1024u /* the kernel's limit for one sendmsg */

/* A request in flight; owned by its pump. */
struct slot {
    uint64_t offset, sent_ns;
    uint32_t length, received;
    uint16_t command;
    bool busy, failed;
    bool must_match; /* verify: was written before this read was sent */
};

int pump_init(struct pump *pump, struct workload *workload,
              const struct pump_profile *profile, const struct session *session,
              unsigned number)
{
    size_t depth = profile->depth;
    bool own_data = workload->verify &&
                    (profile->op == PUMP_WRITE || profile->op == PUMP_MIXED);

    *pump = (struct pump){.workload = workload, .profile = *profile};
    pump->session = *session;
    pump->number = number;
    pump->blocks = session->size / profile->size;
    pump->next_block =
        (uint64_t)number * 7919 % (pump->blocks ? pump->blocks : 1);
    pump->random = workload->seed + (number + 1) * 0x9e3779b97f4a7c15u;
    pump->slots = calloc(depth, sizeof *pump->slots);
    pump->free_slots = calloc(depth, sizeof *pump->free_slots);
    pump->iov_max = depth * 2 < IOV_MAX_ ? (unsigned)depth * 2 : IOV_MAX_;
    pump->iov = calloc(pump->iov_max, sizeof *pump->iov);
    pump->headers = calloc(pump->iov_max, HEADER_MAX);
    if (own_data)
        pump->payloads = calloc(depth, profile->size);
    if (!pump->slots || !pump->free_slots || !pump->iov || !pump->headers ||
        (own_data && !pump->payloads)) {
        pump_finish(pump);
        return ENOMEM;
    }
    for (uint32_t i = 0; i < depth; i++)
        pump->free_slots[i] = (uint32_t)depth - 1 - i;
    pump->free_count = (unsigned)depth;
    return pump->blocks ? 0 : EINVAL;
}

void pump_finish(struct pump *pump)
{
    if (pump->workload && pump->session.fd >= 0)
        close(pump->session.fd);
    pump->session.fd = -1;
    free(pump->slots);
    free(pump->free_slots);
    free(pump->iov);
    free(pump->headers);
    free(pump->payloads);
    *pump = (struct pump){.session.fd = -1};
}

/* xorshift64*: good enough to scatter offsets, and a few cycles. */
static uint64_t next_random(struct pump *pump)
{
    uint64_t x = pump->random;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    pump->random = x;
    return x * UINT64_C(2685821657736338717);
}

static uint64_t choose_block(struct pump *pump)
{
    if (!pump->workload->sequential)
        return (uint64_t)(((__uint128_t)next_random(pump) * pump->blocks) >>
                          64);
    uint64_t block = pump->next_block++;
    if (pump->next_block >= pump->blocks)
        pump->next_block = 0;
    return block;
}

static uint16_t choose_command(struct pump *pump)
{
    switch (pump->profile.op) {
    case PUMP_WRITE:
        return NBD_CMD_WRITE;
    case PUMP_MIXED:
        return (next_random(pump) >> 32) % 100 < pump->profile.write_percent
                   ? NBD_CMD_WRITE
                   : NBD_CMD_READ;
    case PUMP_ZERO:
        return NBD_CMD_WRITE_ZEROES;
    case PUMP_TRIM:
        return NBD_CMD_TRIM;
    case PUMP_FLUSH:
        return NBD_CMD_FLUSH;
    case PUMP_READ:
        break;
    }
    return NBD_CMD_READ;
}

static unsigned write_header(uint8_t *to, const struct pump *pump,
                             const struct slot *slot, uint32_t cookie)
{
    bool extended = pump->session.style == REPLY_EXTENDED;
    uint16_t flags = extended && slot->command == NBD_CMD_WRITE
                         ? NBD_CMD_FLAG_PAYLOAD_LEN
                         : 0;

    store_be32(to, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
    store_be16(to + 4, flags);
    store_be16(to + 6, slot->command);
    store_be64(to + 8, cookie);
    store_be64(to + 16, slot->offset);
    if (extended)
        store_be64(to + 24, slot->length);
    else
        store_be32(to + 24, slot->length);
    return extended ? 32 : 28;
}

static void fill_pattern(uint8_t *to, uint64_t offset, uint32_t length)
{
    for (uint32_t i = 0; i < length; i += 8)
        store_be64(to + i, offset + i);
}

/* Fills a free slot with the next request. */
static void plan_request(struct pump *pump, struct slot *slot)
{
    struct workload *workload = pump->workload;
    uint64_t block = choose_block(pump);

    slot->command = choose_command(pump);
    slot->offset = block * pump->profile.size;
    slot->length = pump->profile.size;
    if (slot->command == NBD_CMD_FLUSH)
        slot->offset = slot->length = 0;
    slot->received = 0;
    slot->busy = true;
    slot->failed = false;
    slot->must_match = !workload->written || workload->written[block];
    slot->sent_ns = workload->now_ns;
}

/* Builds the next batch: headers that follow each other share one iovec. */
static void build_batch(struct pump *pump)
{
    struct workload *workload = pump->workload;
    uint8_t *header = pump->headers;
    unsigned count = 0;

    while (pump->free_count > 0 && workload->budget > 0 &&
           count + 2 <= pump->iov_max &&
           header < pump->headers + (size_t)pump->iov_max * HEADER_MAX) {
        uint32_t cookie = pump->free_slots[--pump->free_count];
        struct slot *slot = &pump->slots[cookie];
        plan_request(pump, slot);
        unsigned length = write_header(header, pump, slot, cookie);
        if (count > 0 && (uint8_t *)pump->iov[count - 1].iov_base +
                                 pump->iov[count - 1].iov_len ==
                             header)
            pump->iov[count - 1].iov_len += length;
        else
            pump->iov[count++] = (struct iovec){header, length};
        header += length;
        if (slot->command == NBD_CMD_WRITE) {
            uint8_t *data = workload->payload;
            if (pump->payloads) {
                data = pump->payloads + (size_t)cookie * pump->profile.size;
                fill_pattern(data, slot->offset, slot->length);
            }
            pump->iov[count++] = (struct iovec){data, slot->length};
        }
        workload->budget--;
        pump->counts.issued++;
    }
    pump->iov_at = 0;
    pump->iov_count = count;
}

/* Takes n sent bytes off the front of the batch. */
static void consume_batch(struct pump *pump, size_t n)
{
    while (n > 0) {
        struct iovec *iov = &pump->iov[pump->iov_at];
        if (n < iov->iov_len) {
            iov->iov_base = (uint8_t *)iov->iov_base + n;
            iov->iov_len -= n;
            return;
        }
        n -= iov->iov_len;
        pump->iov_at++;
    }
}

int pump_send(struct pump *pump)
{
    for (;;) {
        if (!pump_is_blocked(pump)) {
            if (pump->stopped || pump->free_count == 0 ||
                pump->workload->budget == 0)
                return 0;
            build_batch(pump);
        }
        struct msghdr message = {
            .msg_iov = pump->iov + pump->iov_at,
            .msg_iovlen = pump->iov_count - pump->iov_at,
        };
        ssize_t n =
            sendmsg(pump->session.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : errno;
        consume_batch(pump, (size_t)n);
    }
}

static int complete(struct pump *pump, struct slot *slot, const char **ret_why)
{
    struct workload *workload = pump->workload;

    if (slot->failed) {
        pump->counts.errors++;
    } else {
        if (slot->command == NBD_CMD_READ && slot->received != slot->length) {
            *ret_why = "a read was answered with too little data";
            return EPROTO;
        }
        if (slot->command == NBD_CMD_READ || slot->command == NBD_CMD_WRITE)
            pump->counts.bytes += slot->length;
        if (workload->written && slot->command == NBD_CMD_WRITE)
            workload->written[slot->offset / slot->length] = 1;
    }
    pump->counts.completed++;
    if (workload->latency)
        latency_add(workload->latency, workload->now_ns - slot->sent_ns);
    slot->busy = false;
    pump->free_slots[pump->free_count++] = (uint32_t)(slot - pump->slots);
    return 0;
}

/* A chunk's payload may be cut anywhere, also inside a word. */
static void check_data(struct pump *pump, const uint8_t *data, uint64_t length)
{
    uint64_t at = pump->skip_offset;
    bool wrong = false;

    for (uint64_t i = 0; i < length; i++, at++) {
        uint8_t wanted = (uint8_t)((at & ~UINT64_C(7)) >> (56 - 8 * (at & 7)));
        if (data[i] != wanted && (data[i] != 0 || pump->current->must_match))
            wrong = true;
    }
    if (wrong)
        pump->counts.mismatches++;
}

/* Goes over what has come of the current chunk; at its end the request may be
 * complete. */
static int skip_payload(struct pump *pump, const uint8_t **at,
                        const uint8_t *end, const char **ret_why)
{
    uint64_t n = (uint64_t)(end - *at);

    if (n > pump->skip)
        n = pump->skip;
    if (pump->skip_data && pump->workload->verify)
        check_data(pump, *at, n);
    *at += n;
    pump->skip -= n;
    pump->skip_offset += n;
    if (pump->skip > 0 || !pump->skip_done)
        return 0;
    pump->skip_done = false;
    return complete(pump, pump->current, ret_why);
}

static struct slot *find_slot(struct pump *pump, uint64_t cookie)
{
    if (cookie >= pump->profile.depth || !pump->slots[cookie].busy)
        return NULL;
    return &pump->slots[cookie];
}

static int parse_simple(struct pump *pump, const uint8_t *header,
                        const char **ret_why)
{
    struct slot *slot = find_slot(pump, load_be64(header + 8));

    if (!slot || load_be32(header) != NBD_SIMPLE_REPLY_MAGIC) {
        *ret_why = slot ? "a reply with a wrong magic number"
                        : "a reply with an unknown cookie";
        return EPROTO;
    }
    slot->failed = load_be32(header + 4) != 0;
    pump->current = slot;
    pump->skip_done = true;
    pump->skip_data = slot->command == NBD_CMD_READ && !slot->failed;
    pump->skip = pump->skip_data ? slot->length : 0;
    pump->skip_offset = slot->offset;
    if (pump->skip_data)
        slot->received = slot->length;
    return 0;
}

/* A data or hole chunk must lie inside of what was asked for. */
static int add_chunk(struct slot *slot, uint64_t offset, uint64_t length,
                     const char **ret_why)
{
    if (slot->command != NBD_CMD_READ || offset < slot->offset ||
        length > slot->length ||
        offset - slot->offset > slot->length - length ||
        length > slot->length - slot->received) {
        *ret_why = "a chunk outside of the request";
        return EPROTO;
    }
    slot->received += (uint32_t)length;
    return 0;
}

/* header: with the 8 or 12 bytes behind it that the type brings. */
static int parse_chunk(struct pump *pump, const uint8_t *header,
                       const uint8_t *body, uint64_t length,
                       const char **ret_why)
{
    struct slot *slot = find_slot(pump, load_be64(header + 8));
    uint16_t type = load_be16(header + 6);
    int err = 0;

    if (!slot) {
        *ret_why = "a chunk with an unknown cookie";
        return EPROTO;
    }
    pump->current = slot;
    pump->skip_done = load_be16(header + 4) & NBD_REPLY_FLAG_DONE;
    pump->skip_data = false;
    pump->skip = length;
    if (type == NBD_REPLY_TYPE_OFFSET_DATA) {
        pump->skip = length - 8;
        pump->skip_data = true;
        pump->skip_offset = load_be64(body);
        err = add_chunk(slot, pump->skip_offset, pump->skip, ret_why);
    } else if (type == NBD_REPLY_TYPE_OFFSET_HOLE) {
        pump->skip = 0;
        if (pump->workload->verify && slot->must_match)
            pump->counts.mismatches++;
        err = add_chunk(slot, load_be64(body), load_be32(body + 8), ret_why);
    } else if (type & 0x8000) {
        slot->failed = true;
    } else if (type != NBD_REPLY_TYPE_NONE) {
        *ret_why = "a chunk of an unexpected type";
        return EPROTO;
    }
    return err;
}

/* Parses one structured or extended header if it is complete.  *at moves only
 * then. */
static int parse_structured(struct pump *pump, const uint8_t **at,
                            const uint8_t *end, const char **ret_why)
{
    bool extended = pump->session.style == REPLY_EXTENDED;
    size_t size = extended ? 32 : 20, body = 0;
    const uint8_t *header = *at;

    if ((size_t)(end - header) < size)
        return 0;
    if (load_be32(header) !=
        (extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC)) {
        *ret_why = "a reply with a wrong magic number";
        return EPROTO;
    }
    uint16_t type = load_be16(header + 6);
    uint64_t length =
        extended ? load_be64(header + 24) : load_be32(header + 16);
    if (type == NBD_REPLY_TYPE_OFFSET_DATA)
        body = 8;
    else if (type == NBD_REPLY_TYPE_OFFSET_HOLE)
        body = 12;
    if (length < body) {
        *ret_why = "a chunk that is too short";
        return EPROTO;
    }
    if ((size_t)(end - header) < size + body)
        return 0;
    *at += size + body;
    return parse_chunk(pump, header, header + size, length, ret_why);
}

/* Parses the next header, or leaves *at where it is: not all of it is there. */
static int parse_header(struct pump *pump, const uint8_t **at,
                        const uint8_t *end, const char **ret_why)
{
    const uint8_t *header = *at;

    if (end - header < 16)
        return 0;
    if (pump->session.style == REPLY_SIMPLE) {
        *at += 16;
        return parse_simple(pump, header, ret_why);
    }
    if (pump->session.style == REPLY_STRUCTURED &&
        load_be32(header) == NBD_SIMPLE_REPLY_MAGIC) {
        const struct slot *slot = find_slot(pump, load_be64(header + 8));
        if (slot && slot->command == NBD_CMD_READ) {
            *ret_why = "a read was answered with a simple reply";
            return EPROTO;
        }
        *at += 16;
        return parse_simple(pump, header, ret_why);
    }
    return parse_structured(pump, at, end, ret_why);
}

int pump_receive(struct pump *pump, const char **ret_why)
{
    uint8_t *buffer = pump->workload->receive_buffer;

    *ret_why = "receive";
    ssize_t n =
        recv(pump->session.fd, buffer + PUMP_ROOM, PUMP_RECEIVE, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : errno;
    if (n == 0)
        return ECONNRESET;
    const uint8_t *at = buffer + PUMP_ROOM - pump->carry_length;
    const uint8_t *end = buffer + PUMP_ROOM + n;
    memcpy(buffer + PUMP_ROOM - pump->carry_length, pump->carry,
           pump->carry_length);
    pump->carry_length = 0;
    while (at < end) {
        int err = 0;
        if (pump->skip == 0) {
            const uint8_t *before = at;
            err = parse_header(pump, &at, end, ret_why);
            if (!err && at == before)
                break;
        }
        if (!err)
            err = skip_payload(pump, &at, end, ret_why);
        if (err)
            return err;
    }
    pump->carry_length = (unsigned)(end - at);
    memcpy(pump->carry, at, pump->carry_length);
    return 0;
}
