/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Feeds what a store may give: log objects, superblocks, claims.  What is
 * accepted is written again, and must be the same, or say the same; all its
 * numbers must be such that nothing lies outside of it. */
#include "tests/fuzz/fuzz.h"

#include "plugins/object/format.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS (UINT64_C(1) << 40)

static void feed_log(const uint8_t *data, size_t size)
{
    struct log_header header;
    uint8_t bytes[LOG_HEADER_SIZE];
    const uint8_t *table = data + LOG_HEADER_SIZE;

    if (size < LOG_HEADER_SIZE || log_header_decode(data, &header))
        return;
    log_header_encode(&header, bytes);
    assert(memcmp(bytes, data, sizeof bytes) == 0);
    assert(LOG_HEADER_SIZE + (uint64_t)header.table_bytes <=
           header.payload_offset);
    assert(header.payload_offset <= header.size);
    if (header.table_bytes > size - LOG_HEADER_SIZE ||
        log_table_check(&header, table, header.table_bytes))
        return;
    for (uint32_t i = 0; i < header.entries; i++) {
        struct log_entry entry;
        uint8_t again[LOG_ENTRY_SIZE];

        if (log_entry_decode(table + (size_t)i * LOG_ENTRY_SIZE, &header,
                             BLOCKS, &entry))
            continue;
        log_entry_encode(&entry, again);
        assert(memcmp(again, table + (size_t)i * LOG_ENTRY_SIZE,
                      sizeof again) == 0);
        assert(entry.block <= BLOCKS && entry.count <= BLOCKS - entry.block);
        if (entry.op == LOG_WRITE)
            assert((uint64_t)entry.offset * 8 + entry.stored <= header.size);
    }
}

/* The CRC is not guessed: a header with a right one of any bytes. */
static void feed_signed_log(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size);
    uint32_t crc;

    if (!copy || size < LOG_HEADER_SIZE) {
        free(copy);
        return;
    }
    memcpy(copy, data, size);
    crc = log_table_crc(copy, 124);
    for (unsigned i = 0; i < 4; i++)
        copy[124 + i] = (uint8_t)(crc >> 8 * i);
    feed_log(copy, size);
    free(copy);
}

static void feed_superblock(const uint8_t *data, size_t size)
{
    struct superblock superblock, back;
    char *text;

    if (superblock_decode((const char *)data, size, &superblock))
        return;
    text = superblock_encode(&superblock);
    assert(text && !superblock_decode(text, strlen(text), &back));
    assert(back.size == superblock.size &&
           back.object_size == superblock.object_size);
    assert(memcmp(back.uuid, superblock.uuid, UUID_SIZE) == 0);
    free(text);
}

static void feed_claim(const uint8_t *data, size_t size)
{
    struct claim claim, back;
    char *text;

    if (claim_decode((const char *)data, size, &claim))
        return;
    text = claim_encode(&claim);
    assert(text && !claim_decode(text, strlen(text), &back));
    assert(back.epoch == claim.epoch && back.purpose == claim.purpose);
    assert(memcmp(back.session, claim.session, UUID_SIZE) == 0);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    feed_log(data, size);
    feed_signed_log(data, size);
    feed_superblock(data, size);
    feed_claim(data, size);
    return 0;
}
