/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What a command must look like: each check that the specification asks for, in
 * one table and a few functions. */
#include "server/job.h"

#include "server/connection.h"
#include "server/disk.h"
#include "server/worker.h"

#include <errno.h>
#include <string.h>

/* By enum nbd_command.  feature: the transmission flag without which a client
 * may not send it. */
static const struct rule {
    uint16_t flags, feature;
    bool known, ranged, writes;
} rules[] = {
    [NBD_CMD_READ] = {.known = true, .ranged = true, .flags = NBD_CMD_FLAG_DF},
    [NBD_CMD_WRITE] = {.known = true, .ranged = true, .writes = true},
    [NBD_CMD_DISC] = {.known = true},
    [NBD_CMD_FLUSH] = {.known = true, .feature = NBD_FLAG_SEND_FLUSH},
    [NBD_CMD_TRIM] = {.known = true,
                      .ranged = true,
                      .writes = true,
                      .feature = NBD_FLAG_SEND_TRIM},
    [NBD_CMD_CACHE] = {.known = true,
                       .ranged = true,
                       .feature = NBD_FLAG_SEND_CACHE},
    [NBD_CMD_WRITE_ZEROES] = {.known = true,
                              .ranged = true,
                              .writes = true,
                              .feature = NBD_FLAG_SEND_WRITE_ZEROES,
                              .flags = NBD_CMD_FLAG_NO_HOLE |
                                       NBD_CMD_FLAG_FAST_ZERO},
    [NBD_CMD_BLOCK_STATUS] = {.known = true,
                              .ranged = true,
                              .flags = NBD_CMD_FLAG_REQ_ONE},
};

/* The flags that this command may carry on this connection. */
static uint16_t flags_allowed(const struct connection *connection,
                              const struct rule *rule,
                              const struct nbd_request *header)
{
    const struct negotiated *negotiated = &connection->negotiated;
    uint16_t flags = rule->flags;

    if (negotiated->transmission_flags & NBD_FLAG_SEND_FUA)
        flags |= NBD_CMD_FLAG_FUA;
    if (!(negotiated->transmission_flags & NBD_FLAG_SEND_DF))
        flags &= (uint16_t)~NBD_CMD_FLAG_DF;
    if (!(negotiated->transmission_flags & NBD_FLAG_SEND_FAST_ZERO))
        flags &= (uint16_t)~NBD_CMD_FLAG_FAST_ZERO;
    if (negotiated->style == NBD_EXTENDED &&
        (header->type == NBD_CMD_WRITE ||
         (header->type == NBD_CMD_BLOCK_STATUS &&
          negotiated->transmission_flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD)))
        flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
    return flags;
}

static int refuse(struct command *command, int error, const char *why)
{
    command->why = why;
    return error;
}

static int check_flags(const struct connection *connection,
                       struct command *command, const struct rule *rule)
{
    const struct nbd_request *header = &command->header;

    if (header->flags & ~flags_allowed(connection, rule, header))
        return refuse(command, EINVAL,
                      "a command flag that this command does not have here");
    if (header->type == NBD_CMD_WRITE &&
        connection->negotiated.style == NBD_EXTENDED &&
        !(header->flags & NBD_CMD_FLAG_PAYLOAD_LEN))
        return refuse(command, EINVAL,
                      "NBD_CMD_WRITE needs NBD_CMD_FLAG_PAYLOAD_LEN");
    return 0;
}

/* offset and length lie in the export, and are multiples of the block size. */
static int check_range(const struct connection *connection,
                       struct command *command)
{
    const struct negotiated *negotiated = &connection->negotiated;
    const struct nbd_request *header = &command->header;
    uint64_t unit = negotiated->block_min - 1;
    uint16_t type = header->type;

    if (command->length == 0)
        return refuse(command, EINVAL, "the length is 0");
    if (header->offset > negotiated->size ||
        command->length > negotiated->size - header->offset)
        return refuse(command,
                      type == NBD_CMD_WRITE || type == NBD_CMD_WRITE_ZEROES
                          ? ENOSPC
                          : EINVAL,
                      "the range does not lie inside the export");
    if (header->offset & unit || command->length & unit)
        return refuse(command, EINVAL,
                      "the range is no multiple of the minimum block size");
    return 0;
}

/* The size of what travels. */
static int check_size(const struct connection *connection,
                      struct command *command)
{
    const struct negotiated *negotiated = &connection->negotiated;
    const struct nbd_request *header = &command->header;

    if (command->length <= negotiated->block_max)
        return 0;
    if (header->type == NBD_CMD_WRITE)
        return refuse(command, EINVAL,
                      "the payload is above the maximum payload size");
    if (header->type != NBD_CMD_READ)
        return 0;
    if (header->flags & NBD_CMD_FLAG_DF)
        return refuse(command, EOVERFLOW,
                      "too long to be read without fragmentation");
    if (negotiated->style == NBD_SIMPLE)
        return refuse(command, EINVAL,
                      "the length is above the maximum payload size");
    return 0;
}

static int check(const struct connection *connection, struct command *command)
{
    const struct negotiated *negotiated = &connection->negotiated;
    const struct nbd_request *header = &command->header;
    const struct rule *rule;
    int err;

    if (header->type >= sizeof rules / sizeof rules[0] ||
        !rules[header->type].known)
        return refuse(command, EINVAL, "no such command");
    rule = &rules[header->type];
    err = check_flags(connection, command, rule);
    if (err)
        return err;
    if (rule->writes && negotiated->transmission_flags & NBD_FLAG_READ_ONLY)
        return refuse(command, EPERM, "the export is read-only");
    if (rule->feature && !(negotiated->transmission_flags & rule->feature))
        return refuse(command, EINVAL,
                      "the export does not offer this command");
    if (header->type == NBD_CMD_BLOCK_STATUS && !negotiated->allocation)
        return refuse(command, EINVAL, "no metadata context was negotiated");
    if (header->type == NBD_CMD_FLUSH && (header->offset || header->length))
        return refuse(command, EINVAL,
                      "offset and length of a flush must be 0");
    err = rule->ranged ? check_range(connection, command) : 0;
    if (!err)
        err = check_size(connection, command);
    if (!err && connection->worker->draining)
        err = refuse(command, ESHUTDOWN, "the server is shutting down");
    return err;
}

/* Bytes that follow the header. */
static uint64_t payload_of(const struct connection *connection,
                           const struct nbd_request *header)
{
    if (connection->negotiated.style == NBD_EXTENDED)
        return header->flags & NBD_CMD_FLAG_PAYLOAD_LEN ? header->length : 0;
    return header->type == NBD_CMD_WRITE ? header->length : 0;
}

/* BLOCK_STATUS with a list of context ids: 8 bytes of effect length, then the
 * ids.  Only one context exists, so a longer list than the buffer's must have
 * unknown or repeated ones. */
static bool wants_status_payload(const struct connection *connection,
                                 const struct command *command)
{
    uint16_t flags = command->header.flags;
    uint64_t length = command->header.length;

    return command->header.type == NBD_CMD_BLOCK_STATUS &&
           flags & NBD_CMD_FLAG_PAYLOAD_LEN &&
           !(flags & ~flags_allowed(connection, &rules[NBD_CMD_BLOCK_STATUS],
                                    &command->header)) &&
           length >= 12 && length % 4 == 0 && length <= sizeof command->payload;
}

void command_payload_complete(struct connection *connection)
{
    struct command *command = &connection->receive.command;
    unsigned ids = (command->payload_n - 8) / 4;
    uint32_t id = load_be32(command->payload + 8);

    command->length = load_be64(command->payload);
    command->state = COMMAND_ISSUE;
    if (ids != 1 || id != connection->negotiated.allocation_id)
        command->error =
            refuse(command, EINVAL, "unknown or repeated metadata context ids");
    else
        command->error = check(connection, command);
}

/* Field by field, but the payload: this is for every command, and to clear all
 * of it at once takes longer than most of the rest. */
static void reset(struct command *command, const struct nbd_request *header)
{
    command->state = COMMAND_ISSUE;
    command->header = *header;
    command->length = header->length;
    command->use = MEMORY_WRITE;
    command->error = 0;
    command->why = NULL;
    command->issued = command->received = 0;
    command->drop = command->at_hand = 0;
    command->dropped = false;
    command->job = NULL;
    command->part = NULL;
    command->spare = false;
    command->payload_n = 0;
}

bool command_begin(struct connection *connection,
                   const struct nbd_request *header)
{
    struct command *command = &connection->receive.command;
    uint64_t payload = payload_of(connection, header);

    reset(command, header);
    pace_begin(&connection->receive.pace);
    /* An extended WRITE without PAYLOAD_LEN is wrong, and has none to drop. */
    command->dropped = payload == 0;
    if (payload > LIMIT_PAYLOAD)
        return false;
    if (wants_status_payload(connection, command)) {
        command->state = COMMAND_PAYLOAD;
        return true;
    }
    command->error = check(connection, command);
    if (!command->error && header->type == NBD_CMD_BLOCK_STATUS && payload)
        command->error =
            refuse(command, EINVAL, "a payload that is no list of context ids");
    if (command->error && payload) {
        command->state = COMMAND_DROP;
        command->drop = payload;
    }
    return true;
}
