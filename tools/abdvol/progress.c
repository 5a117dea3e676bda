/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A bar on a terminal: how far it is, how fast, how long it will take. */
#include "tools/abdvol/abdvol.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BAR      24
#define AGAIN_NS UINT64_C(200000000)

void progress_begin(uint64_t total, const char *unit, uint64_t divisor)
{
    struct progress *progress = &self.progress;

    progress->total = total;
    progress->unit = unit;
    progress->divisor = divisor;
    progress->began_ns = abd_loop_now_ns();
}

void progress_show(uint64_t done)
{
    struct progress *progress = &self.progress;
    uint64_t now_ns = abd_loop_now_ns();
    uint64_t passed_ns = now_ns - progress->began_ns, total = progress->total;
    double rate = passed_ns ? (double)done * 1e9 / (double)passed_ns : 0;
    char bar[BAR + 1];

    progress->done = done;
    if (!self.shows_progress || now_ns - progress->shown_ns < AGAIN_NS)
        return;
    progress->shown_ns = now_ns;
    if (total < done)
        total = done;
    memset(bar, '-', BAR);
    bar[BAR] = '\0';
    if (total > 0)
        memset(bar, '#', (size_t)((double)done / (double)total * BAR));
    fprintf(stderr,
            "\r[%s] %" PRIu64 " of %" PRIu64 " %s, %.0f/s, %.0f s left ", bar,
            done / progress->divisor, total / progress->divisor, progress->unit,
            rate / (double)progress->divisor,
            rate > 0 ? (double)(total - done) / rate : 0.0);
}

void progress_clear(void)
{
    if (self.shows_progress && self.progress.shown_ns)
        fprintf(stderr, "\r%79s\r", "");
    self.progress.shown_ns = 0;
}
