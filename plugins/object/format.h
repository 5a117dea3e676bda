/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What lies in the store: bytes <-> structs, no I/O (docs/object-format.md).
 *
 * Decoders take bytes that may come from anybody.  They return NULL, or a
 * constant that says what is wrong; whatever is unknown or not zero where it
 * must be is wrong (I17). */
#ifndef ABD_OBJECT_FORMAT_H
#define ABD_OBJECT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLOCK_SIZE 4096
#define UNIT_SIZE  (BLOCK_SIZE + 8) /* a block and its check */
#define FORMAT     0                /* refused by later versions */
#define UUID_SIZE  16
#define NAME_SIZE  96 /* of a name, with its NUL */

/* --- names (of the store, below its prefix) --- */

void name_volume(char to[NAME_SIZE]);
void name_epoch(char to[NAME_SIZE], const uint8_t uuid[UUID_SIZE],
                uint32_t epoch);
void name_log(char to[NAME_SIZE], const uint8_t uuid[UUID_SIZE], uint32_t epoch,
              uint64_t seq);
/* True if it is the name of an epoch (a log object) of this volume. */
bool name_parse_epoch(const char *name, const uint8_t uuid[UUID_SIZE],
                      uint32_t *ret_epoch);
bool name_parse_log(const char *name, const uint8_t uuid[UUID_SIZE],
                    uint32_t *ret_epoch, uint64_t *ret_seq);

/* --- log objects --- */

#define LOG_HEADER_SIZE 128
#define LOG_ENTRY_SIZE  40
/* Larger than any object that is written. */
#define LOG_SIZE_MAX (UINT64_C(1) << 30)

enum log_kind { LOG_DATA = 1, LOG_FENCE = 2 };

struct log_header {
    enum log_kind kind;
    uint32_t block_size;
    uint8_t uuid[UUID_SIZE];
    uint32_t epoch, entries;
    uint64_t seq;
    uint8_t session[UUID_SIZE];
    uint32_t table_bytes, payload_offset;
    uint64_t size;         /* of the whole object */
    uint32_t previous_crc; /* own_crc of the one before in the log; first: 0 */
    uint32_t fence;        /* FENCE: the epoch that goes on */
    uint64_t time_ms;
    uint32_t table_crc;
    uint64_t journal;
    uint32_t own_crc; /* of the header: computed by encode, checked by decode */
};

void log_header_encode(struct log_header *header, uint8_t to[LOG_HEADER_SIZE]);
const char *log_header_decode(const uint8_t from[LOG_HEADER_SIZE],
                              struct log_header *ret);

enum log_op {
    LOG_WRITE = 1,
    LOG_ZERO = 3,
    LOG_TRIM = 4,
    LOG_SIZE = 16,
    LOG_CLOSE = 22,
    /* The others of the format are refused until they are written. */
};

struct log_entry {
    enum log_op op;
    uint64_t block;
    uint32_t count;  /* blocks */
    uint32_t offset; /* from the object's start, in units of 8 bytes */
    uint32_t stored; /* bytes */
};

void log_entry_encode(const struct log_entry *entry,
                      uint8_t to[LOG_ENTRY_SIZE]);
/* blocks: of the volume. */
const char *log_entry_decode(const uint8_t from[LOG_ENTRY_SIZE],
                             const struct log_header *header, uint64_t blocks,
                             struct log_entry *ret);
uint32_t log_table_crc(const uint8_t *table, uint64_t length);
/* The table as a whole: its length and CRC. */
const char *log_table_check(const struct log_header *header,
                            const uint8_t *table, uint64_t length);

/* The check of a unit: which volume's and object's block it is, and its data.
 */
uint32_t unit_check(const uint8_t uuid[UUID_SIZE], uint64_t seq, uint64_t block,
                    const void *data);
/* Writes the 8 bytes behind the data. */
void unit_seal(uint8_t to[8], uint32_t check);
/* False: damaged.  Data and the 8 bytes that belong behind it may lie apart. */
bool unit_is_good(const uint8_t *data, const uint8_t check[8],
                  const uint8_t uuid[UUID_SIZE], uint64_t seq, uint64_t block);
bool unit_verify(const uint8_t unit[UNIT_SIZE], const uint8_t uuid[UUID_SIZE],
                 uint64_t seq, uint64_t block);

/* --- superblock and claim: JSON --- */

#define JSON_MAX (64 * 1024)

struct superblock {
    uint8_t uuid[UUID_SIZE];
    uint64_t size;        /* bytes, at creation */
    uint64_t object_size; /* bytes */
};
/* malloc'ed text, or NULL: no memory. */
char *superblock_encode(const struct superblock *superblock);
/* NULL, or what is wrong: valid until the thread's next one. */
const char *superblock_decode(const char *text, size_t length,
                              struct superblock *ret);

enum claim_purpose { CLAIM_WRITE, CLAIM_DELETE };
struct claim {
    uint32_t epoch;
    uint8_t session[UUID_SIZE];
    enum claim_purpose purpose;
    char host[256], boot_id[64], program[64]; /* information only */
    uint64_t pid, time_ms;
};
char *claim_encode(const struct claim *claim);
const char *claim_decode(const char *text, size_t length, struct claim *ret);

/* 32 lower-case hex digits and a NUL. */
void uuid_print(const uint8_t uuid[UUID_SIZE], char to[2 * UUID_SIZE + 1]);
bool uuid_parse(const char *text, uint8_t to[UUID_SIZE]);

#endif
