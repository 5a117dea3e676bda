/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Nodes of 512 slots, of a page's size each, as many levels as the disk's size
 * needs.  A slot points to a node or, in the lowest level, to a block.  Slots
 * are filled by compare and exchange, so of two threads that find the same one
 * empty one wins and the other takes what it finds.  They are emptied only by
 * tree_detach(), alone in the tree; it also frees nodes that became empty. */
#include "tree.h"

#include "pool.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#define NODE_BITS  9
#define NODE_SLOTS (1u << NODE_BITS)

struct node {
    _Atomic(void *) slots[NODE_SLOTS];
    _Atomic uint32_t used; /* slots that are filled */
};

static unsigned slot_of(uint64_t number, unsigned level)
{
    return (number >> (level * NODE_BITS)) & (NODE_SLOTS - 1);
}

/* Blocks below one slot of this level. */
static uint64_t span_of(unsigned level)
{
    return UINT64_C(1) << (level * NODE_BITS);
}

int tree_init(struct tree *tree, struct pool *pool, uint64_t count)
{
    *tree = (struct tree){.pool = pool, .height = 1};
    while (count > span_of(tree->height))
        tree->height++;
    tree->root = calloc(1, sizeof *tree->root);
    return tree->root ? 0 : ENOMEM;
}

struct block *tree_find(const struct tree *tree, uint64_t number,
                        uint64_t *ret_run)
{
    struct node *node = tree->root;

    for (unsigned level = tree->height - 1;; level--) {
        /* Pairs with the release in fill(): what it points to is complete. */
        void *found = atomic_load_explicit(&node->slots[slot_of(number, level)],
                                           memory_order_acquire);
        if (!found) {
            *ret_run = span_of(level) - (number & (span_of(level) - 1));
            return NULL;
        }
        if (level == 0)
            return found;
        node = found;
    }
}

/* Puts value into the empty slot; false and what is there if it is not. */
static bool fill(struct node *node, unsigned slot, void *value, void **ret)
{
    void *expected = NULL;

    if (!atomic_compare_exchange_strong_explicit(&node->slots[slot], &expected,
                                                 value, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        *ret = expected;
        return false;
    }
    atomic_fetch_add_explicit(&node->used, 1, memory_order_relaxed);
    *ret = value;
    return true;
}

static int ensure_node(struct node *parent, unsigned slot, struct node **ret)
{
    void *found =
        atomic_load_explicit(&parent->slots[slot], memory_order_acquire);

    if (!found) {
        struct node *node = calloc(1, sizeof *node);
        if (!node)
            return ENOSPC;
        if (!fill(parent, slot, node, &found))
            free(node);
    }
    *ret = found;
    return 0;
}

int tree_ensure(struct tree *tree, uint64_t number, struct block **ret)
{
    struct node *node = tree->root;
    void *found;

    for (unsigned level = tree->height - 1; level > 0; level--) {
        int err = ensure_node(node, slot_of(number, level), &node);
        if (err)
            return err;
    }

    unsigned slot = slot_of(number, 0);
    found = atomic_load_explicit(&node->slots[slot], memory_order_acquire);
    if (!found) {
        struct block *block = block_create(tree->pool);
        if (!block)
            return ENOSPC;
        if (!fill(node, slot, block, &found))
            block_unref(tree->pool, block);
    }
    *ret = found;
    return 0;
}

/* The same for one node, whose first block has the number base. */
static void detach_below(struct node *node, unsigned level, uint64_t base,
                         uint64_t first, uint64_t last, struct block **list)
{
    uint64_t span = span_of(level);
    unsigned slot = first > base ? (first - base) / span : 0;

    for (; slot < NODE_SLOTS && base + slot * span < last; slot++) {
        void *found =
            atomic_load_explicit(&node->slots[slot], memory_order_relaxed);
        if (!found)
            continue;
        if (level == 0) {
            struct block *block = found;
            block->next = *list;
            *list = block;
        } else {
            struct node *child = found;
            detach_below(child, level - 1, base + slot * span, first, last,
                         list);
            if (atomic_load_explicit(&child->used, memory_order_relaxed))
                continue;
            free(child);
        }
        atomic_store_explicit(&node->slots[slot], NULL, memory_order_relaxed);
        atomic_fetch_sub_explicit(&node->used, 1, memory_order_relaxed);
    }
}

struct block *tree_detach(struct tree *tree, uint64_t first, uint64_t last)
{
    struct block *list = NULL;

    if (first < last)
        detach_below(tree->root, tree->height - 1, 0, first, last, &list);
    return list;
}

void tree_finish(struct tree *tree)
{
    if (!tree->root)
        return;
    struct block *block = tree_detach(tree, 0, UINT64_MAX);
    while (block) {
        struct block *next = block->next;
        block_unref(tree->pool, block);
        block = next;
    }
    free(tree->root);
    *tree = (struct tree){0};
}
