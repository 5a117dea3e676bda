/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* See writer.h: what is appended, and where it lies until it is stored.
 * writer_put.c seals and stores. */
#include "writer.h"

#include "volume.h"
#include "writer_put.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int writer_init(struct writer *writer, struct volume *volume,
                uint64_t memory_size)
{
    unsigned n = (unsigned)(memory_size / WRITER_CHUNK);

    writer->volume = volume;
    list_init(&writer->objects);
    list_init(&writer->waits);
    writer->free_chunks = calloc(n, sizeof *writer->free_chunks);
    writer->spare_head = malloc(WRITER_HEAD_MAX);
    if (!writer->free_chunks || !writer->spare_head)
        return ENOMEM;
    /* All at once: nobody may wait for memory with a request in hand. */
    while (writer->free_n < n) {
        uint8_t *chunk = abd_buffer_take(WRITER_CHUNK, ABD_BUFFER_NEEDED);

        if (!chunk)
            return ENOMEM;
        writer->free_chunks[writer->free_n++] = chunk;
    }
    writer->total = n;
    return 0;
}

void writer_start(struct writer *writer, uint64_t seq, uint32_t last_crc)
{
    writer->next_seq = seq;
    writer->committed = seq - 1;
    writer->last_crc = last_crc;
}

static void drop_object(struct writer *writer, struct log_object *object)
{
    writer_give_chunks(writer, object);
    log_object_free(object);
}

void writer_finish(struct writer *writer)
{
    struct list *link;

    abd_timer_stop(&writer->seal_timer);
    while ((link = list_take_first(&writer->objects)))
        drop_object(writer, container_of(link, struct log_object, link));
    while (writer->free_n > 0)
        abd_buffer_give(writer->free_chunks[--writer->free_n], WRITER_CHUNK,
                        ABD_BUFFER_NEEDED);
    free(writer->free_chunks);
    free(writer->spare_head);
    writer->free_chunks = NULL;
    writer->spare_head = NULL;
}

/* --- the open object --- */

static void on_seal_timer(void *arg)
{
    struct writer *writer = arg;

    writer->seal_timer_runs = false;
    if (writer->open && writer->open->entries_n > 0)
        writer_seal_soon(writer);
}

static int open_object(struct writer *writer)
{
    struct log_object *object = calloc(1, sizeof *object);
    uint64_t chunks =
        (writer->volume->superblock.object_size + WRITER_CHUNK - 1) /
            WRITER_CHUNK +
        1;

    if (!object)
        return ENOMEM;
    object->volume = writer->volume;
    object->chunks = calloc(chunks, sizeof *object->chunks);
    object->body = calloc(chunks + 1, sizeof *object->body);
    if (!object->chunks || !object->body) {
        log_object_free(object);
        return ENOMEM;
    }
    object->seq = writer->next_seq++;
    object->began_ns = abd_loop_now_ns();
    list_append(&writer->objects, &object->link);
    writer->open = object;
    return 0;
}

int writer_need_open(struct writer *writer)
{
    if (writer->open)
        return 0;
    /* One more than that could not be put before others are stored. */
    if (writer->next_seq > writer->committed + WRITER_AHEAD)
        return EAGAIN;
    return open_object(writer);
}

bool writer_has_entry_room(struct log_object *object, unsigned n)
{
    unsigned size = object->entries_size ? object->entries_size * 2 : 16;
    struct log_entry *entries;

    if (object->entries_n + n <= object->entries_size)
        return true;
    entries = realloc(object->entries, size * sizeof *entries);
    if (!entries)
        return false;
    object->entries = entries;
    object->entries_size = size;
    return true;
}

/* Blocks that an empty object has room for. */
static uint64_t object_blocks(const struct writer *writer)
{
    return writer->volume->superblock.object_size / UNIT_SIZE;
}

/* Blocks of payload that still fit. */
static uint64_t blocks_left(const struct writer *writer)
{
    const struct log_object *object = writer->open;
    uint64_t most = writer->volume->superblock.object_size;

    if (object->entries_n >= WRITER_ENTRIES ||
        object->payload + UNIT_SIZE > most)
        return 0;
    return (most - object->payload) / UNIT_SIZE;
}

static bool is_full(const struct writer *writer)
{
    return blocks_left(writer) == 0;
}

/* --- bytes --- */

static void put_bytes(struct writer *writer, struct log_object *object,
                      const void *from, uint64_t length)
{
    const uint8_t *at = from;

    while (length > 0) {
        uint64_t inside = object->payload % WRITER_CHUNK;
        uint64_t n = WRITER_CHUNK - inside;

        if (object->payload == (uint64_t)object->chunks_n * WRITER_CHUNK)
            object->chunks[object->chunks_n++] =
                writer->free_chunks[--writer->free_n];
        if (n > length)
            n = length;
        memcpy(object->chunks[object->payload / WRITER_CHUNK] + inside, at, n);
        object->payload += n;
        at += n;
        length -= n;
    }
}

static void put_unit(struct writer *writer, uint64_t block,
                     const uint8_t data[BLOCK_SIZE])
{
    struct log_object *object = writer->open;
    uint8_t check[UNIT_SIZE - BLOCK_SIZE];

    unit_seal(check, unit_check(writer->volume->superblock.uuid, object->seq,
                                block, data));
    put_bytes(writer, object, data, BLOCK_SIZE);
    put_bytes(writer, object, check, sizeof check);
}

static void copy_out(const struct log_object *object, uint64_t at, uint8_t *to,
                     uint64_t length)
{
    while (length > 0) {
        uint64_t inside = at % WRITER_CHUNK;
        uint64_t n = WRITER_CHUNK - inside;

        n = n < length ? n : length;
        memcpy(to, object->chunks[at / WRITER_CHUNK] + inside, n);
        at += n;
        to += n;
        length -= n;
    }
}

bool writer_copy(const struct writer *writer, uint64_t seq, uint64_t offset,
                 void *to, uint64_t length)
{
    const struct log_object *object;

    if (seq <= writer->committed)
        return false;
    list_for_each (link, &writer->objects) {
        object = container_of(link, struct log_object, link);
        if (object->seq != seq)
            continue;
        if (object->state == OBJECT_STORED)
            return false;
        copy_out(object, offset - object->header.payload_offset, to, length);
        return true;
    }
    return false;
}

/* --- entries --- */

static void add_entry(struct writer *writer, enum log_op op, uint64_t block,
                      uint64_t count, uint64_t at)
{
    struct log_object *object = writer->open;

    object->entries[object->entries_n++] = (struct log_entry){
        .op = op,
        .block = block,
        .count = (uint32_t)count,
        .offset = op == LOG_WRITE ? (uint32_t)(at / 8) : 0,
        .stored = op == LOG_WRITE ? (uint32_t)(count * UNIT_SIZE) : 0,
    };
    if (!writer->seal_timer_runs) {
        writer->seal_timer_runs = true;
        abd_timer_start(&writer->seal_timer,
                        writer->volume->options.seal_after_ns, 0, on_seal_timer,
                        writer);
    }
}

/* Has the open object no room for so many blocks, though an empty one had?  A
 * write is split only if it is longer than an object (P2). */
static bool must_seal(const struct writer *writer, uint64_t blocks,
                      unsigned entries)
{
    uint64_t most = object_blocks(writer);

    return is_full(writer) ||
           (writer->open->entries_n > 0 &&
            (writer->open->entries_n + entries > WRITER_ENTRIES ||
             (blocks <= most && blocks > blocks_left(writer))));
}

static uint64_t chunks_for(uint64_t bytes)
{
    return (bytes + WRITER_CHUNK - 1) / WRITER_CHUNK;
}

/* Chunks that a write of so many blocks takes, as it will be laid out. */
static uint64_t chunks_missing(const struct writer *writer, uint64_t blocks,
                               unsigned entries)
{
    const struct log_object *object = writer->open;
    uint64_t most = object_blocks(writer), n = 0;

    if (object && !must_seal(writer, blocks, entries)) {
        uint64_t here = blocks_left(writer);

        here = here < blocks ? here : blocks;
        n = chunks_for(object->payload + here * UNIT_SIZE) - object->chunks_n;
        blocks -= here;
    }
    n += blocks / most * chunks_for(most * UNIT_SIZE);
    return n + chunks_for(blocks % most * UNIT_SIZE);
}

uint64_t writer_longest(const struct writer *writer)
{
    uint64_t most = object_blocks(writer);
    uint64_t fit = (uint64_t)writer->total * WRITER_CHUNK / UNIT_SIZE;

    return most < fit ? most : fit;
}

static int need_chunks(struct writer *writer, uint64_t blocks, unsigned entries)
{
    if (chunks_missing(writer, blocks, entries) <= writer->free_n)
        return 0;
    writer->room_missed = true;
    writer_make_room(writer);
    return EAGAIN;
}

/* What could go wrong, before anything is changed. */
static int prepare(struct writer *writer, uint64_t blocks, unsigned entries,
                   unsigned objects)
{
    int err = writer_need_open(writer);

    if (!err && must_seal(writer, blocks, entries)) {
        writer_seal_soon(writer);
        err = writer_need_open(writer);
        /* It could not be sealed yet. */
        if (!err && must_seal(writer, blocks, entries))
            err = EAGAIN;
    }
    if (!err && writer->next_seq + objects > writer->committed + WRITER_AHEAD)
        err = EAGAIN;
    if (!err && (!writer_has_entry_room(writer->open, entries) ||
                 !map_reserve(writer->volume->map, objects + entries)))
        err = ENOMEM;
    if (err == EAGAIN)
        writer->room_missed = true;
    return err;
}

/* Whole blocks from the parts, as many as the open object has room for. */
struct source {
    const struct writer_part *parts;
    unsigned n;
    uint32_t done; /* blocks of the first */
};

static const uint8_t *next_block(struct source *source)
{
    const uint8_t *data;

    while (source->done == source->parts->blocks) {
        source->parts++;
        source->done = 0;
    }
    data = source->parts->data + (uint64_t)source->done * BLOCK_SIZE;
    source->done++;
    return data;
}

static void append_run(struct writer *writer, uint64_t block, uint64_t count,
                       struct source *source)
{
    struct log_object *object = writer->open;
    uint64_t at = object->payload;

    for (uint64_t i = 0; i < count; i++)
        put_unit(writer, block + i, next_block(source));
    add_entry(writer, LOG_WRITE, block, count, at);
    map_set(writer->volume->map,
            &(struct extent){.block = block,
                             .count = count,
                             .kind = EXTENT_OPEN,
                             .seq = object->seq,
                             .offset = (uint32_t)(at / 8)});
    writer->bytes_written += count * BLOCK_SIZE;
}

int writer_write(struct writer *writer, uint64_t block,
                 const struct writer_part *parts, unsigned n)
{
    uint64_t object_size = writer->volume->superblock.object_size;
    struct source source = {.parts = parts, .n = n};
    uint64_t left = 0;
    unsigned objects;
    int err;

    for (unsigned i = 0; i < n; i++)
        left += parts[i].blocks;
    objects = (unsigned)(left * UNIT_SIZE / object_size + 2);
    err = need_chunks(writer, left, 1);
    if (!err)
        err = prepare(writer, left, 1, objects);
    while (!err) {
        uint64_t count = blocks_left(writer);

        count = count < left ? count : left;
        append_run(writer, block, count, &source);
        block += count;
        left -= count;
        if (is_full(writer))
            writer_seal_soon(writer);
        if (left == 0)
            break;
        /* Room in the log was looked at by prepare(); memory may still be
         * missing, and then a part of the write is there, as after a crash. */
        err = writer_need_open(writer);
        if (!err &&
            (is_full(writer) || !writer_has_entry_room(writer->open, 1)))
            err = ENOMEM;
    }
    return err;
}

int writer_prepare(struct writer *writer, uint64_t blocks, unsigned entries)
{
    int err = need_chunks(writer, blocks, entries);

    /* As many objects as writer_write() may ask for. */
    return err ? err : prepare(writer, blocks, entries, 2);
}

int writer_mark(struct writer *writer, enum log_op op, uint64_t block,
                uint64_t count)
{
    int err = 0;

    while (count > 0 && !err) {
        uint64_t n = count < UINT32_MAX ? count : UINT32_MAX;

        err = prepare(writer, 0, 1, 1);
        if (err)
            break;
        add_entry(writer, op, block, n, 0);
        map_set(writer->volume->map,
                &(struct extent){.block = block,
                                 .count = n,
                                 .kind = op == LOG_ZERO ? EXTENT_ZERO
                                                        : EXTENT_HOLE});
        block += n;
        count -= n;
        if (is_full(writer))
            writer_seal_soon(writer);
    }
    return err;
}
