/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The transmission phase's headers against bytes written out by hand. */
#include "wire/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t compact_bytes[NBD_REQUEST_SIZE] = {
    0x25, 0x60, 0x95, 0x13,                         /* magic */
    0x00, 0x09,                                     /* FUA, REQ_ONE */
    0x00, 0x07,                                     /* BLOCK_STATUS */
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, /* cookie */
    0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, /* offset */
    0xf1, 0xf2, 0xf3, 0xf4,                         /* length */
};

static const uint8_t extended_bytes[NBD_EXTENDED_REQUEST_SIZE] = {
    0x21, 0xe4, 0x1c, 0x71,                         /* magic */
    0x00, 0x20,                                     /* PAYLOAD_LEN */
    0x00, 0x01,                                     /* WRITE */
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, /* cookie */
    0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, /* offset */
    0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, /* length */
};

static void decodes_compact_requests(void **state)
{
    struct nbd_request request;

    (void)state;
    assert_true(nbd_request_decode(compact_bytes, false, &request));
    assert_int_equal(request.flags, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE);
    assert_int_equal(request.type, NBD_CMD_BLOCK_STATUS);
    assert_int_equal(request.cookie, 0x0102030405060708);
    assert_int_equal(request.offset, 0x1112131415161718);
    assert_int_equal(request.length, 0xf1f2f3f4);
}

static void decodes_extended_requests(void **state)
{
    struct nbd_request request;

    (void)state;
    assert_true(nbd_request_decode(extended_bytes, true, &request));
    assert_int_equal(request.flags, NBD_CMD_FLAG_PAYLOAD_LEN);
    assert_int_equal(request.type, NBD_CMD_WRITE);
    assert_int_equal(request.cookie, 0x0102030405060708);
    assert_int_equal(request.offset, 0x1112131415161718);
    assert_int_equal(request.length, 0xf1f2f3f4f5f6f7f8);
}

static void refuses_any_other_magic(void **state)
{
    uint8_t bytes[NBD_EXTENDED_REQUEST_SIZE];
    struct nbd_request request = {.cookie = 77};

    (void)state;
    assert_false(nbd_request_decode(extended_bytes, false, &request));
    memcpy(bytes, compact_bytes, sizeof compact_bytes);
    memset(bytes + sizeof compact_bytes, 0, 4);
    assert_false(nbd_request_decode(bytes, true, &request));
    for (unsigned bit = 0; bit < 32; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(nbd_request_decode(bytes, false, &request));
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(request.cookie, 77);
}

static void reads_at_any_address(void **state)
{
    uint8_t bytes[NBD_EXTENDED_REQUEST_SIZE + 8];
    struct nbd_request request;

    (void)state;
    for (size_t shift = 0; shift < 8; shift++) {
        memcpy(bytes + shift, extended_bytes, sizeof extended_bytes);
        assert_true(nbd_request_decode(bytes + shift, true, &request));
        assert_int_equal(request.length, 0xf1f2f3f4f5f6f7f8);
    }
}

static void encodes_what_it_decodes(void **state)
{
    uint8_t bytes[NBD_EXTENDED_REQUEST_SIZE + 1];
    struct nbd_request request;

    (void)state;
    memset(bytes, '#', sizeof bytes);
    assert_true(nbd_request_decode(compact_bytes, false, &request));
    assert_int_equal(nbd_request_encode(&request, false, bytes),
                     NBD_REQUEST_SIZE);
    assert_memory_equal(bytes, compact_bytes, NBD_REQUEST_SIZE);
    assert_int_equal(bytes[NBD_REQUEST_SIZE], '#');
    assert_true(nbd_request_decode(extended_bytes, true, &request));
    assert_int_equal(nbd_request_encode(&request, true, bytes),
                     NBD_EXTENDED_REQUEST_SIZE);
    assert_memory_equal(bytes, extended_bytes, NBD_EXTENDED_REQUEST_SIZE);
    assert_int_equal(bytes[NBD_EXTENDED_REQUEST_SIZE], '#');
}

static void encodes_simple_replies(void **state)
{
    static const uint8_t expected[NBD_SIMPLE_REPLY_SIZE] = {
        0x67, 0x44, 0x66, 0x98, 0x00, 0x00, 0x00, 0x1c,
        0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
    };
    uint8_t bytes[NBD_SIMPLE_REPLY_SIZE];

    (void)state;
    assert_int_equal(
        nbd_simple_reply_encode(0x0102030405060708, NBD_ENOSPC, bytes),
        NBD_SIMPLE_REPLY_SIZE);
    assert_memory_equal(bytes, expected, sizeof expected);
}

static void encodes_structured_chunks(void **state)
{
    static const uint8_t expected[NBD_STRUCTURED_REPLY_SIZE] = {
        0x66, 0x8e, 0x33, 0xef, 0x00, 0x01, 0x80, 0x01, 0x01, 0x02,
        0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x00, 0x01, 0x00, 0x0c,
    };
    uint8_t bytes[NBD_EXTENDED_REPLY_SIZE];

    (void)state;
    memset(bytes, '#', sizeof bytes);
    assert_int_equal(nbd_chunk_encode(NBD_STRUCTURED, NBD_REPLY_FLAG_DONE,
                                      NBD_REPLY_TYPE_ERROR, 0x0102030405060708,
                                      0x1112131415161718, 0x1000c, bytes),
                     NBD_STRUCTURED_REPLY_SIZE);
    assert_memory_equal(bytes, expected, sizeof expected);
    assert_int_equal(bytes[NBD_STRUCTURED_REPLY_SIZE], '#');
}

static void encodes_extended_chunks(void **state)
{
    static const uint8_t expected[NBD_EXTENDED_REPLY_SIZE] = {
        0x6e, 0x8a, 0x27, 0x8c, 0x00, 0x00, 0x00, 0x06, 0x01, 0x02, 0x03,
        0x04, 0x05, 0x06, 0x07, 0x08, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16,
        0x17, 0x18, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x01,
    };
    uint8_t bytes[NBD_EXTENDED_REPLY_SIZE];

    (void)state;
    assert_int_equal(nbd_chunk_encode(NBD_EXTENDED, 0,
                                      NBD_REPLY_TYPE_BLOCK_STATUS_EXT,
                                      0x0102030405060708, 0x1112131415161718,
                                      0x200000001, bytes),
                     NBD_EXTENDED_REPLY_SIZE);
    assert_memory_equal(bytes, expected, sizeof expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_compact_requests),
        cmocka_unit_test(decodes_extended_requests),
        cmocka_unit_test(refuses_any_other_magic),
        cmocka_unit_test(reads_at_any_address),
        cmocka_unit_test(encodes_what_it_decodes),
        cmocka_unit_test(encodes_simple_replies),
        cmocka_unit_test(encodes_structured_chunks),
        cmocka_unit_test(encodes_extended_chunks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
