/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The modules to be checked, filters outermost first, and their instances: a
 * stack is one configured use of all of them.  Main thread, unless said. */
#ifndef ABD_CHECK_STACK_H
#define ABD_CHECK_STACK_H

#include "abd-filter.h"

#include <stdbool.h>
#include <stdint.h>

#define STACK_LAYERS 8

/* Set once, then read by all threads. */
struct layer {
    struct abd_plugin plugin; /* a copy; what it doesn't have is NULL */
    struct abd_filter filter; /* abi 0: it is the plugin */
    const char *file;
};
extern struct layer layers[STACK_LAYERS];
extern unsigned layers_n;

struct stack {
    struct abd_instance instances[STACK_LAYERS];
};

/* Loads options.modules; what can't be used ends the process. */
void stack_load(void);
/* What refuses a parameter must say why. */
void stack_try_nonsense(void);
/* create, config and ready; on failure the process ends. */
void stack_begin(struct stack *stack, const char *const *parameters,
                 unsigned n);
void stack_start(struct stack *stack); /* the loops run */
void stack_end(struct stack *stack);

/* Any thread. */
static inline bool layer_is_filter(unsigned index)
{
    return index + 1 < layers_n;
}
/* Does every client get a disk of its own there? */
bool layer_is_per_client(unsigned index);
/* The name of what is checked. */
const char *stack_name(void);
/* For what the loop library says: the plugin's name for its file's; NULL: it
 * is none of them. */
const char *stack_name_of_file(const char *file);

#endif
