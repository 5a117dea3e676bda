/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The handshake's messages: encoders against bytes written out by hand, parsers
 * against every way in which lengths can lie.
 *
 * Parsers get their data in a heap block of exactly its size, so that a
 * sanitizer or valgrind sees a byte read too much. */
#include "wire/option.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"

/* Data of an option under construction. */
struct data {
    uint8_t bytes[300000];
    uint32_t length;
};

static void put(struct data *data, const void *bytes, size_t length)
{
    assert_true(length <= sizeof data->bytes - data->length);
    memcpy(data->bytes + data->length, bytes, length);
    data->length += (uint32_t)length;
}

static void put_u16(struct data *data, uint16_t value)
{
    uint8_t bytes[2];

    store_be16(bytes, value);
    put(data, bytes, sizeof bytes);
}

static void put_u32(struct data *data, uint32_t value)
{
    uint8_t bytes[4];

    store_be32(bytes, value);
    put(data, bytes, sizeof bytes);
}

static void put_string(struct data *data, const char *text)
{
    put_u32(data, (uint32_t)strlen(text));
    put(data, text, strlen(text));
}

static void put_long_string(struct data *data, uint32_t length)
{
    put_u32(data, length);
    for (uint32_t i = 0; i < length; i++)
        put(data, "n", 1);
}

static struct data *new_data(void)
{
    struct data *data = calloc(1, sizeof *data);

    assert_non_null(data);
    return data;
}

static uint8_t *exact_copy(const struct data *data, uint32_t length)
{
    uint8_t *copy = malloc(length ? length : 1);

    assert_non_null(copy);
    memcpy(copy, data->bytes, length);
    return copy;
}

static enum nbd_parsed parse_info(const struct data *data)
{
    struct nbd_info_request request = {.wanted = 0xabcdef};
    uint8_t *copy = exact_copy(data, data->length);
    enum nbd_parsed parsed =
        nbd_info_request_parse(copy, data->length, &request);

    free(copy);
    /* A failure leaves the result alone. */
    assert_int_equal(request.wanted == 0xabcdef, parsed != NBD_PARSED);
    return parsed;
}

static enum nbd_parsed parse_meta(const struct data *data)
{
    struct nbd_meta_request request = {.queries = 0xabcdef};
    uint8_t *copy = exact_copy(data, data->length);
    enum nbd_parsed parsed =
        nbd_meta_request_parse(copy, data->length, &request);

    free(copy);
    assert_int_equal(request.queries == 0xabcdef, parsed != NBD_PARSED);
    return parsed;
}

static void assert_string(struct nbd_string string, const char *expected)
{
    assert_int_equal(string.length, strlen(expected));
    assert_memory_equal(string.text, expected, string.length);
}

static void encodes_greetings(void **state)
{
    static const uint8_t newstyle[NBD_GREETING_SIZE] = "NBDMAGICIHAVEOPT\0\3";
    static const uint8_t oldstyle[28] = {
        'N',  'B',  'D',  'M',  'A',  'G',  'I',  'C',  0x00, 0x00,
        0x42, 0x02, 0x81, 0x86, 0x12, 0x53, 0x01, 0x02, 0x03, 0x04,
        0x05, 0x06, 0x07, 0x08, 0x00, 0x00, 0x01, 0x05,
    };
    static const uint8_t zeroes[124];
    uint8_t bytes[NBD_OLDSTYLE_GREETING_SIZE + 1];

    (void)state;
    memset(bytes, '#', sizeof bytes);
    nbd_greeting_encode(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES, bytes);
    assert_memory_equal(bytes, newstyle, sizeof newstyle);
    assert_int_equal(bytes[NBD_GREETING_SIZE], '#');
    nbd_oldstyle_greeting_encode(0x0102030405060708, 0x0105, bytes);
    assert_memory_equal(bytes, oldstyle, sizeof oldstyle);
    assert_memory_equal(bytes + sizeof oldstyle, zeroes, sizeof zeroes);
    assert_int_equal(bytes[NBD_OLDSTYLE_GREETING_SIZE], '#');
}

static void decodes_option_headers(void **state)
{
    uint8_t bytes[NBD_OPTION_SIZE] = {
        'I',  'H',  'A',  'V',  'E',  'O',  'P',  'T',
        0x00, 0x00, 0x00, 0x07, 0xff, 0x00, 0x00, 0x01,
    };
    struct nbd_option_header header = {.option = 77};

    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(nbd_option_decode(bytes, &header));
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(header.option, 77);
    assert_true(nbd_option_decode(bytes, &header));
    assert_int_equal(header.option, NBD_OPT_GO);
    assert_int_equal(header.length, 0xff000001);
}

static void encodes_replies(void **state)
{
    static const uint8_t reply[NBD_OPTION_REPLY_SIZE] = {
        0x00, 0x03, 0xe8, 0x89, 0x04, 0x55, 0x65, 0xa9, 0x00, 0x00,
        0x00, 0x07, 0x80, 0x00, 0x00, 0x06, 0x00, 0x00, 0x01, 0x02,
    };
    static const uint8_t export_name[10] = {
        0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x01, 0x05,
    };
    static const uint8_t zeroes[124];
    uint8_t bytes[NBD_EXPORT_NAME_REPLY_SIZE + 1];

    (void)state;
    memset(bytes, '#', sizeof bytes);
    nbd_option_reply_encode(NBD_OPT_GO, NBD_REP_ERR_UNKNOWN, 0x102, bytes);
    assert_memory_equal(bytes, reply, sizeof reply);
    assert_int_equal(bytes[NBD_OPTION_REPLY_SIZE], '#');
    assert_int_equal(
        nbd_export_name_reply_encode(0x0102030405060708, 0x0105, true, bytes),
        10);
    assert_memory_equal(bytes, export_name, 10);
    assert_int_equal(bytes[NBD_OPTION_REPLY_SIZE], '#');
    assert_int_equal(
        nbd_export_name_reply_encode(0x0102030405060708, 0x0105, false, bytes),
        NBD_EXPORT_NAME_REPLY_SIZE);
    assert_memory_equal(bytes, export_name, 10);
    assert_memory_equal(bytes + 10, zeroes, sizeof zeroes);
    assert_int_equal(bytes[NBD_EXPORT_NAME_REPLY_SIZE], '#');
}

static void encodes_informations(void **state)
{
    static const uint8_t export[12] = {
        0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x01, 0x05,
    };
    static const uint8_t block_size[14] = {
        0x00, 0x03, 0x00, 0x00, 0x02, 0x00, 0x00,
        0x00, 0x10, 0x00, 0x04, 0x00, 0x00, 0x00,
    };
    uint8_t bytes[15];

    (void)state;
    memset(bytes, '#', sizeof bytes);
    assert_int_equal(nbd_info_export_encode(0x0102030405060708, 0x0105, bytes),
                     12);
    assert_memory_equal(bytes, export, 12);
    assert_int_equal(bytes[12], '#');
    assert_int_equal(nbd_info_block_size_encode(512, 4096, 64 << 20, bytes),
                     14);
    assert_memory_equal(bytes, block_size, 14);
    assert_int_equal(bytes[14], '#');
}

static void parses_info_requests_and_skips_unknown_ones(void **state)
{
    struct data *data = new_data();
    struct nbd_info_request request;

    (void)state;
    put_string(data, "gr\xc3\xbc\xc3\x9f");
    put_u16(data, 6);
    put_u16(data, NBD_INFO_BLOCK_SIZE);
    put_u16(data, 4);
    put_u16(data, 32);
    put_u16(data, 0xffff);
    put_u16(data, NBD_INFO_NAME);
    put_u16(data, NBD_INFO_NAME);
    assert_int_equal(
        nbd_info_request_parse(data->bytes, data->length, &request),
        NBD_PARSED);
    assert_string(request.name, "gr\xc3\xbc\xc3\x9f");
    assert_ptr_equal(request.name.text, data->bytes + 4);
    assert_int_equal(request.wanted,
                     1 << NBD_INFO_BLOCK_SIZE | 1 << NBD_INFO_NAME);
    free(data);
}

static void parses_the_shortest_requests(void **state)
{
    struct data *data = new_data();
    struct nbd_info_request info = {.wanted = 1};
    struct nbd_meta_request meta = {.queries = 1};

    (void)state;
    put_u32(data, 0);
    put_u16(data, 0);
    assert_int_equal(nbd_info_request_parse(data->bytes, data->length, &info),
                     NBD_PARSED);
    assert_int_equal(info.name.length, 0);
    assert_int_equal(info.wanted, 0);
    put_u16(data, 0);
    assert_int_equal(nbd_meta_request_parse(data->bytes, data->length, &meta),
                     NBD_PARSED);
    assert_int_equal(meta.name.length, 0);
    assert_int_equal(meta.queries, 0);
    free(data);
}

static void parses_meta_requests(void **state)
{
    struct data *data = new_data();
    struct nbd_meta_request request;

    (void)state;
    put_string(data, "db1");
    put_u32(data, 3);
    put_string(data, "base:");
    put_string(data, "");
    put_string(data, "base:allocation");
    assert_int_equal(
        nbd_meta_request_parse(data->bytes, data->length, &request),
        NBD_PARSED);
    assert_string(request.name, "db1");
    assert_int_equal(request.queries, 3);
    assert_string(nbd_meta_request_next(&request), "base:");
    assert_string(nbd_meta_request_next(&request), "");
    assert_string(nbd_meta_request_next(&request), "base:allocation");
    free(data);
}

/* Every start of a good request is a bad one, and so is one with more behind
 * it. */
static void refuses_requests_cut_anywhere_or_too_long(void **state)
{
    struct data *info = new_data(), *meta = new_data();

    (void)state;
    put_string(info, "name");
    put_u16(info, 2);
    put_u16(info, 1);
    put_u16(info, 3);
    put_string(meta, "name");
    put_u32(meta, 2);
    put_string(meta, "base:allocation");
    put_string(meta, "x:y");
    assert_int_equal(parse_info(info), NBD_PARSED);
    assert_int_equal(parse_meta(meta), NBD_PARSED);
    put(info, "", 1);
    put(meta, "", 1);
    assert_int_equal(parse_info(info), NBD_PARSED_INVALID);
    assert_int_equal(parse_meta(meta), NBD_PARSED_INVALID);
    for (info->length -= 2; info->length > 0; info->length--)
        assert_int_equal(parse_info(info), NBD_PARSED_INVALID);
    for (meta->length -= 2; meta->length > 0; meta->length--)
        assert_int_equal(parse_meta(meta), NBD_PARSED_INVALID);
    assert_int_equal(parse_info(info), NBD_PARSED_INVALID);
    assert_int_equal(parse_meta(meta), NBD_PARSED_INVALID);
    free(info);
    free(meta);
}

/* Lengths that would come out small if they were added to something. */
static void refuses_lengths_that_would_overflow(void **state)
{
    static const uint32_t lengths[] = {
        7,          0x7fffffff, 0x80000000, 0xfffffff6, 0xfffffff9,
        0xfffffffa, 0xfffffffb, 0xfffffffc, 0xfffffffe, 0xffffffff,
    };

    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct data *data = new_data();

        put_u32(data, lengths[i]);
        put_u16(data, 0);
        put_u32(data, 0);
        assert_int_equal(parse_info(data), NBD_PARSED_INVALID);
        assert_int_equal(parse_meta(data), NBD_PARSED_INVALID);
        data->length = 0;
        put_string(data, "n");
        put_u32(data, 1);
        put_u32(data, lengths[i]);
        put(data, "query", 5);
        assert_int_equal(parse_meta(data), NBD_PARSED_INVALID);
        data->length = 0;
        put_string(data, "n");
        put_u32(data, lengths[i]); /* the number of queries */
        put_string(data, "query");
        assert_int_equal(parse_meta(data), NBD_PARSED_INVALID);
        free(data);
    }
}

static void a_count_must_be_that_of_the_requests(void **state)
{
    struct data *data = new_data();

    (void)state;
    put_string(data, "n");
    put_u16(data, 2);
    put_u16(data, 1);
    assert_int_equal(parse_info(data), NBD_PARSED_INVALID);
    data->bytes[6] = 0;
    assert_int_equal(parse_info(data), NBD_PARSED_INVALID);
    data->bytes[6] = 1;
    assert_int_equal(parse_info(data), NBD_PARSED);
    free(data);
}

static void takes_as_many_parts_as_fit(void **state)
{
    struct data *data = new_data();

    (void)state;
    put_string(data, "n");
    put_u16(data, 0xffff);
    for (unsigned i = 0; i < 0xffff; i++)
        put_u16(data, (uint16_t)i);
    assert_int_equal(parse_info(data), NBD_PARSED);
    data->length = 0;
    put_string(data, "n");
    put_u32(data, 60000);
    for (unsigned i = 0; i < 60000; i++)
        put_u32(data, 0);
    assert_int_equal(parse_meta(data), NBD_PARSED);
    free(data);
}

static void strings_end_at_the_protocols_limit(void **state)
{
    struct data *data = new_data();

    (void)state;
    put_long_string(data, NBD_MAX_STRING);
    put_u16(data, 0);
    assert_int_equal(parse_info(data), NBD_PARSED);
    put_u16(data, 0);
    assert_int_equal(parse_meta(data), NBD_PARSED);
    data->length = 0;
    put_long_string(data, NBD_MAX_STRING + 1);
    put_u16(data, 0);
    assert_int_equal(parse_info(data), NBD_PARSED_TOO_BIG);
    put_u16(data, 0);
    assert_int_equal(parse_meta(data), NBD_PARSED_TOO_BIG);
    data->length = 0;
    put_string(data, "n");
    put_u32(data, 2);
    put_long_string(data, NBD_MAX_STRING);
    put_long_string(data, NBD_MAX_STRING);
    assert_int_equal(parse_meta(data), NBD_PARSED);
    data->length = 0;
    put_string(data, "n");
    put_u32(data, 2);
    put_string(data, "base:");
    put_long_string(data, NBD_MAX_STRING + 1);
    assert_int_equal(parse_meta(data), NBD_PARSED_TOO_BIG);
    free(data);
}

static void strings_are_utf8_without_nul(void **state)
{
    static const char *const bad[] = {"\xff\xff", "\xc3(", "a\xc3", "\0a"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct data *data = new_data();

        put_u32(data, 2);
        put(data, bad[i], 2);
        put_u16(data, 0);
        assert_int_equal(parse_info(data), NBD_PARSED_INVALID);
        put_u16(data, 0);
        assert_int_equal(parse_meta(data), NBD_PARSED_INVALID);
        data->length = 0;
        put_string(data, "n");
        put_u32(data, 1);
        put_u32(data, 2);
        put(data, bad[i], 2);
        assert_int_equal(parse_meta(data), NBD_PARSED_INVALID);
        free(data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes_greetings),
        cmocka_unit_test(decodes_option_headers),
        cmocka_unit_test(encodes_replies),
        cmocka_unit_test(encodes_informations),
        cmocka_unit_test(parses_info_requests_and_skips_unknown_ones),
        cmocka_unit_test(parses_the_shortest_requests),
        cmocka_unit_test(parses_meta_requests),
        cmocka_unit_test(refuses_requests_cut_anywhere_or_too_long),
        cmocka_unit_test(refuses_lengths_that_would_overflow),
        cmocka_unit_test(a_count_must_be_that_of_the_requests),
        cmocka_unit_test(takes_as_many_parts_as_fit),
        cmocka_unit_test(strings_end_at_the_protocols_limit),
        cmocka_unit_test(strings_are_utf8_without_nul),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
