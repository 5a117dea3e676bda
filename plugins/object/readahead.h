/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Who reads on?  Up to 16 streams of sequential reads; what each will want next
 * is fetched before it asks, as far ahead as its window, which doubles for as
 * long as it reads on.  Who keeps more reads under way than that needs no
 * help.  One loop. */
#ifndef ABD_OBJECT_READAHEAD_H
#define ABD_OBJECT_READAHEAD_H

#include <stdint.h>

#define READAHEAD_STREAMS 16

struct reader;

struct readahead {
    uint64_t max; /* blocks; 0: none */
    uint64_t clock;
    struct readahead_stream {
        uint64_t next;   /* block behind the last one that was read */
        uint64_t ahead;  /* up to here it was asked for */
        uint64_t window; /* blocks; 0: it is not read ahead yet */
        unsigned reads;  /* that went on, and 1 */
        uint64_t used;   /* clock */
    } streams[READAHEAD_STREAMS];
};

/* Somebody reads these blocks. */
void readahead_note(struct reader *reader, uint64_t block, uint64_t count);

#endif
