/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A sparse disk in memory: a tree of blocks that begins empty.
 *
 * Every loop calls submit(), several at once.  Each enters through a gate of
 * its own (gate.h), which costs next to nothing; taking blocks out of the tree
 * closes all gates.  READs lend the
 * blocks they hold a reference to: overwriting happens in place (a client that
 * overwrites what it is reading may see either), while a block that is trimmed
 * leaves the tree at once and its memory when the last reply has gone. */
#include "gate.h"
#include "pool.h"
#include "tree.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "abd-loop.h"
#include "abd-plugin.h"

/* A ZERO that keeps the range allocated creates its blocks: as many as take a
 * few milliseconds. */
#define ZERO_MAX (UINT64_C(256) << 20)

/* So many steps through the tree answer one EXTENTS; what is left is asked for
 * again. */
#define EXTENT_STEPS 65536

/* READs of fewer bytes come with a buffer (-D memory.lend_min=N). */
static int lend_min = 0;

/* The instance's: contents survive the closing of a disk that nobody uses. */
struct memory {
    struct gates gates; /* see the head of this file */
    struct pool pool;
    struct tree tree; /* under a gate; tree_detach() under all */

    /* Set once. */
    uint64_t size;
    bool has_size;
};

/* What a lent READ holds until it was sent; in the request's scratch, with the
 * arrays of a long one on the heap. */
#define FEW 2
struct lent {
    struct memory *memory;
    unsigned piece_count, block_count;
    struct abd_piece *pieces;
    struct block **blocks;
    struct abd_piece few_pieces[FEW];
    struct block *few_blocks[FEW];
};

/* The part of a range that lies in one block. */
struct part {
    uint64_t number, offset, length;
};

static struct part first_part(uint64_t offset, uint64_t length)
{
    struct part part = {
        .number = offset >> BLOCK_BITS,
        .offset = offset & (BLOCK_SIZE - 1),
    };

    part.length = BLOCK_SIZE - part.offset;
    if (part.length > length)
        part.length = length;
    return part;
}

/* ---- READ */

static void read_copy(struct memory *memory, struct abd_request *request)
{
    uint8_t *data = request->data;
    uint64_t offset = request->offset, length = request->length, run;
    struct gate *gate = gate_enter(&memory->gates);

    while (length) {
        struct part part = first_part(offset, length);
        struct block *block = tree_find(&memory->tree, part.number, &run);
        if (block)
            block_read(block, part.offset, data, part.length);
        else
            memset(data, 0, part.length);
        data += part.length;
        offset += part.length;
        length -= part.length;
    }
    gate_leave(&memory->gates, gate);
    abd_complete(request, 0);
}

static void lent_finish(void *arg)
{
    struct lent *lent = arg;

    for (unsigned i = 0; i < lent->block_count; i++)
        block_unref(&lent->memory->pool, lent->blocks[i]);
    if (lent->pieces != lent->few_pieces)
        free(lent->pieces);
    if (lent->blocks != lent->few_blocks)
        free((void *)lent->blocks);
}

/* count: of blocks, so of pieces at most.  On failure, too, lent is to be
 * finished. */
static int lent_init(struct lent *lent, struct memory *memory, size_t count)
{
    *lent = (struct lent){.memory = memory};
    lent->pieces = lent->few_pieces;
    lent->blocks = lent->few_blocks;
    if (count > FEW) {
        lent->pieces = calloc(count, sizeof *lent->pieces);
        lent->blocks = calloc(count, sizeof(struct block *));
    }
    return lent->pieces && lent->blocks ? 0 : ENOMEM;
}

/* data: NULL for a hole.  Neighbours become one piece. */
static void add_piece(struct lent *lent, const uint8_t *data, uint64_t length)
{
    uint32_t kind = data ? ABD_PIECE_MEMORY : ABD_PIECE_HOLE;

    if (lent->piece_count) {
        struct abd_piece *last = &lent->pieces[lent->piece_count - 1];
        if (last->kind == kind &&
            (!data || (const uint8_t *)last->data + last->length == data)) {
            last->length += length;
            return;
        }
    }
    lent->pieces[lent->piece_count++] = (struct abd_piece){
        .kind = kind, .fd = -1, .length = length, .data = data};
}

static void read_lend(struct memory *memory, struct abd_request *request)
{
    struct lent *lent = request->scratch;
    uint64_t offset = request->offset, length = request->length, run;
    uint64_t last = (offset + length - 1) >> BLOCK_BITS;

    int err = lent_init(lent, memory, last - (offset >> BLOCK_BITS) + 1);
    if (err) {
        lent_finish(lent);
        abd_complete(request, err);
        return;
    }

    struct gate *gate = gate_enter(&memory->gates);
    while (length) {
        struct part part = first_part(offset, length);
        struct block *block = tree_find(&memory->tree, part.number, &run);
        if (block) {
            block_ref(block);
            lent->blocks[lent->block_count++] = block;
        }
        add_piece(lent, block ? block->data + part.offset : NULL, part.length);
        offset += part.length;
        length -= part.length;
    }
    gate_leave(&memory->gates, gate);
    abd_complete_lent(request, lent->pieces, lent->piece_count, lent_finish,
                      lent);
}

/* ---- WRITE, ZERO, TRIM */

static int write_blocks(struct memory *memory, struct abd_request *request)
{
    const uint8_t *data = request->data;
    uint64_t offset = request->offset, length = request->length;
    struct gate *gate = gate_enter(&memory->gates);
    int err = 0;

    while (length) {
        struct part part = first_part(offset, length);
        struct block *block;
        err = tree_ensure(&memory->tree, part.number, &block);
        if (err)
            break;
        block_write(block, part.offset, data, part.length);
        data += part.length;
        offset += part.length;
        length -= part.length;
    }
    gate_leave(&memory->gates, gate);
    return err;
}

/* The range reads as zeroes and, with keep, is allocated afterwards. */
static int zero_in_place(struct memory *memory, uint64_t offset,
                         uint64_t length, bool keep)
{
    struct gate *gate = gate_enter(&memory->gates);
    int err = 0;

    while (length) {
        struct part part = first_part(offset, length);
        uint64_t run;
        struct block *block = tree_find(&memory->tree, part.number, &run);
        if (block)
            block_zero(block, part.offset, part.length);
        else if (keep)
            err = tree_ensure(&memory->tree, part.number, &block);
        if (err)
            break;
        offset += part.length;
        length -= part.length;
    }
    gate_leave(&memory->gates, gate);
    return err;
}

static void free_blocks(struct memory *memory, uint64_t first, uint64_t last)
{
    gates_close(&memory->gates);
    struct block *block = tree_detach(&memory->tree, first, last);
    gates_open(&memory->gates);

    while (block) {
        struct block *next = block->next;
        block_unref(&memory->pool, block);
        block = next;
    }
}

/* Frees the whole blocks of the range and zeroes the rest of it. */
static void punch(struct memory *memory, uint64_t offset, uint64_t length)
{
    uint64_t end = offset + length;
    uint64_t first = (offset + BLOCK_SIZE - 1) >> BLOCK_BITS;
    uint64_t last = end >> BLOCK_BITS;

    if (end == memory->size && (end & (BLOCK_SIZE - 1)))
        last++;
    if (first >= last) {
        zero_in_place(memory, offset, length, false);
        return;
    }

    zero_in_place(memory, offset, (first << BLOCK_BITS) - offset, false);
    free_blocks(memory, first, last);
    if (last << BLOCK_BITS < end)
        zero_in_place(memory, last << BLOCK_BITS, end - (last << BLOCK_BITS),
                      false);
}

/* ---- EXTENTS */

static bool add_extent(struct abd_request *request, uint64_t length, bool hole)
{
    return abd_add_extent(request, length,
                          hole ? ABD_EXTENT_HOLE | ABD_EXTENT_ZERO : 0);
}

static void add_extents(struct memory *memory, struct abd_request *request)
{
    uint64_t pos = request->offset, length = 0; /* of the extent up to pos */
    uint64_t end = pos + request->length;
    bool was_hole = false, wanted = true;
    struct gate *gate = gate_enter(&memory->gates);

    for (unsigned step = 0; pos < end && step < EXTENT_STEPS; step++) {
        uint64_t number = pos >> BLOCK_BITS;
        uint64_t next = number + 1, run;
        bool hole = !tree_find(&memory->tree, number, &run);
        if (hole)
            next = number + run;
        if (length && hole != was_hole) {
            wanted = add_extent(request, length, was_hole);
            length = 0;
        }
        if (!wanted)
            break;

        uint64_t until = memory->size;
        if (next <= until >> BLOCK_BITS)
            until = next << BLOCK_BITS;
        was_hole = hole;
        length += until - pos;
        pos = until;
    }
    if (length)
        add_extent(request, length, was_hole);
    gate_leave(&memory->gates, gate);
}

/* ---- the plugin */

static void memory_submit(struct abd_request *request)
{
    struct memory *memory = request->disk->state;
    int err = 0;

    switch (request->op) {
    case ABD_OP_READ:
        if (request->data)
            read_copy(memory, request);
        else
            read_lend(memory, request);
        return;
    case ABD_OP_WRITE:
        err = write_blocks(memory, request);
        break;
    case ABD_OP_ZERO:
        if (request->flags & ABD_REQ_MAY_TRIM)
            punch(memory, request->offset, request->length);
        else
            err = zero_in_place(memory, request->offset, request->length, true);
        break;
    case ABD_OP_TRIM:
        punch(memory, request->offset, request->length);
        break;
    case ABD_OP_EXTENTS:
        add_extents(memory, request);
        break;
    case ABD_OP_FLUSH: /* nothing here outlives the process */
    case ABD_OP_CACHE:
        break;
    default:
        err = EINVAL;
    }
    abd_complete(request, err);
}

static void memory_open(struct abd_disk *disk)
{
    struct memory *memory = disk->instance->state;

    disk->state = memory;
    disk->size = memory->size;
    disk->max_zero = ZERO_MAX;
    disk->block_min = 1;
    disk->block_preferred = 4096;
    disk->ops = 1u << ABD_OP_READ | 1u << ABD_OP_WRITE | 1u << ABD_OP_ZERO |
                1u << ABD_OP_TRIM | 1u << ABD_OP_FLUSH | 1u << ABD_OP_EXTENTS |
                1u << ABD_OP_CACHE;
    disk->flags = ABD_DISK_PARALLEL | ABD_DISK_INLINE | ABD_DISK_LENDS |
                  ABD_DISK_FAST_ZERO;
    disk->fua = ABD_FUA_NATIVE;
    disk->lend_min = lend_min > 0 ? (uint32_t)lend_min : 0;
    abd_opened(disk, 0);
}

static void memory_close(struct abd_disk *disk)
{
    abd_closed(disk);
}

static int memory_create(struct abd_instance *instance)
{
    struct memory *memory =
        aligned_alloc(_Alignof(struct memory), sizeof *memory);
    if (!memory) {
        abd_log(instance, NULL, ABD_ERROR, "%s", strerrordesc_np(ENOMEM));
        return ENOMEM;
    }

    memset(memory, 0, sizeof *memory);
    gates_init(&memory->gates);
    pool_init(&memory->pool);
    instance->state = memory;
    return 0;
}

static int memory_config(struct abd_instance *instance, const char *key,
                         const char *value)
{
    struct memory *memory = instance->state;

    if (strcmp(key, "size") != 0) {
        abd_log(instance, NULL, ABD_ERROR,
                "unknown parameter \"%s\": only size=SIZE is allowed", key);
        return EINVAL;
    }
    int err = abd_parse_size(instance, value, &memory->size);
    if (!err)
        memory->has_size = true;
    return err;
}

static int memory_ready(struct abd_instance *instance)
{
    struct memory *memory = instance->state;

    if (!memory->has_size) {
        abd_log(instance, NULL, ABD_ERROR,
                "parameter size=SIZE is required: how large is the disk?");
        return EINVAL;
    }
    uint64_t count =
        (memory->size >> BLOCK_BITS) + ((memory->size & (BLOCK_SIZE - 1)) != 0);
    int err = tree_init(&memory->tree, &memory->pool, count);
    if (err)
        abd_log(instance, NULL, ABD_ERROR, "%s", strerrordesc_np(err));
    return err;
}

static void memory_destroy(struct abd_instance *instance)
{
    struct memory *memory = instance->state;

    if (!memory)
        return;
    tree_finish(&memory->tree);
    pool_finish(&memory->pool);
    gates_finish(&memory->gates);
    free(memory);
    instance->state = NULL;
}

static const struct abd_parameter parameters[] = {
    {"size", "[size=]SIZE  (required) the size of the disk"},
    {NULL, NULL},
};

static const struct abd_debug_flag debug_flags[] = {
    {"lend_min", &lend_min},
    {NULL, NULL},
};

static const struct abd_plugin plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "memory",
    .longname = "abdkit memory plugin",
    .description = "a sparse disk in memory",
    .parameters = parameters,
    .magic_key = "size",
    .debug_flags = debug_flags,
    .scratch_size = sizeof(struct lent),
    .create = memory_create,
    .config = memory_config,
    .ready = memory_ready,
    .destroy = memory_destroy,
    .open = memory_open,
    .submit = memory_submit,
    .close = memory_close,
};

_Static_assert(sizeof(struct lent) <= 256, "scratch has 256 bytes");

__attribute__((visibility("default"))) const struct abd_plugin *
abd_plugin_entry(void)
{
    return &plugin;
}
