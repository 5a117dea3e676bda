/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The rules of the contract, and what has been found out about each.
 *
 * Scenarios use the disk; whatever notices that a rule is kept or broken says
 * so here, on any thread.  A rule that is broken is said at once, and once; all
 * others have their line at the end. */
#ifndef ABD_CHECK_RULES_H
#define ABD_CHECK_RULES_H

#include <stdbool.h>

enum rule {
    RULE_ENTRY,
    RULE_CONFIGURE,
    RULE_SAYS_WHY,
    RULE_OPEN,
    RULE_CLOSE,
    RULE_DISK_FIELDS,
    RULE_DISK_CONSTANT,
    RULE_DISK_GONE,
    RULE_EXPORTS,
    RULE_CLIENTS,
    RULE_COMPLETES,
    RULE_PROGRESS,
    RULE_CANCEL,
    RULE_ONCE,
    RULE_OWNER,
    RULE_INLINE,
    RULE_ERRORS,
    RULE_SUCCEEDS,
    RULE_CONSTANT,
    RULE_BOUNDS,
    RULE_AFTER_END,
    RULE_DATA,
    RULE_KEEPS,
    RULE_READ_ONLY,
    RULE_FAST_ZERO,
    RULE_EXTENTS,
    RULE_EXTENTS_ZERO,
    RULE_LENT_PIECES,
    RULE_LENT_STAYS,
    RULE_BLOCKING,
    RULE_LOOP,
    RULE_CRASH,
    RULE_INSTANCES,
    RULE_FORWARD,
    RULE_CHILDREN,
    RULE_BELOW,
    RULES,
};

/* The rule was put to the test. */
void rules_try(enum rule rule);
/* It does not apply, or is not checked. */
void rules_skip(enum rule rule, const char *reason);
/* It is broken by who (a plugin's name). */
void rules_break(enum rule rule, const char *who, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* It is broken, and nothing can be believed from here on: ends the process. */
void rules_stop(enum rule rule, const char *who, const char *format, ...)
    __attribute__((format(printf, 3, 4), noreturn));

/* What is done now, for the messages; borrowed for ever. */
void rules_scenario(const char *name);
/* Has any been broken since the last call of rules_scenario()? */
bool rules_broken(void);
/* Has any, ever? */
bool rules_ever_broken(void);

void rules_list(void);
/* Says the rest; returns the exit status. */
int rules_finish(void);

#endif
