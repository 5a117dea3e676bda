/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A radix tree: number of a block -> block, or nothing.
 *
 * Everything but tree_detach() may run on several threads at once; against
 * tree_detach() the caller excludes them all (memory.c's gates).  So a reader
 * needs no more than loads, and what it found stays until it leaves its gate.
 */
#ifndef MEMORY_TREE_H
#define MEMORY_TREE_H

#include <stdint.h>

struct block;
struct node;
struct pool;

struct tree {
    /* Set once. */
    struct pool *pool;
    unsigned height; /* levels of nodes, at least 1 */
    struct node *root;
};

/* For block numbers below count.  0 or an errno value. */
int tree_init(struct tree *tree, struct pool *pool, uint64_t count);
/* Gives all blocks back.  A zeroed tree is fine. */
void tree_finish(struct tree *tree);

/* The block, or NULL; then *ret_run says how many blocks from this one on are
 * missing for sure (at least 1, and perhaps beyond count). */
struct block *tree_find(const struct tree *tree, uint64_t number,
                        uint64_t *ret_run);

/* The block, created if it was missing.  0 or ENOSPC. */
int tree_ensure(struct tree *tree, uint64_t number, struct block **ret);

/* Takes blocks first to last-1 out of the tree and returns them as a list
 * (block->next), the tree's references with them. */
struct block *tree_detach(struct tree *tree, uint64_t first, uint64_t last);

#endif
