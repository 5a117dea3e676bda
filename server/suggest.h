/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* "Did you mean ...?" for words that are not known. */
#ifndef ABD_SERVER_SUGGEST_H
#define ABD_SERVER_SUGGEST_H

#include <stddef.h>

/* How many letters must be added, removed, changed or swapped with their
 * neighbour to get from one word to the other (at most max + 1). */
unsigned suggest_distance(const char *word, const char *other, unsigned max);

/* Looks through candidates one by one: keeps the closest in *best, unless none
 * is close enough to be meant.  Begin with {word}. */
struct suggestion {
    const char *word;
    const char *best; /* borrowed from the candidates; NULL: nothing close */
    unsigned distance;
};
void suggest_consider(struct suggestion *suggestion, const char *candidate);

#endif
