/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The closest known spelling of an unknown word.  Words are short and this
 * happens once, at the end of a run that failed: the plain table will do.  Main
 * thread. */
#include "server/suggest.h"

#include <string.h>

/* Longer words are not compared. */
#define WORD_MAX 40

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

unsigned suggest_distance(const char *word, const char *other, unsigned max)
{
    size_t n = strlen(word), m = strlen(other);
    unsigned cost[WORD_MAX + 1][WORD_MAX + 1];

    if (n > WORD_MAX || m > WORD_MAX)
        return max + 1;
    for (unsigned i = 0; i <= n; i++)
        cost[i][0] = i;
    for (unsigned j = 0; j <= m; j++)
        cost[0][j] = j;
    for (unsigned i = 1; i <= n; i++)
        for (unsigned j = 1; j <= m; j++) {
            unsigned same = word[i - 1] == other[j - 1] ? 0 : 1;
            unsigned least = cost[i - 1][j - 1] + same;

            least = smaller(least, cost[i - 1][j] + 1);
            least = smaller(least, cost[i][j - 1] + 1);
            if (i > 1 && j > 1 && word[i - 1] == other[j - 2] &&
                word[i - 2] == other[j - 1])
                least = smaller(least, cost[i - 2][j - 2] + 1);
            cost[i][j] = least;
        }
    return smaller(cost[n][m], max + 1);
}

void suggest_consider(struct suggestion *suggestion, const char *candidate)
{
    size_t length = strlen(suggestion->word);
    /* A third of the letters may be wrong, in short words one. */
    unsigned max = length < 6 ? 1 : (unsigned)(length / 3);
    unsigned distance = suggest_distance(suggestion->word, candidate, max);

    if (distance > max ||
        (suggestion->best && distance >= suggestion->distance))
        return;
    suggestion->best = candidate;
    suggestion->distance = distance;
}
