/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* REPLAY and FENCE: what the log says, object after object, until its end is
 * ours.
 *
 * Headers and tables are fetched some ahead, in the epoch that is being read;
 * what lies behind its fence is garbage (I6), and not looked at.  Only a name
 * that is missing may be fenced, never one that is damaged (P4), and never in
 * an epoch above ours. */
#include "volume_open.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define AHEAD     16
#define HEAD_SIZE (64 * 1024)

struct slot {
    struct opening *opening;
    struct store_call call;
    char name[NAME_SIZE];
    uint8_t *buffer;
    bool busy, stale; /* stale: it was asked for in an epoch that has ended */
    bool answered;
    unsigned tries; /* it came damaged */
    uint64_t seq;
};

struct replay {
    struct slot slots[AHEAD]; /* of seq in slot seq % AHEAD */
    uint32_t epoch;           /* that is being read */
    uint64_t seq, asked;      /* the next; and the next to be asked for */
    uint32_t last_crc;
    bool closed;                /* its last object said `close` */
    uint8_t session[UUID_SIZE]; /* of the epoch's objects */
    bool has_session;

    /* What lies behind the first name that is missing. */
    struct store_call beyond;
    char beyond_name[NAME_SIZE], beyond_after[NAME_SIZE];
    uint64_t highest;

    uint8_t fence[LOG_HEADER_SIZE];
    uint32_t fence_crc;
    struct iovec fence_body;
    struct store_call fence_call;
    char fence_name[NAME_SIZE];
};

static void ask(struct opening *opening);
static void ask_again(struct slot *slot);
static void take(struct opening *opening);

void replay_free(struct opening *opening)
{
    struct replay *replay = opening->replay;

    if (!replay)
        return;
    for (unsigned i = 0; i < AHEAD; i++)
        free(replay->slots[i].buffer);
    free(replay);
    opening->replay = NULL;
}

/* --- one object --- */

static const char *apply_entry(struct volume *volume,
                               const struct log_header *header,
                               const struct log_entry *entry,
                               struct replay *replay)
{
    struct extent extent = {.block = entry->block, .count = entry->count};

    switch (entry->op) {
    case LOG_WRITE:
        extent.kind = EXTENT_DATA;
        extent.seq = header->seq;
        extent.offset = entry->offset;
        break;
    case LOG_ZERO:
        extent.kind = EXTENT_ZERO;
        break;
    case LOG_TRIM:
        extent.kind = EXTENT_HOLE;
        break;
    case LOG_CLOSE:
        replay->closed = true;
        return NULL;
    default:
        return "an operation that this version does not know";
    }
    if (!map_reserve(volume->map, 1))
        return "no memory";
    map_set(volume->map, &extent);
    return NULL;
}

static const char *apply_table(struct opening *opening,
                               const struct log_header *header,
                               const struct slot *slot)
{
    struct volume *volume = opening->volume;
    const uint8_t *table = slot->buffer + LOG_HEADER_SIZE;
    const char *fault = NULL;

    for (uint32_t i = 0; i < header->entries && !fault; i++) {
        struct log_entry entry;

        fault = log_entry_decode(table + (uint64_t)i * LOG_ENTRY_SIZE, header,
                                 volume_blocks(volume), &entry);
        if (!fault)
            fault = apply_entry(volume, header, &entry, opening->replay);
    }
    return fault;
}

/* Is it as it was written? */
static const char *check_whole(const struct slot *slot,
                               struct log_header *header)
{
    const char *fault;

    if (slot->call.got < LOG_HEADER_SIZE)
        return "its header is cut";
    fault = log_header_decode(slot->buffer, header);
    if (fault)
        return fault;
    if (slot->call.size != UINT64_MAX && slot->call.size != header->size)
        return "it is cut";
    if (LOG_HEADER_SIZE + (uint64_t)header->table_bytes > slot->call.got)
        return "its table is cut";
    return log_table_check(header, slot->buffer + LOG_HEADER_SIZE,
                           header->table_bytes);
}

/* Is it the one that comes next? */
static const char *check_place(struct opening *opening,
                               const struct log_header *header)
{
    const struct replay *replay = opening->replay;
    const struct volume *volume = opening->volume;

    if (memcmp(header->uuid, volume->superblock.uuid, UUID_SIZE) != 0)
        return "it belongs to another volume";
    if (header->epoch != replay->epoch)
        return "it belongs to another epoch";
    if (header->seq != replay->seq)
        return "it has another number";
    if (header->previous_crc != replay->last_crc)
        return "it does not follow the one before it";
    if (header->kind == LOG_DATA && replay->has_session &&
        memcmp(header->session, replay->session, UUID_SIZE) != 0)
        return "it belongs to another session";
    return NULL;
}

/* The epoch that is read has ended; the log goes on in another one. */
static void follow_fence(struct opening *opening,
                         const struct log_header *header)
{
    struct replay *replay = opening->replay;
    struct volume *volume = opening->volume;

    if (volume->epoch && header->fence > volume->epoch) {
        opening_fail(opening, EBUSY,
                     "somebody else has claimed the volume meanwhile (epoch "
                     "%" PRIu32 ")",
                     header->fence);
        return;
    }
    if (header->fence <= replay->epoch) {
        opening_fail(opening, EIO,
                     "log object %" PRIu64 ": its fence leads "
                     "back to epoch %" PRIu32,
                     header->seq, header->fence);
        return;
    }
    replay->epoch = header->fence;
    replay->has_session = false;
    for (unsigned i = 0; i < AHEAD; i++)
        replay->slots[i].stale = true;
    if (volume_add_epoch(volume, replay->epoch, replay->seq))
        opening_fail(opening, ENOMEM, "no memory");
    replay->asked = replay->seq;
}

static void apply(struct opening *opening, struct slot *slot)
{
    struct replay *replay = opening->replay;
    struct log_header header;
    const char *fault = check_whole(slot, &header);

    if (fault && ++slot->tries < OPENING_TRIES) {
        ask_again(slot);
        return;
    }
    slot->tries = 0;
    if (!fault)
        fault = check_place(opening, &header);
    replay->closed = false;
    if (!fault && header.kind == LOG_DATA)
        fault = apply_table(opening, &header, slot);
    if (fault) {
        opening_fail(opening, EIO,
                     "log object %" PRIu64 " (epoch %" PRIu32 "): %s",
                     replay->seq, replay->epoch, fault);
        return;
    }
    replay->last_crc = header.own_crc;
    replay->seq++;
    if (header.kind == LOG_FENCE) {
        follow_fence(opening, &header);
    } else {
        memcpy(replay->session, header.session, UUID_SIZE);
        replay->has_session = true;
    }
}

/* --- the end of what there is --- */

static void serve(struct opening *opening)
{
    struct replay *replay = opening->replay;

    writer_start(&opening->volume->writer, replay->seq, replay->last_crc);
    opening_serve(opening);
}

static void on_fence(struct store_call *call)
{
    struct opening *opening = call->arg;
    struct replay *replay = opening->replay;
    struct volume *volume = opening->volume;

    opening->calls--;
    if (opening->ended) {
        opening_idle(opening);
        return;
    }
    if (call->result == STORE_OK) {
        replay->last_crc = replay->fence_crc;
        replay->seq++;
        if (volume_add_epoch(volume, volume->epoch, replay->seq))
            opening_fail(opening, ENOMEM, "no memory");
        else
            serve(opening);
    } else if (call->result == STORE_EXISTS) {
        /* The old writer, or another claimer, was faster: what is it? */
        for (unsigned i = 0; i < AHEAD; i++)
            replay->slots[i].stale = true;
        replay->asked = replay->seq;
        ask(opening);
    } else {
        opening_fail(opening, opening_error(call->result), "%s: %s",
                     replay->fence_name, call->why);
    }
}

static void fence(struct opening *opening)
{
    struct replay *replay = opening->replay;
    struct volume *volume = opening->volume;
    struct store_call *call = &replay->fence_call;
    struct log_header header = {
        .kind = LOG_FENCE,
        .block_size = BLOCK_SIZE,
        .epoch = replay->epoch,
        .seq = replay->seq,
        .payload_offset = LOG_HEADER_SIZE,
        .size = LOG_HEADER_SIZE,
        .previous_crc = replay->last_crc,
        .fence = volume->epoch,
        .time_ms = (uint64_t)time(NULL) * 1000,
        .table_crc = log_table_crc(NULL, 0),
    };

    memcpy(header.uuid, volume->superblock.uuid, UUID_SIZE);
    memcpy(header.session, volume->session, UUID_SIZE);
    log_header_encode(&header, replay->fence);
    replay->fence_crc = header.own_crc;
    replay->fence_body = (struct iovec){replay->fence, LOG_HEADER_SIZE};
    name_log(replay->fence_name, volume->superblock.uuid, replay->epoch,
             replay->seq);
    memset(call, 0, sizeof *call);
    call->verb = STORE_CREATE;
    call->name = replay->fence_name;
    call->body = &replay->fence_body;
    call->body_n = 1;
    call->length = LOG_HEADER_SIZE;
    call->session = volume->session;
    call->done = on_fence;
    call->arg = opening;
    opening->calls++;
    store_start(volume->store, call);
}

/* --- is it the end, or has something been lost? --- */

static void lost(struct opening *opening)
{
    const struct replay *replay = opening->replay;

    opening_fail(opening, EIO,
                 "log object %" PRIu64 " (epoch %" PRIu32 ") is missing, but "
                 "%" PRIu64 " is there",
                 replay->seq, replay->epoch, replay->highest);
}

/* Does it end its epoch?  Then everything before it was there once: a session
 * closes, and another is fenced, behind what is committed. */
static bool is_last_of_epoch(const struct store_call *call)
{
    struct log_header header;
    const uint8_t *entry;
    struct log_entry last;

    if (call->got < LOG_HEADER_SIZE || log_header_decode(call->into, &header))
        return false;
    if (header.kind == LOG_FENCE)
        return true;
    if (header.entries == 0 ||
        LOG_HEADER_SIZE + (uint64_t)header.table_bytes > call->got)
        return false;
    entry = (const uint8_t *)call->into + LOG_HEADER_SIZE +
            (uint64_t)(header.entries - 1) * LOG_ENTRY_SIZE;
    return !log_entry_decode(entry, &header, UINT64_MAX, &last) &&
           last.op == LOG_CLOSE;
}

static void on_beyond(struct store_call *call)
{
    struct opening *opening = call->arg;

    opening->calls--;
    if (opening->ended)
        opening_idle(opening);
    else if (call->result == STORE_OK && is_last_of_epoch(call))
        lost(opening);
    else if (call->result == STORE_OK || call->result == STORE_MISSING)
        fence(opening);
    else
        opening_fail(opening, opening_error(call->result), "%s: %s",
                     opening->replay->beyond_name, call->why);
}

static void on_listed(struct store_call *call)
{
    struct opening *opening = call->arg;
    struct replay *replay = opening->replay;

    opening->calls--;
    if (opening->ended) {
        opening_idle(opening);
    } else if (call->result != STORE_OK) {
        opening_fail(opening, opening_error(call->result), "listing %s: %s",
                     replay->beyond_name, call->why);
    } else if (replay->highest == 0) {
        fence(opening);
    } else if (replay->highest > replay->seq + WRITER_AHEAD || call->more) {
        lost(opening);
    } else {
        name_log(replay->beyond_name, opening->volume->superblock.uuid,
                 replay->epoch, replay->highest);
        memset(call, 0, sizeof *call);
        call->verb = STORE_GET;
        call->name = replay->beyond_name;
        call->length = HEAD_SIZE;
        call->into = opening->buffer;
        call->into_max = HEAD_SIZE;
        call->done = on_beyond;
        call->arg = opening;
        opening->calls++;
        store_start(opening->volume->store, call);
    }
}

static void on_name_beyond(struct store_call *call, const char *name,
                           uint64_t size)
{
    struct opening *opening = call->found_arg;
    struct replay *replay = opening->replay;
    uint32_t epoch;
    uint64_t seq;

    (void)size;
    if (name_parse_log(name, opening->volume->superblock.uuid, &epoch, &seq) &&
        epoch == replay->epoch && seq > replay->seq && seq > replay->highest)
        replay->highest = seq;
}

/* A writer that was killed may have stored some objects behind one that it had
 * not: those are garbage.  More of them, or one that ends the epoch, say that
 * something was lost since (P4). */
static void look_beyond(struct opening *opening)
{
    struct replay *replay = opening->replay;
    struct store_call *call = &replay->beyond;

    replay->highest = 0;
    name_log(replay->beyond_after, opening->volume->superblock.uuid,
             replay->epoch, replay->seq);
    strcpy(replay->beyond_name, replay->beyond_after);
    *(strrchr(replay->beyond_name, '/') + 1) = '\0';
    memset(call, 0, sizeof *call);
    call->verb = STORE_LIST;
    call->name = replay->beyond_name;
    call->after = replay->beyond_after;
    call->found = on_name_beyond;
    call->found_arg = opening;
    call->done = on_listed;
    call->arg = opening;
    opening->calls++;
    store_start(opening->volume->store, call);
}

/* The name of the next object is free. */
static void at_the_end(struct opening *opening)
{
    const struct replay *replay = opening->replay;
    struct volume *volume = opening->volume;

    if (volume->options.read_only) {
        serve(opening);
    } else if (!volume->epoch) {
        if (opening->epoch > 0 && !replay->closed)
            opening_fail(opening, EBUSY,
                         "another server has it open, or has not closed it "
                         "(take-over=yes takes it over)");
        else
            opening_claim(opening);
    } else if (replay->epoch == volume->epoch) {
        serve(opening);
    } else if (replay->epoch > volume->epoch) {
        opening_fail(opening, EBUSY,
                     "somebody else has claimed the volume meanwhile (epoch "
                     "%" PRIu32 ")",
                     replay->epoch);
    } else {
        look_beyond(opening);
    }
}

/* --- asking ahead --- */

static void on_head(struct store_call *call)
{
    struct slot *slot = call->arg;
    struct opening *opening = slot->opening;

    opening->calls--;
    slot->busy = false;
    slot->answered = !slot->stale;
    if (opening->ended)
        opening_idle(opening);
    else
        take(opening);
}

/* What has been answered, in order. */
static void take(struct opening *opening)
{
    struct replay *replay = opening->replay;

    while (!opening->ended) {
        struct slot *slot = &replay->slots[replay->seq % AHEAD];
        const struct store_call *call = &slot->call;

        if (!slot->answered || slot->stale || slot->seq != replay->seq)
            break;
        slot->answered = false;
        if (call->result == STORE_MISSING) {
            at_the_end(opening);
            return;
        }
        if (call->result != STORE_OK) {
            opening_fail(opening, opening_error(call->result), "%s: %s",
                         slot->name, call->why);
            return;
        }
        apply(opening, slot);
        if (slot->busy)
            return; /* it is asked for again */
        /* Our own fence, seen after its outcome was unknown. */
        if (!opening->ended && opening->volume->epoch &&
            replay->epoch == opening->volume->epoch) {
            serve(opening);
            return;
        }
    }
    if (!opening->ended)
        ask(opening);
}

static bool ask_one(struct opening *opening, struct slot *slot, uint64_t seq)
{
    if (!slot->buffer)
        slot->buffer = malloc(HEAD_SIZE);
    if (!slot->buffer)
        return false;
    slot->opening = opening;
    slot->seq = seq;
    slot->stale = false;
    slot->tries = 0;
    name_log(slot->name, opening->volume->superblock.uuid,
             opening->replay->epoch, seq);
    ask_again(slot);
    return true;
}

static void ask_again(struct slot *slot)
{
    struct opening *opening = slot->opening;
    struct store_call *call = &slot->call;

    slot->busy = true;
    slot->answered = false;
    memset(call, 0, sizeof *call);
    call->verb = STORE_GET;
    call->name = slot->name;
    call->length = HEAD_SIZE;
    call->into = slot->buffer;
    call->into_max = HEAD_SIZE;
    call->done = on_head;
    call->arg = slot;
    opening->calls++;
    store_start(opening->volume->store, call);
}

static void ask(struct opening *opening)
{
    struct replay *replay = opening->replay;

    while (replay->asked < replay->seq + AHEAD) {
        struct slot *slot = &replay->slots[replay->asked % AHEAD];

        if (slot->busy)
            return; /* it goes on when that has come back */
        if (!ask_one(opening, slot, replay->asked)) {
            opening_fail(opening, ENOMEM, "no memory");
            return;
        }
        replay->asked++;
    }
}

void replay_begin(struct opening *opening)
{
    struct volume *volume = opening->volume;
    struct replay *replay = opening->replay;

    volume->state = VOLUME_REPLAYING;
    if (!replay) {
        replay = opening->replay = calloc(1, sizeof *replay);
        if (!replay || volume_add_epoch(volume, 1, 1)) {
            opening_fail(opening, ENOMEM, "no memory");
            return;
        }
        replay->epoch = 1;
        replay->seq = 1;
    }
    /* What was missing may be there by now. */
    for (unsigned i = 0; i < AHEAD; i++)
        replay->slots[i].stale = true;
    replay->asked = replay->seq;
    if (volume->epoch == 1) {
        serve(opening); /* there was nobody before */
        return;
    }
    ask(opening);
}
