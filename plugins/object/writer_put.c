/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Sealing, storing, committing.  See writer.h. */
#include "writer_put.h"

#include "volume.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Objects sealed for flushes and not stored yet: past that a flush shares the
 * next one (group commit). */
#define FLUSHING_MAX 8
/* Between two attempts of ours, each of which is many of the store's. */
#define AGAIN_NS UINT64_C(1000000000)

static void put(struct log_object *object);
static void go_on(struct writer *writer);

void log_object_free(struct log_object *object)
{
    abd_timer_stop(&object->again);
    free(object->entries);
    free(object->chunks);
    free(object->head);
    free(object->body);
    free(object);
}

static void on_room_task(void *arg)
{
    struct writer *writer = arg;

    writer->room_task_posted = false;
    if (writer->on_room)
        writer->on_room(writer->on_room_arg);
}

static void tell_room(struct writer *writer)
{
    if (!writer->room_missed || writer->room_task_posted)
        return;
    writer->room_missed = false;
    writer->room_task_posted = true;
    abd_post(writer->volume->loop, &writer->room_task, on_room_task, writer);
}

void writer_give_chunks(struct writer *writer, struct log_object *object)
{
    for (unsigned i = 0; i < object->chunks_n; i++)
        writer->free_chunks[writer->free_n++] = object->chunks[i];
    object->chunks_n = 0;
}

/* --- waiting for commitment --- */

static void end_waits(struct writer *writer, uint64_t seq, int error)
{
    struct list ended;

    list_init(&ended);
    while (!list_is_empty(&writer->waits)) {
        struct writer_wait *wait =
            container_of(writer->waits.next, struct writer_wait, link);

        if (wait->seq > seq)
            break;
        list_remove(&wait->link);
        list_append(&ended, &wait->link);
    }
    while (!list_is_empty(&ended)) {
        struct writer_wait *wait =
            container_of(ended.next, struct writer_wait, link);

        list_remove(&wait->link);
        wait->done(wait, error);
    }
}

static void commit(struct writer *writer)
{
    while (!list_is_empty(&writer->objects)) {
        struct log_object *first =
            container_of(writer->objects.next, struct log_object, link);

        if (first->state != OBJECT_STORED)
            break;
        list_remove(&first->link);
        writer->committed = first->seq;
        log_object_free(first);
    }
    end_waits(writer, writer->committed, 0);
}

/* --- storing --- */

static bool is_alive(const struct volume *volume)
{
    return volume->state == VOLUME_SERVING || volume->state == VOLUME_CLOSING;
}

static void on_again(void *arg)
{
    put(arg);
}

static void tell_trouble(const struct log_object *object, const char *why)
{
    struct volume *volume = object->volume;
    char text[2 * STORE_WHY_MAX];

    snprintf(text, sizeof text, "storing log object %llu: %s",
             (unsigned long long)object->seq, why);
    if (volume->trouble)
        volume->trouble(volume, text, volume->arg);
}

static void on_put(struct store_call *call)
{
    struct log_object *object = call->arg;
    struct volume *volume = object->volume;
    struct writer *writer = &volume->writer;

    writer->calls--;
    object->in_flight = false;
    if (call->result == STORE_OK) {
        object->state = OBJECT_STORED;
        writer->putting--;
        writer->objects_stored++;
        writer->bytes_stored += call->length;
        writer_give_chunks(writer, object);
        if (!writer->spare_head) {
            writer->spare_head = object->head;
            object->head = NULL;
        }
        commit(writer);
        go_on(writer);
    } else if (call->result == STORE_EXISTS) {
        /* A fence, or another session's object: the log is not ours (I6). */
        volume_fence(volume, "log object %llu: %s",
                     (unsigned long long)object->seq, call->why);
    } else if (is_alive(volume)) {
        /* Who waits is told; the data is kept, and tried again (P5). */
        tell_trouble(object, call->why);
        end_waits(writer, UINT64_MAX, EIO);
        abd_timer_start(&object->again, AGAIN_NS, 0, on_again, object);
    }
    if (writer->calls == 0 && !is_alive(volume))
        volume_idle(volume);
}

static void put(struct log_object *object)
{
    struct store_call *call = &object->call;

    memset(call, 0, sizeof *call);
    call->verb = STORE_CREATE;
    call->name = object->name;
    call->body = object->body;
    call->body_n = object->chunks_n + 1;
    call->length = object->header.size;
    call->session = object->volume->session;
    call->done = on_put;
    call->arg = object;
    object->volume->writer.calls++;
    object->in_flight = true;
    store_start(object->volume->store, call);
}

/* --- sealing --- */

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Offsets count from the object's start from now on, in the map, too. */
static void shift(struct log_object *object, uint32_t payload_offset)
{
    for (unsigned i = 0; i < object->entries_n; i++) {
        struct log_entry *entry = &object->entries[i];

        if (entry->op != LOG_WRITE)
            continue;
        entry->offset += payload_offset / 8;
        map_seal(object->volume->map, entry->block, entry->count,
                 payload_offset / 8);
    }
}

static void encode(struct log_object *object)
{
    struct volume *volume = object->volume;
    struct log_header *header = &object->header;
    uint32_t table = object->entries_n * LOG_ENTRY_SIZE;
    uint32_t payload_offset = (LOG_HEADER_SIZE + table + 7) & ~7U;

    *header = (struct log_header){
        .kind = LOG_DATA,
        .block_size = BLOCK_SIZE,
        .epoch = volume->epoch,
        .entries = object->entries_n,
        .seq = object->seq,
        .table_bytes = table,
        .payload_offset = payload_offset,
        .size = payload_offset + object->payload,
        .previous_crc = volume->writer.last_crc,
        .time_ms = now_ms(),
    };
    memcpy(header->uuid, volume->superblock.uuid, UUID_SIZE);
    memcpy(header->session, volume->session, UUID_SIZE);
    shift(object, payload_offset);
    memset(object->head, 0, payload_offset);
    for (unsigned i = 0; i < object->entries_n; i++)
        log_entry_encode(&object->entries[i],
                         object->head + LOG_HEADER_SIZE + i * LOG_ENTRY_SIZE);
    header->table_crc = log_table_crc(object->head + LOG_HEADER_SIZE, table);
    log_header_encode(header, object->head);
    volume->writer.last_crc = header->own_crc;
}

static bool get_head(struct writer *writer, struct log_object *object)
{
    object->head = malloc(LOG_HEADER_SIZE + 8 +
                          (size_t)object->entries_n * LOG_ENTRY_SIZE);
    if (!object->head) {
        object->head = writer->spare_head;
        writer->spare_head = NULL;
    }
    return object->head != NULL;
}

static void seal(struct writer *writer)
{
    struct log_object *object = writer->open;
    uint64_t left = object->payload;

    if (!get_head(writer, object))
        return; /* another PUT has the spare one, and gives it back */
    writer->open = NULL;
    writer->flush_asked = writer->seal_empty = false;
    abd_timer_stop(&writer->seal_timer);
    writer->seal_timer_runs = false;
    encode(object);
    object->body[0] =
        (struct iovec){object->head, object->header.payload_offset};
    for (unsigned i = 0; i < object->chunks_n; i++) {
        uint64_t n = left < WRITER_CHUNK ? left : WRITER_CHUNK;

        object->body[i + 1] = (struct iovec){object->chunks[i], n};
        left -= n;
    }
    name_log(object->name, writer->volume->superblock.uuid,
             writer->volume->epoch, object->seq);
    object->state = OBJECT_PUTTING;
    writer->putting++;
    put(object);
}

static bool may_seal(const struct writer *writer)
{
    return writer->open &&
           (writer->open->entries_n > 0 || writer->seal_empty) &&
           is_alive(writer->volume) &&
           writer->open->seq <= writer->committed + WRITER_AHEAD;
}

void writer_seal_soon(struct writer *writer)
{
    writer->flush_asked = true;
    if (may_seal(writer))
        seal(writer);
}

void writer_make_room(struct writer *writer)
{
    if (writer->putting == 0 && may_seal(writer))
        seal(writer);
}

/* One is stored: what waited for that. */
static void go_on(struct writer *writer)
{
    if (writer->flush_asked && writer->putting < FLUSHING_MAX &&
        may_seal(writer))
        seal(writer);
    tell_room(writer);
}

static bool wait_for(struct writer *writer, uint64_t seq,
                     struct writer_wait *wait)
{
    if (seq <= writer->committed)
        return true;
    wait->seq = seq;
    list_append(&writer->waits, &wait->link);
    return false;
}

bool writer_flush(struct writer *writer, struct writer_wait *wait)
{
    if (!writer->open || writer->open->entries_n == 0)
        return wait_for(
            writer, writer->open ? writer->open->seq - 1 : writer->next_seq - 1,
            wait);
    wait_for(writer, writer->open->seq, wait);
    writer->flush_asked = true;
    if (writer->putting < FLUSHING_MAX && may_seal(writer))
        seal(writer);
    return false;
}

/* What is sealed later than in this call still is: by go_on(). */
int writer_flush_always(struct writer *writer, bool with_close,
                        struct writer_wait *wait)
{
    int err = writer_need_open(writer);

    if (err)
        return err;
    if (with_close) {
        if (!writer_has_entry_room(writer->open, 1))
            return ENOMEM;
        writer->open->entries[writer->open->entries_n++] =
            (struct log_entry){.op = LOG_CLOSE};
    }
    writer->seal_empty = writer->flush_asked = true;
    wait_for(writer, writer->open->seq, wait);
    if (may_seal(writer))
        seal(writer);
    return 0;
}

void writer_abandon(struct writer *writer, int error)
{
    abd_timer_stop(&writer->seal_timer);
    writer->seal_timer_runs = false;
    list_for_each_safe (link, &writer->objects) {
        struct log_object *object = container_of(link, struct log_object, link);

        abd_timer_stop(&object->again);
        if (object->in_flight)
            store_cancel(writer->volume->store, &object->call);
    }
    end_waits(writer, UINT64_MAX, error);
    writer->room_missed = true;
    tell_room(writer);
}
