/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* See handshake_client.h.
 *
 * An option has one answer: any number of replies that carry something, then
 * one that ends it, which is computed here from the option's bytes alone. */
#include "tests/fuzz/handshake_client.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/text.h"
#include "server/connection.h"
#include "server/limits.h"
#include "server/option_meta.h"
#include "wire/nbd.h"

#define ALLOCATION        "base:allocation"
#define ALLOCATION_LENGTH 15

void client_init(struct client *client, const struct client_view *view,
                 const uint8_t *input, size_t size)
{
    *client = (struct client){
        .view = view,
        .input = input,
        .size = size,
        .part = CLIENT_FLAGS,
        .part_length = 4,
        .style = NBD_SIMPLE,
    };
}

void client_finish(struct client *client)
{
    free(client->output);
}

/* What the options' data says. */

/* A length and so many bytes at *at; 0, or the error that it means. */
static uint32_t read_string(const struct client *client, uint32_t *at,
                            struct nbd_string *ret)
{
    uint32_t left = client->length - *at;

    if (left < 4)
        return NBD_REP_ERR_INVALID;
    ret->length = load_be32(client->data + *at);
    ret->text = (const char *)client->data + *at + 4;
    if (ret->length > left - 4)
        return NBD_REP_ERR_INVALID;
    if (ret->length > NBD_MAX_STRING)
        return NBD_REP_ERR_TOO_BIG;
    if (!text_is_utf8(ret->text, ret->length))
        return NBD_REP_ERR_INVALID;
    *at += 4 + ret->length;
    return 0;
}

static uint32_t read_info(const struct client *client, struct nbd_string *name,
                          uint32_t *ret_wanted)
{
    uint32_t at = 0, wanted = 0;
    uint32_t error = read_string(client, &at, name);

    if (error)
        return error;
    if (client->length - at < 2 ||
        client->length - at != 2 + 2u * load_be16(client->data + at))
        return NBD_REP_ERR_INVALID;
    for (at += 2; at < client->length; at += 2) {
        uint16_t info = load_be16(client->data + at);

        if (info <= NBD_INFO_BLOCK_SIZE)
            wanted |= 1u << info;
    }
    *ret_wanted = wanted;
    return 0;
}

static bool same(struct nbd_string string, const char *text, size_t length)
{
    return string.length == length && memcmp(string.text, text, length) == 0;
}

/* ret_selects: does a query ask for base:allocation? */
static uint32_t read_meta(const struct client *client, struct nbd_string *name,
                          bool *ret_selects)
{
    bool list = client->option == NBD_OPT_LIST_META_CONTEXT;
    uint32_t at = 0, error = read_string(client, &at, name), queries;

    if (error)
        return error;
    if (client->length - at < 4)
        return NBD_REP_ERR_INVALID;
    queries = load_be32(client->data + at);
    *ret_selects = list && queries == 0;
    at += 4;
    for (; queries > 0; queries--) {
        struct nbd_string query;

        error = read_string(client, &at, &query);
        if (error)
            return error;
        *ret_selects |= same(query, ALLOCATION, ALLOCATION_LENGTH) ||
                        (list && same(query, "base:", 5));
    }
    return at == client->length ? 0 : NBD_REP_ERR_INVALID;
}

/* The reply that ends the answer. */

static uint32_t of_error(int err, uint32_t otherwise)
{
    if (err == EPERM || err == EACCES)
        return NBD_REP_ERR_POLICY;
    return err == ESHUTDOWN ? NBD_REP_ERR_SHUTDOWN : otherwise;
}

static uint32_t end_of_choice(const struct client *client)
{
    struct nbd_string name;
    uint32_t wanted, error = read_info(client, &name, &wanted);
    int err;

    if (error)
        return error;
    err = client->view->open_error(name);
    if (err)
        return of_error(err, NBD_REP_ERR_UNKNOWN);
    return client->view->admit_error(name) ? NBD_REP_ERR_POLICY : NBD_REP_ACK;
}

static uint32_t end_of_meta(const struct client *client)
{
    struct nbd_string name;
    bool selects;
    uint32_t error;

    if (client->style == NBD_SIMPLE)
        return NBD_REP_ERR_INVALID;
    error = read_meta(client, &name, &selects);
    return error ? error : NBD_REP_ACK;
}

static uint32_t end_of_word(const struct client *client)
{
    if (client->length > 0)
        return NBD_REP_ERR_INVALID;
    switch (client->option) {
    case NBD_OPT_STARTTLS:
        return NBD_REP_ERR_POLICY;
    case NBD_OPT_LIST:
        return client->view->list_error
                   ? of_error(client->view->list_error, NBD_REP_ERR_PLATFORM)
                   : NBD_REP_ACK;
    default:
        if (client->view->no_structured)
            return NBD_REP_ERR_UNSUP;
        return client->option == NBD_OPT_STRUCTURED_REPLY &&
                       client->style == NBD_EXTENDED
                   ? NBD_REP_ERR_EXT_HEADER_REQD
                   : NBD_REP_ACK;
    }
}

static uint32_t end_of_answer(const struct client *client)
{
    if (client->option == NBD_OPT_ABORT)
        return NBD_REP_ACK;
    if (client->length > LIMIT_OPTION)
        return NBD_REP_ERR_TOO_BIG;
    switch (client->option) {
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        return end_of_choice(client);
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        return end_of_meta(client);
    case NBD_OPT_LIST:
    case NBD_OPT_STARTTLS:
    case NBD_OPT_STRUCTURED_REPLY:
    case NBD_OPT_EXTENDED_HEADERS:
        return end_of_word(client);
    default:
        return NBD_REP_ERR_UNSUP;
    }
}

/* Replies that carry something. */

static void hear_block_size(const uint8_t *payload, uint32_t length)
{
    uint32_t least = load_be32(payload + 2);
    uint32_t preferred = load_be32(payload + 6);
    uint32_t most = load_be32(payload + 10);

    assert(length == 14);
    assert(least > 0 && (least & (least - 1)) == 0 && least <= 65536);
    assert(preferred >= 512 && (preferred & (preferred - 1)) == 0);
    assert(preferred >= least && most >= preferred);
    assert(most == UINT32_MAX || most % least == 0);
}

static void hear_flags(const struct client *client, bool allocation)
{
    uint16_t flags = client->told_flags;

    assert(flags & NBD_FLAG_HAS_FLAGS);
    assert(!(flags & NBD_FLAG_SEND_DF) == (client->style == NBD_SIMPLE));
    assert(!(flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD) ==
           !(client->style == NBD_EXTENDED && allocation));
    if (flags & NBD_FLAG_READ_ONLY)
        assert(!(flags & (NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |
                          NBD_FLAG_SEND_WRITE_ZEROES)));
}

/* Is base:allocation selected for this export? */
static bool has_allocation(const struct client *client, struct nbd_string name)
{
    return client->meta_name.text &&
           same(client->meta_name, name.text, name.length);
}

static void hear_info(struct client *client, const uint8_t *payload,
                      uint32_t length)
{
    const char *text = (const char *)payload + 2;
    struct nbd_string name;
    uint32_t wanted;
    uint16_t info;

    assert(client->option == NBD_OPT_INFO || client->option == NBD_OPT_GO);
    assert(length >= 2);
    info = load_be16(payload);
    assert(info <= NBD_INFO_BLOCK_SIZE);
    assert(!(client->infos & (1u << info)));
    client->infos |= 1u << info;
    assert(read_info(client, &name, &wanted) == 0);
    assert(info == NBD_INFO_EXPORT || (wanted & (1u << info)));
    if (info == NBD_INFO_EXPORT) {
        assert(length == 12);
        client->told_size = load_be64(payload + 2);
        client->told_flags = load_be16(payload + 10);
        hear_flags(client, has_allocation(client, name));
    } else if (info == NBD_INFO_BLOCK_SIZE) {
        hear_block_size(payload, length);
    } else {
        assert(length - 2 <= NBD_MAX_STRING);
        assert(text_is_utf8(text, length - 2));
    }
}

static void hear_server(struct client *client, const uint8_t *payload,
                        uint32_t length)
{
    struct nbd_string name, description;

    assert(client->option == NBD_OPT_LIST && length >= 4);
    name.length = load_be32(payload);
    assert(name.length <= length - 4);
    name.text = (const char *)payload + 4;
    description.length = length - 4 - name.length;
    description.text = name.text + name.length;
    assert(client->view->is_listed(client->listed, name, description));
    client->listed++;
}

static void hear_context(struct client *client, const uint8_t *payload,
                         uint32_t length)
{
    assert(length == 4 + ALLOCATION_LENGTH);
    assert(memcmp(payload + 4, ALLOCATION, ALLOCATION_LENGTH) == 0);
    if (client->option == NBD_OPT_LIST_META_CONTEXT)
        assert(load_be32(payload) == 0);
    else
        assert(load_be32(payload) == ALLOCATION_ID);
    client->contexts++;
}

/* The reply that ends it. */

static void hear_meta_ack(struct client *client)
{
    struct nbd_string name;
    bool selects = false;

    assert(read_meta(client, &name, &selects) == 0);
    assert(client->contexts == selects);
    if (selects && client->option == NBD_OPT_SET_META_CONTEXT)
        client->meta_name = name;
}

static void hear_choice_ack(struct client *client)
{
    struct nbd_string name;
    uint32_t wanted = 0, blocks = 1u << NBD_INFO_BLOCK_SIZE;

    assert(read_info(client, &name, &wanted) == 0);
    assert(client->infos & (1u << NBD_INFO_EXPORT));
    assert((client->infos & blocks) == (wanted & blocks));
    assert(client->told_size == client->view->size);
    client->chosen = client->option == NBD_OPT_GO;
}

static void hear_ack(struct client *client, uint32_t length)
{
    assert(length == 0);
    switch (client->option) {
    case NBD_OPT_ABORT:
        client->left = true;
        break;
    case NBD_OPT_LIST:
        assert(client->listed == client->view->exports);
        break;
    case NBD_OPT_STRUCTURED_REPLY:
        client->style = NBD_STRUCTURED;
        break;
    case NBD_OPT_EXTENDED_HEADERS:
        client->style = NBD_EXTENDED;
        break;
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        hear_choice_ack(client);
        break;
    default:
        hear_meta_ack(client);
        break;
    }
}

static void hear_end(struct client *client, uint32_t reply,
                     const uint8_t *payload, uint32_t length)
{
    if (client->draining && reply == NBD_REP_ERR_SHUTDOWN)
        /* It may also be the disk's own error. */
        client->left = end_of_answer(client) != reply;
    else
        assert(reply == end_of_answer(client) &&
               (!client->too_late || client->option == NBD_OPT_ABORT));
    client->owed = false;
    if (reply == NBD_REP_ACK) {
        hear_ack(client, length);
        return;
    }
    /* A refusal says nothing else. */
    assert(!client->infos && !client->listed && !client->contexts);
    assert(length <= NBD_MAX_STRING);
    assert(text_is_utf8((const char *)payload, length));
}

static void hear_reply(struct client *client, const uint8_t *head,
                       uint32_t length)
{
    const uint8_t *payload = head + NBD_OPTION_REPLY_SIZE;
    uint32_t reply = load_be32(head + 12);

    assert(client->owed && client->option != NBD_OPT_EXPORT_NAME);
    assert(load_be32(head + 8) == client->option);
    switch (reply) {
    case NBD_REP_INFO:
        hear_info(client, payload, length);
        break;
    case NBD_REP_SERVER:
        hear_server(client, payload, length);
        break;
    case NBD_REP_META_CONTEXT:
        hear_context(client, payload, length);
        break;
    default:
        hear_end(client, reply, payload, length);
        break;
    }
}

/* What was sent, from the part that has not been looked at on.  Each of these
 * returns how long it is, or 0 if it has not come as a whole. */

static size_t hear_greeting(struct client *client, const uint8_t *bytes,
                            size_t left)
{
    if (client->view->oldstyle) {
        if (left < NBD_OLDSTYLE_GREETING_SIZE)
            return 0;
        assert(load_be64(bytes) == NBD_MAGIC);
        assert(load_be64(bytes + 8) == NBD_CLISERV_MAGIC);
        client->told_size = load_be64(bytes + 16);
        assert(load_be16(bytes + 24) == 0);
        client->told_flags = load_be16(bytes + 26);
        for (unsigned i = 28; i < NBD_OLDSTYLE_GREETING_SIZE; i++)
            assert(bytes[i] == 0);
        client->chosen = true;
        return NBD_OLDSTYLE_GREETING_SIZE;
    }
    if (left < NBD_GREETING_SIZE)
        return 0;
    assert(load_be64(bytes) == NBD_MAGIC);
    assert(load_be64(bytes + 8) == NBD_IHAVEOPT);
    assert(load_be16(bytes + 16) == client->view->offered);
    return NBD_GREETING_SIZE;
}

static size_t hear_export(struct client *client, const uint8_t *bytes,
                          size_t left)
{
    size_t length =
        client->flags & NBD_FLAG_C_NO_ZEROES ? 10 : NBD_EXPORT_NAME_REPLY_SIZE;

    if (left < length)
        return 0;
    client->told_size = load_be64(bytes);
    client->told_flags = load_be16(bytes + 8);
    for (size_t i = 10; i < length; i++)
        assert(bytes[i] == 0);
    client->owed = false;
    client->chosen = true;
    return length;
}

static size_t hear_next(struct client *client, const uint8_t *bytes,
                        size_t left)
{
    uint32_t length;

    /* Nothing may follow a choice or a farewell. */
    assert(!client->chosen && !client->left);
    if (!client->greeted) {
        size_t greeting = hear_greeting(client, bytes, left);

        client->greeted = greeting > 0;
        return greeting;
    }
    assert(client->owed);
    if (client->option == NBD_OPT_EXPORT_NAME)
        return hear_export(client, bytes, left);
    if (left < NBD_OPTION_REPLY_SIZE)
        return 0;
    assert(load_be64(bytes) == NBD_REP_MAGIC);
    length = load_be32(bytes + 16);
    assert(length <= 4 + 2 * NBD_MAX_STRING);
    if (left - NBD_OPTION_REPLY_SIZE < length)
        return 0;
    hear_reply(client, bytes, length);
    return NBD_OPTION_REPLY_SIZE + length;
}

static void hear_all(struct client *client)
{
    while (client->checked < client->output_n) {
        size_t length = hear_next(client, client->output + client->checked,
                                  client->output_n - client->checked);

        if (length == 0)
            return;
        client->checked += length;
    }
}

void client_hear(struct client *client, const void *bytes, size_t n)
{
    if (n == 0)
        return;
    client->output = realloc(client->output, client->output_n + n);
    assert(client->output);
    memcpy(client->output + client->output_n, bytes, n);
    client->output_n += n;
    hear_all(client);
}

/* What is taken. */

void client_check_wish(struct client *client, size_t length)
{
    assert(!client->view->oldstyle);
    assert(!client->chosen && !client->left && !client->owed);
    assert(client->greeted && client->checked == client->output_n);
    assert(length > 0 && length <= client->part_length - client->part_taken);
}

static void begin_part(struct client *client, enum client_part part,
                       size_t length)
{
    client->part = part;
    client->part_taken = 0;
    client->part_length = length;
}

static void end_option(struct client *client)
{
    client->owed = true;
    client->too_late = client->draining;
    client->infos = client->listed = client->contexts = 0;
    if (client->option == NBD_OPT_SET_META_CONTEXT)
        client->meta_name.text = NULL;
    begin_part(client, CLIENT_HEADER, NBD_OPTION_SIZE);
}

static void end_part(struct client *client)
{
    const uint8_t *end = client->input + client->taken;

    switch (client->part) {
    case CLIENT_FLAGS:
        client->flags = load_be32(end - 4);
        begin_part(client, CLIENT_HEADER, NBD_OPTION_SIZE);
        break;
    case CLIENT_HEADER:
        client->option = load_be32(end - 8);
        client->length = load_be32(end - 4);
        client->data = end;
        client->options++;
        if (client->length == 0)
            end_option(client);
        else
            begin_part(client, CLIENT_DATA, client->length);
        break;
    default:
        end_option(client);
        break;
    }
}

void client_take(struct client *client, size_t n)
{
    assert(n <= client->arrived - client->taken);
    client->taken += n;
    client->part_taken += n;
    if (client->part_taken == client->part_length)
        end_part(client);
}

/* What it allows. */

bool client_may_open(const struct client *client, struct nbd_string *ret)
{
    uint32_t wanted;

    if (client->view->oldstyle) {
        *ret = (struct nbd_string){.text = ""};
        return true;
    }
    if (!client->owed || client->chosen || client->too_late)
        return false;
    if (client->option == NBD_OPT_EXPORT_NAME) {
        *ret = (struct nbd_string){.text = (const char *)client->data,
                                   .length = client->length};
        return client->length <= NBD_MAX_STRING &&
               text_is_utf8(ret->text, ret->length) &&
               client->style != NBD_EXTENDED;
    }
    return (client->flags & NBD_FLAG_C_FIXED_NEWSTYLE) &&
           (client->option == NBD_OPT_INFO || client->option == NBD_OPT_GO) &&
           client->length <= LIMIT_OPTION &&
           read_info(client, ret, &wanted) == 0;
}

bool client_may_list(const struct client *client)
{
    return client->owed && !client->too_late &&
           client->option == NBD_OPT_LIST && client->length == 0 &&
           (client->flags & NBD_FLAG_C_FIXED_NEWSTYLE);
}

void client_check_choice(struct client *client,
                         const struct negotiated *negotiated)
{
    struct nbd_string name = {.text = ""};
    uint32_t wanted;

    assert(client->chosen && client->checked == client->output_n);
    assert(client->part == CLIENT_HEADER || client->view->oldstyle);
    assert(client->view->oldstyle || client->part_taken == 0);
    if (!client->view->oldstyle && client->option == NBD_OPT_GO)
        assert(read_info(client, &name, &wanted) == 0);
    else if (!client->view->oldstyle)
        name = (struct nbd_string){.text = (const char *)client->data,
                                   .length = client->length};
    assert(client->told_size == client->view->size);
    hear_flags(client, negotiated->allocation);
    assert(negotiated->size == client->told_size);
    assert(negotiated->transmission_flags == client->told_flags);
    assert(negotiated->style == client->style);
    assert(negotiated->no_zeroes == !!(client->flags & NBD_FLAG_C_NO_ZEROES));
    assert(negotiated->allocation == has_allocation(client, name));
}

/* What it did with the option that was taken last, or is being taken. */
static bool option_ends(const struct client *client)
{
    struct nbd_string name;

    if (load_be64(client->data - NBD_OPTION_SIZE) != NBD_IHAVEOPT ||
        client->length > LIMIT_OPTION_DROPPED ||
        client->options > LIMIT_OPTIONS)
        return true;
    if (!client->owed)
        return false;
    if (client->option != NBD_OPT_EXPORT_NAME)
        return !(client->flags & NBD_FLAG_C_FIXED_NEWSTYLE);
    return !client_may_open(client, &name) || client->view->open_error(name) ||
           client->view->admit_error(name);
}

static bool may_be_closed(const struct client *client)
{
    struct nbd_string none = {.text = ""};

    if (client->left || client->ended)
        return true;
    if (client->view->oldstyle)
        return client->view->open_error(none) ||
               client->view->admit_error(none);
    if (client->part != CLIENT_FLAGS &&
        (client->flags & ~(uint32_t)client->view->offered))
        return true;
    return client->options > 0 && option_ends(client);
}

void client_check_end(struct client *client, bool excused)
{
    assert(!client->chosen || client->checked == client->output_n);
    assert(excused || may_be_closed(client));
}
