/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Log objects: header, table, units.  See format.h. */
#include "format.h"

#include "base/bytes.h"
#include "base/crc32c.h"

#include <string.h>

#define MAGIC   "ABDLOG1\n"
#define VERSION 1

/* Where the fields are. */
enum {
    AT_VERSION = 8,
    AT_KIND = 10,
    AT_CIPHER = 11,
    AT_BLOCK_SIZE = 12,
    AT_UUID = 16,
    AT_EPOCH = 32,
    AT_ENTRIES = 36,
    AT_SEQ = 40,
    AT_SESSION = 48,
    AT_TABLE_BYTES = 64,
    AT_PAYLOAD = 68,
    AT_SIZE = 72,
    AT_PREVIOUS = 80,
    AT_FENCE = 84,
    AT_SALT = 88,
    AT_TIME = 104,
    AT_TABLE_CRC = 112,
    AT_JOURNAL = 116,
    AT_CRC = 124,
};

void log_header_encode(struct log_header *header, uint8_t to[LOG_HEADER_SIZE])
{
    memset(to, 0, LOG_HEADER_SIZE);
    memcpy(to, MAGIC, 8);
    store_le16(to + AT_VERSION, VERSION);
    to[AT_KIND] = (uint8_t)header->kind;
    store_le32(to + AT_BLOCK_SIZE, header->block_size);
    memcpy(to + AT_UUID, header->uuid, UUID_SIZE);
    store_le32(to + AT_EPOCH, header->epoch);
    store_le32(to + AT_ENTRIES, header->entries);
    store_le64(to + AT_SEQ, header->seq);
    memcpy(to + AT_SESSION, header->session, UUID_SIZE);
    store_le32(to + AT_TABLE_BYTES, header->table_bytes);
    store_le32(to + AT_PAYLOAD, header->payload_offset);
    store_le64(to + AT_SIZE, header->size);
    store_le32(to + AT_PREVIOUS, header->previous_crc);
    store_le32(to + AT_FENCE, header->fence);
    store_le64(to + AT_TIME, header->time_ms);
    store_le32(to + AT_TABLE_CRC, header->table_crc);
    store_le64(to + AT_JOURNAL, header->journal);
    header->own_crc = crc32c(0, to, AT_CRC);
    store_le32(to + AT_CRC, header->own_crc);
}

static bool is_zero(const uint8_t *from, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (from[i])
            return false;
    return true;
}

static void take_fields(const uint8_t from[LOG_HEADER_SIZE],
                        struct log_header *ret)
{
    *ret = (struct log_header){
        .kind = from[AT_KIND],
        .block_size = load_le32(from + AT_BLOCK_SIZE),
        .epoch = load_le32(from + AT_EPOCH),
        .entries = load_le32(from + AT_ENTRIES),
        .seq = load_le64(from + AT_SEQ),
        .table_bytes = load_le32(from + AT_TABLE_BYTES),
        .payload_offset = load_le32(from + AT_PAYLOAD),
        .size = load_le64(from + AT_SIZE),
        .previous_crc = load_le32(from + AT_PREVIOUS),
        .fence = load_le32(from + AT_FENCE),
        .time_ms = load_le64(from + AT_TIME),
        .table_crc = load_le32(from + AT_TABLE_CRC),
        .journal = load_le64(from + AT_JOURNAL),
        .own_crc = load_le32(from + AT_CRC),
    };
    memcpy(ret->uuid, from + AT_UUID, UUID_SIZE);
    memcpy(ret->session, from + AT_SESSION, UUID_SIZE);
}

static const char *check_sizes(const struct log_header *header)
{
    uint64_t table_end = LOG_HEADER_SIZE + (uint64_t)header->table_bytes;

    if ((uint64_t)header->entries * LOG_ENTRY_SIZE != header->table_bytes)
        return "its table has another length than its entries";
    if (header->payload_offset % 8 || header->payload_offset < table_end)
        return "its payload begins at a wrong place";
    if (header->size < header->payload_offset || header->size > LOG_SIZE_MAX)
        return "its size is wrong";
    return NULL;
}

const char *log_header_decode(const uint8_t from[LOG_HEADER_SIZE],
                              struct log_header *ret)
{
    if (memcmp(from, MAGIC, 8) != 0)
        return "it does not begin as a log object does";
    if (crc32c(0, from, AT_CRC) != load_le32(from + AT_CRC))
        return "its header is damaged";
    if (load_le16(from + AT_VERSION) != VERSION)
        return "it is of a version that is not known";
    take_fields(from, ret);
    if (ret->kind != LOG_DATA && ret->kind != LOG_FENCE)
        return "it is of a kind that is not known";
    if (from[AT_CIPHER])
        return "it is encrypted in a way that is not known";
    if (ret->block_size != BLOCK_SIZE)
        return "its block size is not 4096";
    if (ret->epoch == 0 || ret->seq == 0)
        return "its epoch or its number is 0";
    if (ret->journal || !is_zero(from + AT_SALT, 16))
        return "something in its header must be 0 and is not";
    if (ret->kind == LOG_FENCE && (ret->fence == 0 || ret->entries != 0))
        return "a fence with a table, or without the next epoch";
    if (ret->kind == LOG_FENCE && ret->size != LOG_HEADER_SIZE)
        return "a fence with a payload";
    if (ret->kind == LOG_DATA && ret->fence)
        return "something in its header must be 0 and is not";
    return check_sizes(ret);
}

/* --- the table --- */

uint32_t log_table_crc(const uint8_t *table, uint64_t length)
{
    return crc32c(0, table, length);
}

const char *log_table_check(const struct log_header *header,
                            const uint8_t *table, uint64_t length)
{
    if (length != header->table_bytes ||
        log_table_crc(table, length) != header->table_crc)
        return "its table is damaged";
    return NULL;
}

void log_entry_encode(const struct log_entry *entry, uint8_t to[LOG_ENTRY_SIZE])
{
    memset(to, 0, LOG_ENTRY_SIZE);
    store_le64(to, entry->block);
    store_le32(to + 8, entry->count);
    to[12] = (uint8_t)entry->op;
    store_le32(to + 16, entry->offset);
    store_le32(to + 20, entry->stored);
}

static const char *check_range(const struct log_header *header,
                               const struct log_entry *entry, uint64_t blocks)
{
    uint64_t at = (uint64_t)entry->offset * 8;

    if (entry->count == 0 || entry->block > blocks ||
        entry->count > blocks - entry->block)
        return "an entry lies outside of the volume";
    if (entry->op != LOG_WRITE)
        return entry->offset || entry->stored
                   ? "an entry without data has a place"
                   : NULL;
    if ((uint64_t)entry->count * UNIT_SIZE != entry->stored)
        return "an entry's data is of a wrong length";
    if (at < header->payload_offset || at > header->size ||
        entry->stored > header->size - at)
        return "an entry's data lies outside of the object";
    return NULL;
}

const char *log_entry_decode(const uint8_t from[LOG_ENTRY_SIZE],
                             const struct log_header *header, uint64_t blocks,
                             struct log_entry *ret)
{
    *ret = (struct log_entry){
        .op = from[12],
        .block = load_le64(from),
        .count = load_le32(from + 8),
        .offset = load_le32(from + 16),
        .stored = load_le32(from + 20),
    };
    if (from[13] || !is_zero(from + 14, 2) || !is_zero(from + 24, 16))
        return "something in an entry must be 0 and is not";
    switch (ret->op) {
    case LOG_WRITE:
    case LOG_ZERO:
    case LOG_TRIM:
        return check_range(header, ret, blocks);
    case LOG_CLOSE:
        return ret->block || ret->count || ret->offset || ret->stored
                   ? "the entry `close` has arguments"
                   : NULL;
    default:
        return "an entry is of a kind that is not known";
    }
}

/* --- units --- */

uint32_t unit_check(const uint8_t uuid[UUID_SIZE], uint64_t seq, uint64_t block,
                    const void *data)
{
    uint8_t identity[UUID_SIZE + 16];

    memcpy(identity, uuid, UUID_SIZE);
    store_le64(identity + UUID_SIZE, seq);
    store_le64(identity + UUID_SIZE + 8, block);
    return crc32c(crc32c(0, identity, sizeof identity), data, BLOCK_SIZE);
}

void unit_seal(uint8_t to[8], uint32_t check)
{
    store_le32(to, check);
    memset(to + 4, 0, 4);
}

bool unit_is_good(const uint8_t *data, const uint8_t check[8],
                  const uint8_t uuid[UUID_SIZE], uint64_t seq, uint64_t block)
{
    return load_le32(check) == unit_check(uuid, seq, block, data) &&
           load_le32(check + 4) == 0;
}

bool unit_verify(const uint8_t unit[UNIT_SIZE], const uint8_t uuid[UUID_SIZE],
                 uint64_t seq, uint64_t block)
{
    return unit_is_good(unit, unit + BLOCK_SIZE, uuid, seq, block);
}
