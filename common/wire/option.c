/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Greetings, options and what is in them.
 *
 * Parsers walk with a cursor that knows how much is left.  Each step takes from
 * it or fails; no length from the wire is ever added to anything.  All are pure
 * functions of their arguments; any thread. */
#include "wire/option.h"

#include <string.h>

#include "base/bytes.h"
#include "base/text.h"

struct cursor {
    const uint8_t *next;
    uint32_t left;
};

static bool take_u16(struct cursor *cursor, uint16_t *ret)
{
    if (cursor->left < 2)
        return false;
    *ret = load_be16(cursor->next);
    cursor->next += 2;
    cursor->left -= 2;
    return true;
}

static bool take_u32(struct cursor *cursor, uint32_t *ret)
{
    if (cursor->left < 4)
        return false;
    *ret = load_be32(cursor->next);
    cursor->next += 4;
    cursor->left -= 4;
    return true;
}

/* A length in 32 bits, then as many bytes of UTF-8. */
static enum nbd_parsed take_string(struct cursor *cursor,
                                   struct nbd_string *ret)
{
    struct nbd_string string;

    if (!take_u32(cursor, &string.length) || string.length > cursor->left)
        return NBD_PARSED_INVALID;
    if (string.length > NBD_MAX_STRING)
        return NBD_PARSED_TOO_BIG;
    string.text = (const char *)cursor->next;
    cursor->next += string.length;
    cursor->left -= string.length;
    if (!text_is_utf8(string.text, string.length))
        return NBD_PARSED_INVALID;
    *ret = string;
    return NBD_PARSED;
}

void nbd_greeting_encode(uint16_t handshake_flags, uint8_t *to)
{
    store_be64(to, NBD_MAGIC);
    store_be64(to + 8, NBD_IHAVEOPT);
    store_be16(to + 16, handshake_flags);
}

void nbd_oldstyle_greeting_encode(uint64_t size, uint16_t transmission_flags,
                                  uint8_t *to)
{
    memset(to, 0, NBD_OLDSTYLE_GREETING_SIZE);
    store_be64(to, NBD_MAGIC);
    store_be64(to + 8, NBD_CLISERV_MAGIC);
    store_be64(to + 16, size);
    /* to + 24: the handshake flags, of which oldstyle has none */
    store_be16(to + 26, transmission_flags);
}

bool nbd_option_decode(const uint8_t *from, struct nbd_option_header *ret)
{
    if (load_be64(from) != NBD_IHAVEOPT)
        return false;
    ret->option = load_be32(from + 8);
    ret->length = load_be32(from + 12);
    return true;
}

void nbd_option_reply_encode(uint32_t option, uint32_t reply, uint32_t length,
                             uint8_t *to)
{
    store_be64(to, NBD_REP_MAGIC);
    store_be32(to + 8, option);
    store_be32(to + 12, reply);
    store_be32(to + 16, length);
}

unsigned nbd_export_name_reply_encode(uint64_t size,
                                      uint16_t transmission_flags,
                                      bool no_zeroes, uint8_t *to)
{
    unsigned length = 10;

    store_be64(to, size);
    store_be16(to + 8, transmission_flags);
    if (!no_zeroes) {
        memset(to + length, 0, NBD_EXPORT_NAME_REPLY_SIZE - length);
        length = NBD_EXPORT_NAME_REPLY_SIZE;
    }
    return length;
}

enum nbd_parsed nbd_info_request_parse(const uint8_t *data, uint32_t length,
                                       struct nbd_info_request *ret)
{
    struct cursor cursor = {.next = data, .left = length};
    struct nbd_info_request request = {0};
    uint16_t count, info;
    enum nbd_parsed parsed = take_string(&cursor, &request.name);

    if (parsed != NBD_PARSED)
        return parsed;
    if (!take_u16(&cursor, &count))
        return NBD_PARSED_INVALID;
    for (; count > 0; count--) {
        if (!take_u16(&cursor, &info))
            return NBD_PARSED_INVALID;
        if (info <= NBD_INFO_BLOCK_SIZE)
            request.wanted |= UINT32_C(1) << info;
    }
    if (cursor.left > 0)
        return NBD_PARSED_INVALID;
    *ret = request;
    return NBD_PARSED;
}

enum nbd_parsed nbd_meta_request_parse(const uint8_t *data, uint32_t length,
                                       struct nbd_meta_request *ret)
{
    struct cursor cursor = {.next = data, .left = length};
    struct nbd_meta_request request = {0};
    struct nbd_string query;
    enum nbd_parsed parsed = take_string(&cursor, &request.name);

    if (parsed != NBD_PARSED)
        return parsed;
    if (!take_u32(&cursor, &request.queries))
        return NBD_PARSED_INVALID;
    request.next = cursor.next;
    /* Ends soon however large the number is: each query has four bytes at
     * least, and the caller bounds the whole. */
    for (uint32_t i = 0; i < request.queries; i++) {
        parsed = take_string(&cursor, &query);
        if (parsed != NBD_PARSED)
            return parsed;
    }
    if (cursor.left > 0)
        return NBD_PARSED_INVALID;
    *ret = request;
    return NBD_PARSED;
}

struct nbd_string nbd_meta_request_next(struct nbd_meta_request *request)
{
    struct nbd_string query = {
        .text = (const char *)request->next + 4,
        .length = load_be32(request->next),
    };

    request->next += 4 + query.length;
    return query;
}

unsigned nbd_info_export_encode(uint64_t size, uint16_t transmission_flags,
                                uint8_t *to)
{
    store_be16(to, NBD_INFO_EXPORT);
    store_be64(to + 2, size);
    store_be16(to + 10, transmission_flags);
    return 12;
}

unsigned nbd_info_block_size_encode(uint32_t minimum, uint32_t preferred,
                                    uint32_t maximum, uint8_t *to)
{
    store_be16(to, NBD_INFO_BLOCK_SIZE);
    store_be32(to + 2, minimum);
    store_be32(to + 6, preferred);
    store_be32(to + 10, maximum);
    return 14;
}
