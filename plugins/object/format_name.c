/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Names of objects.  See format.h. */
#include "format.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void uuid_print(const uint8_t uuid[UUID_SIZE], char to[2 * UUID_SIZE + 1])
{
    static const char digits[] = "0123456789abcdef";

    for (unsigned i = 0; i < UUID_SIZE; i++) {
        to[2 * i] = digits[uuid[i] >> 4];
        to[2 * i + 1] = digits[uuid[i] & 15];
    }
    to[2 * UUID_SIZE] = '\0';
}

/* So many lower-case digits exactly. */
static bool parse_hex(const char *text, unsigned digits, uint64_t *ret)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < digits; i++) {
        char c = text[i];

        if (c >= '0' && c <= '9')
            value = value << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    *ret = value;
    return true;
}

bool uuid_parse(const char *text, uint8_t to[UUID_SIZE])
{
    if (strlen(text) != (size_t)2 * UUID_SIZE)
        return false;
    for (unsigned i = 0; i < UUID_SIZE; i++) {
        uint64_t byte;

        if (!parse_hex(text + (size_t)2 * i, 2, &byte))
            return false;
        to[i] = (uint8_t)byte;
    }
    return true;
}

void name_volume(char to[NAME_SIZE])
{
    snprintf(to, NAME_SIZE, "volume");
}

void name_epoch(char to[NAME_SIZE], const uint8_t uuid[UUID_SIZE],
                uint32_t epoch)
{
    char text[2 * UUID_SIZE + 1];

    uuid_print(uuid, text);
    snprintf(to, NAME_SIZE, "%s/epoch/%08" PRIx32, text, epoch);
}

void name_log(char to[NAME_SIZE], const uint8_t uuid[UUID_SIZE], uint32_t epoch,
              uint64_t seq)
{
    char text[2 * UUID_SIZE + 1];

    uuid_print(uuid, text);
    snprintf(to, NAME_SIZE, "%s/log/%08" PRIx32 "/%016" PRIx64, text, epoch,
             seq);
}

/* What follows "<uuid>/<folder>/"; NULL: another name. */
static const char *behind(const char *name, const uint8_t uuid[UUID_SIZE],
                          const char *folder)
{
    char prefix[2 * UUID_SIZE + 1];
    size_t length = strlen(folder);

    uuid_print(uuid, prefix);
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return NULL;
    name += sizeof prefix - 1;
    return strncmp(name, folder, length) == 0 ? name + length : NULL;
}

bool name_parse_epoch(const char *name, const uint8_t uuid[UUID_SIZE],
                      uint32_t *ret_epoch)
{
    const char *rest = behind(name, uuid, "/epoch/");
    uint64_t epoch;

    if (!rest || strlen(rest) != 8 || !parse_hex(rest, 8, &epoch))
        return false;
    *ret_epoch = (uint32_t)epoch;
    return true;
}

bool name_parse_log(const char *name, const uint8_t uuid[UUID_SIZE],
                    uint32_t *ret_epoch, uint64_t *ret_seq)
{
    const char *rest = behind(name, uuid, "/log/");
    uint64_t epoch;

    if (!rest || strlen(rest) != 8 + 1 + 16 || rest[8] != '/' ||
        !parse_hex(rest, 8, &epoch) || !parse_hex(rest + 9, 16, ret_seq))
        return false;
    *ret_epoch = (uint32_t)epoch;
    return true;
}
