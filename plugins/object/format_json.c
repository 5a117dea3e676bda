/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Superblock and claim.  See format.h.
 *
 * Each member that may be there is in a list; what is missing, there twice, of
 * another type or not in the list is refused (I17). */
#include "format.h"

#include "base/json.h"
#include "base/json_read.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define OBJECT_SIZE_MIN (64 * 1024)
#define OBJECT_SIZE_MAX (256 * 1024 * 1024)

/* A member and where its value goes; at most one of the last three. */
struct member {
    const char *key;
    enum json_type type; /* NULL: must be null */
    uint64_t *number;
    char *text;
    size_t text_size;
    bool empty; /* an ARRAY must be */
    bool seen;
};

/* A fault with the member's name, valid until the thread's next one. */
static const char *fault_of(const char *key, const char *what)
{
    static _Thread_local char fault[160];
    char name[64];

    text_quote(key, strlen(key), name, sizeof name);
    snprintf(fault, sizeof fault, "its member %s %s", name, what);
    return fault;
}

static const char *take_value(struct member *member,
                              const struct json_value *value)
{
    if (value->type != member->type)
        return fault_of(value->key, "is of a wrong type");
    if (member->number) {
        if (!value->whole)
            return fault_of(value->key, "is negative, broken or too large");
        *member->number = value->number;
    }
    if (member->text) {
        if (strlen(value->text) >= member->text_size)
            return fault_of(value->key, "is too long");
        strcpy(member->text, value->text);
    }
    if (member->empty && value->first)
        return fault_of(value->key,
                        "names something that this version does not have");
    return NULL;
}

static const char *take_members(const struct json_value *root,
                                struct member *members, size_t n)
{
    if (root->type != JSON_OBJECT)
        return "it is no JSON object";
    for (const struct json_value *value = root->first; value;
         value = value->next) {
        struct member *member = NULL;
        const char *fault;

        for (size_t i = 0; i < n; i++)
            if (strcmp(members[i].key, value->key) == 0)
                member = &members[i];
        if (!member)
            return fault_of(value->key, "is not known");
        if (member->seen)
            return fault_of(value->key, "is there twice");
        member->seen = true;
        fault = take_value(member, value);
        if (fault)
            return fault;
    }
    for (size_t i = 0; i < n; i++)
        if (!members[i].seen)
            return fault_of(members[i].key, "is missing");
    return NULL;
}

/* Before all others: a later format may have members that we don't know. */
static const char *check_format(const struct json_value *root)
{
    const struct json_value *format = json_find(root, "format");

    return format && format->type == JSON_NUMBER && format->whole &&
                   format->number != FORMAT
               ? "it is of a format that this version does not know"
               : NULL;
}

static const char *take(const char *text, size_t length, struct member *members,
                        size_t n)
{
    struct json_document document = {0};
    struct json_fault where;
    const char *fault;

    if (length > JSON_MAX)
        return "it is too long";
    switch (json_read(text, length, &document, &where)) {
    case 0:
        break;
    case EINVAL:
        return "it is not JSON";
    default:
        return "no memory";
    }
    fault = check_format(document.root);
    if (!fault)
        fault = take_members(document.root, members, n);
    json_document_finish(&document);
    return fault;
}

#define NUMBER(key_, to_)                                                      \
    {                                                                          \
        .key = key_, .type = JSON_NUMBER, .number = to_                        \
    }
#define TEXT(key_, to_)                                                        \
    {                                                                          \
        .key = key_, .type = JSON_STRING, .text = to_, .text_size = sizeof to_ \
    }
#define NONE(key_)                                                             \
    {                                                                          \
        .key = key_, .type = JSON_NULL                                         \
    }
#define EMPTY(key_)                                                            \
    {                                                                          \
        .key = key_, .type = JSON_ARRAY, .empty = true                         \
    }
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* --- the superblock --- */

char *superblock_encode(const struct superblock *superblock)
{
    static const char *const empty[] = {"reader_features", "writer_features",
                                        "ancestors"};
    char uuid[2 * UUID_SIZE + 1];
    struct json json = {0};

    uuid_print(superblock->uuid, uuid);
    json_open_object(&json, NULL);
    json_number(&json, "format", FORMAT);
    json_string(&json, "uuid", uuid);
    json_number(&json, "size", superblock->size);
    json_number(&json, "block_size", BLOCK_SIZE);
    json_number(&json, "object_size", superblock->object_size);
    json_string(&json, "compression", NULL);
    json_string(&json, "encryption", NULL);
    for (size_t i = 0; i < COUNT(empty); i++) {
        json_open_array(&json, empty[i]);
        json_close_array(&json);
    }
    json_close_object(&json);
    return json_finish(&json);
}

const char *superblock_decode(const char *text, size_t length,
                              struct superblock *ret)
{
    uint64_t format, block_size;
    char uuid[2 * UUID_SIZE + 1];
    struct member members[] = {
        NUMBER("format", &format),
        TEXT("uuid", uuid),
        NUMBER("size", &ret->size),
        NUMBER("block_size", &block_size),
        NUMBER("object_size", &ret->object_size),
        NONE("compression"),
        NONE("encryption"),
        EMPTY("reader_features"),
        EMPTY("writer_features"),
        EMPTY("ancestors"),
    };
    const char *fault = take(text, length, members, COUNT(members));

    if (fault)
        return fault;
    if (!uuid_parse(uuid, ret->uuid))
        return "its uuid is none";
    if (block_size != BLOCK_SIZE)
        return "its block size is not 4096";
    if (ret->size == 0 || ret->size > INT64_MAX || ret->size % BLOCK_SIZE)
        return "its size is no multiple of 4096, or out of bounds";
    if (ret->object_size < OBJECT_SIZE_MIN ||
        ret->object_size > OBJECT_SIZE_MAX || ret->object_size % BLOCK_SIZE)
        return "its object size is out of bounds";
    return NULL;
}

/* --- claims --- */

char *claim_encode(const struct claim *claim)
{
    char session[2 * UUID_SIZE + 1];
    struct json json = {0};

    uuid_print(claim->session, session);
    json_open_object(&json, NULL);
    json_number(&json, "format", FORMAT);
    json_number(&json, "epoch", claim->epoch);
    json_string(&json, "session", session);
    json_string(&json, "purpose",
                claim->purpose == CLAIM_WRITE ? "write" : "delete");
    json_string(&json, "host", claim->host);
    json_string(&json, "boot_id", claim->boot_id);
    json_number(&json, "pid", claim->pid);
    json_string(&json, "socket", NULL);
    json_number(&json, "time", claim->time_ms);
    json_string(&json, "program", claim->program);
    json_close_object(&json);
    return json_finish(&json);
}

const char *claim_decode(const char *text, size_t length, struct claim *ret)
{
    uint64_t format, epoch;
    char session[2 * UUID_SIZE + 1], purpose[16];
    struct member members[] = {
        NUMBER("format", &format),     NUMBER("epoch", &epoch),
        TEXT("session", session),      TEXT("purpose", purpose),
        TEXT("host", ret->host),       TEXT("boot_id", ret->boot_id),
        NUMBER("pid", &ret->pid),      NONE("socket"),
        NUMBER("time", &ret->time_ms), TEXT("program", ret->program),
    };
    const char *fault = take(text, length, members, COUNT(members));

    if (fault)
        return fault;
    if (epoch == 0 || epoch > UINT32_MAX)
        return "its epoch is out of bounds";
    if (!uuid_parse(session, ret->session))
        return "its session is none";
    ret->epoch = (uint32_t)epoch;
    ret->purpose = strcmp(purpose, "delete") == 0 ? CLAIM_DELETE : CLAIM_WRITE;
    if (ret->purpose == CLAIM_WRITE && strcmp(purpose, "write") != 0)
        return "its purpose is not known";
    return NULL;
}
