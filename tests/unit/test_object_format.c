/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The format: what is written is what the document says, byte for byte, and
 * what is wrong in any place is refused (I17). */
#include "plugins/object/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/crc32c.h"

static const uint8_t uuid[UUID_SIZE] = {0, 1, 2,  3,  4,  5,  6,  7,
                                        8, 9, 10, 11, 12, 13, 14, 0xff};
#define UUID_TEXT "000102030405060708090a0b0c0d0eff"

static struct log_header header_of(enum log_kind kind)
{
    struct log_header header = {
        .kind = kind,
        .block_size = BLOCK_SIZE,
        .epoch = 0x01020304,
        .entries = kind == LOG_DATA ? 2 : 0,
        .seq = 0x1112131415161718,
        .table_bytes = kind == LOG_DATA ? 2 * LOG_ENTRY_SIZE : 0,
        .payload_offset = kind == LOG_DATA ? 208 : 128,
        .size = kind == LOG_DATA ? 208 + 3 * UNIT_SIZE : 128,
        .previous_crc = 0x21222324,
        .fence = kind == LOG_FENCE ? 0x31323334 : 0,
        .time_ms = 0x4142434445464748,
        .table_crc = 0x51525354,
    };

    memcpy(header.uuid, uuid, UUID_SIZE);
    memset(header.session, 0x77, UUID_SIZE);
    return header;
}

static void names_are_as_documented(void **state)
{
    char name[NAME_SIZE];
    uint32_t epoch;
    uint64_t seq;
    uint8_t parsed[UUID_SIZE];

    (void)state;
    name_volume(name);
    assert_string_equal(name, "volume");
    name_epoch(name, uuid, 0xabc);
    assert_string_equal(name, UUID_TEXT "/epoch/00000abc");
    assert_true(name_parse_epoch(name, uuid, &epoch));
    assert_int_equal(epoch, 0xabc);
    name_log(name, uuid, 1, 0x123456789a);
    assert_string_equal(name, UUID_TEXT "/log/00000001/000000123456789a");
    assert_true(name_parse_log(name, uuid, &epoch, &seq));
    assert_int_equal(epoch, 1);
    assert_int_equal(seq, 0x123456789a);
    assert_false(name_parse_epoch(name, uuid, &epoch));
    assert_false(name_parse_log(UUID_TEXT "/log/00000001/000000123456789A",
                                uuid, &epoch, &seq));
    assert_false(name_parse_log(UUID_TEXT "/log/00000001-000000123456789a",
                                uuid, &epoch, &seq));
    assert_false(name_parse_epoch(UUID_TEXT "/epoch/00000abc0", uuid, &epoch));
    assert_true(uuid_parse(UUID_TEXT, parsed));
    assert_memory_equal(parsed, uuid, UUID_SIZE);
    assert_false(uuid_parse(UUID_TEXT "0", parsed));
    assert_false(uuid_parse("0001020304050607 8090a0b0c0d0eff", parsed));
}

static void a_header_byte_for_byte(void **state)
{
    static const uint8_t expected[124] = {
        'A',  'B',  'D',  'L',  'O',  'G',  '1',  '\n', 1,    0,    1,    0,
        0,    16,   0,    0,    0,    1,    2,    3,    4,    5,    6,    7,
        8,    9,    10,   11,   12,   13,   14,   0xff, 4,    3,    2,    1,
        2,    0,    0,    0,    0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
        0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77,
        0x77, 0x77, 0x77, 0x77, 80,   0,    0,    0,    208,  0,    0,    0,
        0xe8, 0x30, 0,    0,    0,    0,    0,    0,    0x24, 0x23, 0x22, 0x21,
        0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,
        0,    0,    0,    0,    0,    0,    0,    0,    0x48, 0x47, 0x46, 0x45,
        0x44, 0x43, 0x42, 0x41, 0x54, 0x53, 0x52, 0x51, 0,    0,    0,    0,
        0,    0,    0,    0};
    struct log_header header = header_of(LOG_DATA), back;
    uint8_t bytes[LOG_HEADER_SIZE], again[LOG_HEADER_SIZE];

    (void)state;
    log_header_encode(&header, bytes);
    assert_memory_equal(bytes, expected, sizeof expected);
    assert_int_equal(load_le32(bytes + 124), crc32c(0, bytes, 124));
    assert_null(log_header_decode(bytes, &back));
    log_header_encode(&back, again);
    assert_memory_equal(again, bytes, sizeof bytes);
    header = header_of(LOG_FENCE);
    log_header_encode(&header, bytes);
    assert_null(log_header_decode(bytes, &back));
    log_header_encode(&back, again);
    assert_memory_equal(again, bytes, sizeof bytes);
}

/* Sets a field and makes the CRC right. */
static const char *decode_with(enum log_kind kind, unsigned at, unsigned size,
                               uint64_t value)
{
    struct log_header header = header_of(kind), back;
    uint8_t bytes[LOG_HEADER_SIZE];

    log_header_encode(&header, bytes);
    for (unsigned i = 0; i < size; i++)
        bytes[at + i] = (uint8_t)(value >> 8 * i);
    store_le32(bytes + 124, crc32c(0, bytes, 124));
    return log_header_decode(bytes, &back);
}

static void wrong_headers_are_refused(void **state)
{
    static const struct {
        unsigned at, size;
        uint64_t value;
    } wrong[] = {
        {0, 1, 'a'},  {8, 2, 2},    {10, 1, 0},
        {10, 1, 3},   {11, 1, 1},   {12, 4, 512},
        {32, 4, 0},   {36, 4, 3},   {40, 8, 0},
        {64, 4, 120}, {68, 4, 200}, {68, 4, 209},
        {68, 4, 120}, {72, 8, 207}, {72, 8, ~UINT64_C(0)},
        {84, 4, 5},   {88, 1, 1},   {103, 1, 1},
        {116, 8, 1},
    };
    struct log_header header = header_of(LOG_DATA), back;
    uint8_t bytes[LOG_HEADER_SIZE];

    (void)state;
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (!decode_with(LOG_DATA, wrong[i].at, wrong[i].size, wrong[i].value))
            fail_msg("%u at %u is not refused", (unsigned)wrong[i].value,
                     wrong[i].at);
    assert_non_null(decode_with(LOG_FENCE, 84, 4, 0));
    assert_non_null(decode_with(LOG_FENCE, 36, 4, 1));
    /* Each single bit is noticed. */
    for (unsigned bit = 0; bit < LOG_HEADER_SIZE * 8; bit++) {
        log_header_encode(&header, bytes);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_non_null(log_header_decode(bytes, &back));
    }
}

static void entries(void **state)
{
    struct log_header header = header_of(LOG_DATA);
    struct log_entry entry = {LOG_WRITE, 1000, 3, 208 / 8, 3 * UNIT_SIZE}, back;
    uint8_t bytes[LOG_ENTRY_SIZE], changed[LOG_ENTRY_SIZE];
    static const uint8_t expected[LOG_ENTRY_SIZE] = {
        0xe8, 3, 0, 0, 0,  0, 0, 0, 3,    0,    0, 0,
        1,    0, 0, 0, 26, 0, 0, 0, 0x18, 0x30, 0, 0};

    (void)state;
    log_entry_encode(&entry, bytes);
    assert_memory_equal(bytes, expected, sizeof expected);
    assert_null(log_entry_decode(bytes, &header, 1003, &back));
    log_entry_encode(&back, changed);
    assert_memory_equal(changed, bytes, sizeof bytes);
    /* Outside of the volume, and of the object. */
    assert_non_null(log_entry_decode(bytes, &header, 1002, &back));
    header.size--;
    assert_non_null(log_entry_decode(bytes, &header, 1003, &back));
    header.size++;
    header.payload_offset += 8;
    assert_non_null(log_entry_decode(bytes, &header, 1003, &back));
    header.payload_offset -= 8;
    /* No other byte may differ without a reason. */
    for (unsigned at = 8; at < LOG_ENTRY_SIZE; at++) {
        memcpy(changed, bytes, sizeof changed);
        changed[at] ^= 0x40;
        assert_non_null(log_entry_decode(changed, &header, 1003, &back));
    }
    for (unsigned op = 0; op < 256; op++) {
        memset(changed, 0, sizeof changed);
        changed[8] = 1;
        changed[12] = (uint8_t)op;
        if (op == LOG_ZERO || op == LOG_TRIM)
            assert_null(log_entry_decode(changed, &header, 1003, &back));
        else
            assert_non_null(log_entry_decode(changed, &header, 1003, &back));
    }
    memset(changed, 0, sizeof changed);
    changed[12] = LOG_CLOSE;
    assert_null(log_entry_decode(changed, &header, 1003, &back));
}

static void units_know_their_place(void **state)
{
    uint8_t unit[UNIT_SIZE];

    (void)state;
    for (unsigned i = 0; i < BLOCK_SIZE; i++)
        unit[i] = (uint8_t)(i * 7);
    unit_seal(unit + BLOCK_SIZE, unit_check(uuid, 5, 9, unit));
    assert_true(unit_verify(unit, uuid, 5, 9));
    assert_false(unit_verify(unit, uuid, 5, 10));
    assert_false(unit_verify(unit, uuid, 6, 9));
    for (unsigned bit = 0; bit < UNIT_SIZE * 8; bit += 13) {
        unit[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(unit_verify(unit, uuid, 5, 9));
        unit[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

/* --- JSON --- */

static const char good[] =
    "{\"format\":0,\"uuid\":\"" UUID_TEXT
    "\",\"size\":8192,\"block_size\":4096,\"object_size\":65536,"
    "\"compression\":null,\"encryption\":null,\"reader_features\":[],"
    "\"writer_features\":[],\"ancestors\":[]}";

static char *replaced(const char *text, const char *old, const char *new)
{
    const char *at = strstr(text, old);
    char *result = malloc(strlen(text) + strlen(new) + 1);

    assert_non_null(at);
    assert_non_null(result);
    memcpy(result, text, (size_t)(at - text));
    strcpy(result + (at - text), new);
    strcat(result, at + strlen(old));
    return result;
}

static void superblocks(void **state)
{
    static const char *const wrong[][2] = {
        {"\"format\":0", "\"format\":1"},
        {"\"format\":0", "\"format\":-1"},
        {"\"format\":0", "\"format\":\"0\""},
        {"\"format\":0,", ""},
        {"\"format\":0", "\"format\":0,\"format\":0"},
        {"\"format\":0", "\"format\":0,\"new\":0"},
        {"0001", "000g"},
        {"0001", "00010"},
        {"8192", "8193"},
        {"8192", "0"},
        {"8192", "9223372036854775808"},
        {"8192", "8192.5"},
        {"4096", "512"},
        {"65536", "61440"},
        {"65536", "268439552"},
        {"\"compression\":null", "\"compression\":\"zstd\""},
        {"\"encryption\":null", "\"encryption\":{}"},
        {"\"reader_features\":[]", "\"reader_features\":[\"x\"]"},
        {"\"writer_features\":[]", "\"writer_features\":[\"x\"]"},
        {"\"ancestors\":[]", "\"ancestors\":[1]"},
        {"{", "["},
        {"}", ""},
    };
    struct superblock superblock;
    char *text;

    (void)state;
    assert_null(superblock_decode(good, strlen(good), &superblock));
    assert_memory_equal(superblock.uuid, uuid, UUID_SIZE);
    assert_int_equal(superblock.size, 8192);
    assert_int_equal(superblock.object_size, 65536);
    text = superblock_encode(&superblock);
    assert_string_equal(text, good);
    free(text);
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        text = replaced(good, wrong[i][0], wrong[i][1]);
        if (!superblock_decode(text, strlen(text), &superblock))
            fail_msg("%s is not refused", text);
        free(text);
    }
}

/* What is said names the member; of a later format that it is one, whatever
 * else is in it. */
static void faults_are_named(void **state)
{
    static const char *const wrong[][3] = {
        {"\"format\":0,", "\"format\":7,\"new\":{},", "a format"},
        {"\"size\":8192,", "", "\"size\" is missing"},
        {"\"size\":8192", "\"size\":8192,\"new\":0", "\"new\" is not known"},
        {"\"size\":8192", "\"size\":8192,\"size\":1",
         "\"size\" is there twice"},
        {"\"size\":8192", "\"size\":\"x\"", "\"size\" is of a wrong type"},
        {"\"size\":8192", "\"size\":-1", "\"size\" is negative"},
        {"\"ancestors\":[]", "\"ancestors\":[1]", "\"ancestors\" names"},
        {"\"uuid\":\"", "\"uuid\":\"0", "\"uuid\" is too long"},
    };
    struct superblock superblock;

    (void)state;
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char *text = replaced(good, wrong[i][0], wrong[i][1]);
        const char *fault = superblock_decode(text, strlen(text), &superblock);

        if (!fault || !strstr(fault, wrong[i][2]))
            fail_msg("%s: %s", text, fault ? fault : "not refused");
        free(text);
    }
}

static void a_fence_is_nothing_else(void **state)
{
    struct log_header header = header_of(LOG_FENCE), back;
    uint8_t bytes[LOG_HEADER_SIZE];

    (void)state;
    log_header_encode(&header, bytes);
    assert_null(log_header_decode(bytes, &back));
    header.size += 8;
    log_header_encode(&header, bytes);
    assert_non_null(strstr(log_header_decode(bytes, &back), "payload"));
}

static void claims(void **state)
{
    struct claim claim = {.epoch = 7,
                          .purpose = CLAIM_DELETE,
                          .host = "a host",
                          .boot_id = "b",
                          .program = "abdkit",
                          .pid = 12,
                          .time_ms = 99},
                 back;
    char *text, *other;

    (void)state;
    memcpy(claim.session, uuid, UUID_SIZE);
    text = claim_encode(&claim);
    memset(&back, 0, sizeof back);
    assert_null(claim_decode(text, strlen(text), &back));
    assert_int_equal(back.epoch, 7);
    assert_int_equal(back.purpose, CLAIM_DELETE);
    assert_memory_equal(back.session, uuid, UUID_SIZE);
    assert_string_equal(back.host, "a host");
    other = replaced(text, "delete", "read");
    assert_non_null(claim_decode(other, strlen(other), &back));
    free(other);
    other = replaced(text, "\"epoch\":7", "\"epoch\":0");
    assert_non_null(claim_decode(other, strlen(other), &back));
    free(other);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_as_documented),
        cmocka_unit_test(a_header_byte_for_byte),
        cmocka_unit_test(wrong_headers_are_refused),
        cmocka_unit_test(entries),
        cmocka_unit_test(units_know_their_place),
        cmocka_unit_test(superblocks),
        cmocka_unit_test(claims),
        cmocka_unit_test(faults_are_named),
        cmocka_unit_test(a_fence_is_nothing_else),
    };

    return cmocka_run_group_tests_name("object format", tests, NULL, NULL);
}
