/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The scenarios, in which the rules are put to the test. */
#ifndef ABD_CHECK_CHECKS_H
#define ABD_CHECK_CHECKS_H

#include "tools/check/stack.h"

/* All of them once.  other: the second instance. */
void checks_run(struct stack *stack, struct stack *other);

/* check_disk.c */
void check_fields(struct stack *stack);
void check_exports(struct stack *stack);
void check_clients(struct stack *stack);
void check_keeps(struct stack *stack);
void check_read_only(struct stack *stack);
void check_instances(struct stack *stack, struct stack *other);

#endif
