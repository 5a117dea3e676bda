/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Choosing an export.
 *
 *     name -> disk_get() ... got -> (move to the disk's loop ... arrived)
 *          -> disk_admit() -> replies -> HEADER (INFO) or ENTERING
 *
 * The connection moves before anything is asked of the disk, because all of a
 * disk that is not parallel happens on one thread.  After INFO the client has
 * left the disk, but the handshake keeps it for the GO that usually follows, so
 * a client's own disk is not opened twice.  The name is taken as it comes: ""
 * is the default export's name, whatever -e says (as nbdkit's, that option is
 * about what --run is told).  On the connection's thread. */
#include "server/option_export.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/text.h"
#include "server/handshake_reply.h"
#include "server/handshake_state.h"
#include "server/layer.h"
#include "server/negotiated.h"
#include "server/option_meta.h"
#include "server/settings.h"
#include "server/worker.h"

/* Only these two can be told what is wrong. */
static bool hears_errors(const struct handshake *handshake)
{
    return !handshake->oldstyle && (handshake->option == NBD_OPT_INFO ||
                                    handshake->option == NBD_OPT_GO);
}

static enum handshake_state refuse(struct handshake *handshake, uint32_t reply,
                                   const char *why)
{
    char name[256];

    text_quote(handshake->name, strlen(handshake->name), name, sizeof name);
    option_export_forget(handshake);
    if (!hears_errors(handshake)) {
        handshake_fail(handshake, "export %s: %s", name, why);
        return HANDSHAKE_FAILED;
    }
    handshake_error(handshake, reply, "export %s: %s", name, why);
    return HANDSHAKE_HEADER;
}

/* The disk could not be opened. */
static enum handshake_state refuse_open(struct handshake *handshake, int err)
{
    uint32_t reply = NBD_REP_ERR_UNKNOWN;

    if (err == EPERM || err == EACCES)
        reply = NBD_REP_ERR_POLICY;
    else if (err == ESHUTDOWN)
        reply = NBD_REP_ERR_SHUTDOWN;
    return refuse(handshake, reply, strerror(err));
}

/* Replies. */

static void reply_text_info(struct handshake *handshake, uint16_t info,
                            const char *text)
{
    size_t length = text ? strlen(text) : 0;
    uint8_t head[2];

    if (!text || !(handshake->wanted & (1U << info)))
        return;
    if (length > NBD_MAX_STRING || !text_is_utf8(text, length))
        return;
    store_be16(head, info);
    handshake_reply(handshake, NBD_REP_INFO, head, sizeof head, text,
                    (uint32_t)length);
}

static void reply_infos(struct handshake *handshake,
                        const struct negotiated *negotiated)
{
    const struct abd_disk *disk = &handshake->disk->pub;
    uint8_t payload[16];
    unsigned length = nbd_info_export_encode(
        negotiated->size, negotiated->transmission_flags, payload);

    handshake_reply(handshake, NBD_REP_INFO, payload, length, NULL, 0);
    reply_text_info(handshake, NBD_INFO_NAME,
                    disk->canonical_name ? disk->canonical_name
                                         : handshake->name);
    reply_text_info(handshake, NBD_INFO_DESCRIPTION, disk->description);
    if (handshake->wanted & (1U << NBD_INFO_BLOCK_SIZE)) {
        length = nbd_info_block_size_encode(negotiated->block_min,
                                            negotiated->block_preferred,
                                            negotiated->block_max, payload);
        handshake_reply(handshake, NBD_REP_INFO, payload, length, NULL, 0);
    }
    handshake_ack(handshake);
}

static void reply_oldstyle(struct handshake *handshake,
                           const struct negotiated *negotiated)
{
    uint8_t *to = handshake_append(handshake, NBD_OLDSTYLE_GREETING_SIZE);

    if (to)
        nbd_oldstyle_greeting_encode(negotiated->size,
                                     negotiated->transmission_flags, to);
}

static void reply_export_name(struct handshake *handshake,
                              const struct negotiated *negotiated)
{
    uint8_t bytes[NBD_EXPORT_NAME_REPLY_SIZE];
    unsigned length = nbd_export_name_reply_encode(
        negotiated->size, negotiated->transmission_flags, negotiated->no_zeroes,
        bytes);
    uint8_t *to = handshake_append(handshake, length);

    if (to)
        memcpy(to, bytes, length);
}

static void log_choice(const struct handshake *handshake,
                       const struct negotiated *negotiated)
{
    char name[256];

    if (!log_is_verbose())
        return;
    text_quote(handshake->name, strlen(handshake->name), name, sizeof name);
    log_write(ABD_DEBUG, handshake->connection->address,
              "export %s: %" PRIu64 " bytes, transmission flags 0x%x", name,
              negotiated->size, negotiated->transmission_flags);
}

/* The disk is there, and this is the thread on which it may be asked.  Returns
 * the state to follow. */
static enum handshake_state answer(struct handshake *handshake)
{
    struct connection *connection = handshake->connection;
    struct negotiated negotiated = connection->negotiated;
    int err;

    if (handshake->draining) {
        refuse(handshake, NBD_REP_ERR_SHUTDOWN, "the server is shutting down");
        return HANDSHAKE_LEAVING;
    }
    err = disk_admit(handshake->disk, &connection->client);
    if (err)
        return refuse(handshake, NBD_REP_ERR_POLICY, strerror(err));
    handshake->admitted = true;
    negotiated.allocation = option_meta_selected(handshake, handshake->name);
    negotiated.allocation_id = ALLOCATION_ID;
    negotiated_describe(&negotiated, handshake->disk,
                        connection->worker->memory);
    if (handshake->oldstyle)
        reply_oldstyle(handshake, &negotiated);
    else if (handshake->option == NBD_OPT_EXPORT_NAME)
        reply_export_name(handshake, &negotiated);
    else
        reply_infos(handshake, &negotiated);
    if (!handshake->oldstyle && handshake->option == NBD_OPT_INFO) {
        disk_leave(handshake->disk, &connection->client);
        handshake->admitted = false;
        return HANDSHAKE_HEADER;
    }
    log_choice(handshake, &negotiated);
    connection->negotiated = negotiated;
    return HANDSHAKE_ENTERING;
}

/* The connection has moved. */
static void on_arrived(struct connection *connection)
{
    struct handshake *handshake = connection->handshake;

    handshake->opening_under_way = false;
    if (handshake->stopped) {
        option_export_forget(handshake);
        handshake_abandon(handshake);
        return;
    }
    /* Who was on the way was not told. */
    if (connection->worker->draining)
        handshake->draining = true;
    handshake_resume(handshake, answer(handshake));
}

static void on_disk(struct disk_request *request, struct disk *disk, int error)
{
    struct handshake *handshake =
        container_of(request, struct handshake, opening);
    struct connection *connection = handshake->connection;

    handshake->opening_under_way = false;
    if (!error)
        handshake->disk = disk;
    if (handshake->stopped) {
        option_export_forget(handshake);
        handshake_abandon(handshake);
        return;
    }
    if (error) {
        handshake_resume(handshake, refuse_open(handshake, error));
        return;
    }
    /* A client's own disk ends with its connection: on one thread, even if it
     * is parallel. */
    if ((!disk->parallel || !disk->shared) &&
        disk->pub.loop != connection->worker->loop) {
        handshake->opening_under_way = true;
        handshake_detach(handshake);
        connection_move(connection, worker_of(disk->pub.loop), on_arrived);
        return;
    }
    handshake_resume(handshake, answer(handshake));
}

static void open_disk_of(struct handshake *handshake)
{
    struct connection *connection = handshake->connection;

    handshake->opening.loop = connection->worker->loop;
    handshake->opening.got = on_disk;
    handshake->opening_under_way = true;
    disk_get(chain.layers[0], handshake->name, settings.read_only,
             &connection->client, NULL, &handshake->opening);
}

/* The disk does without the client, who may already want another. */
static void on_gone(struct loop_message *message)
{
    struct handshake *handshake =
        container_of(message, struct handshake, put.message);

    handshake->putting = false;
    if (handshake->stopped) {
        handshake_abandon(handshake);
        return;
    }
    if (handshake->open_next) {
        handshake->open_next = false;
        open_disk_of(handshake);
    }
}

/* Takes name over.  The state is left alone only if the answer is complete and
 * another option may follow. */
static void choose(struct handshake *handshake, char *name)
{
    enum handshake_state next;

    if (!name) {
        handshake_fail(handshake, "out of memory");
        return;
    }
    if (handshake->disk && strcmp(handshake->name, name) == 0) {
        free(name);
        next = answer(handshake);
        if (next != HANDSHAKE_HEADER && handshake->state != HANDSHAKE_FAILED)
            handshake_set_state(handshake, next);
        return;
    }
    option_export_forget(handshake);
    free(handshake->name);
    handshake->name = name;
    handshake_wait(handshake);
    if (handshake->putting)
        handshake->open_next = true;
    else
        open_disk_of(handshake);
}

void option_export_by_name(struct handshake *handshake)
{
    const char *name = (const char *)handshake->data;

    if (handshake->connection->negotiated.style == NBD_EXTENDED) {
        handshake_fail(handshake, "EXPORT_NAME with extended headers");
        return;
    }
    if (handshake->length > NBD_MAX_STRING) {
        handshake_fail(handshake, "the export name is longer than %d bytes",
                       NBD_MAX_STRING);
        return;
    }
    if (handshake->length > 0 && !text_is_utf8(name, handshake->length)) {
        handshake_fail(handshake, "the export name is not UTF-8");
        return;
    }
    choose(handshake,
           strndup(handshake->length > 0 ? name : "", handshake->length));
}

void option_info(struct handshake *handshake)
{
    struct nbd_info_request request;

    switch (
        nbd_info_request_parse(handshake->data, handshake->length, &request)) {
    case NBD_PARSED:
        handshake->wanted = request.wanted;
        choose(handshake, strndup(request.name.text, request.name.length));
        break;
    case NBD_PARSED_TOO_BIG:
        handshake_error(handshake, NBD_REP_ERR_TOO_BIG,
                        "an export name has at most %d bytes", NBD_MAX_STRING);
        break;
    default:
        handshake_error(handshake, NBD_REP_ERR_INVALID,
                        "the option's data is malformed");
        break;
    }
}

void option_oldstyle(struct handshake *handshake)
{
    if (handshake->draining)
        handshake_fail(handshake, "the server is shutting down");
    else
        choose(handshake, strdup(""));
}

void option_export_enter(struct handshake *handshake)
{
    struct connection *connection = handshake->connection;

    connection->disk = handshake->disk;
    connection->lane = &handshake->disk->lanes[connection->worker->index];
    connection->admitted = true;
    handshake->disk = NULL;
    handshake->admitted = false;
}

void option_export_forget(struct handshake *handshake)
{
    if (!handshake->disk)
        return;
    /* It was got after the one before had been put back. */
    assert(!handshake->putting);
    if (handshake->admitted)
        disk_leave(handshake->disk, &handshake->connection->client);
    handshake->admitted = false;
    handshake->putting = true;
    handshake->put.loop = handshake->connection->worker->loop;
    handshake->put.message.fn = on_gone;
    disk_put(handshake->disk, &handshake->put);
    handshake->disk = NULL;
}

bool option_export_is_under_way(const struct handshake *handshake)
{
    return handshake->opening_under_way || handshake->putting;
}
