/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* See readahead.h. */
#include "readahead.h"

#include "reader.h"
#include "volume.h"

/* A stream's first window. */
#define FIRST_WINDOW 32 /* blocks */
/* Reads of one stream may come in another order than they lie. */
#define SLACK 64 /* blocks */
/* Two that lie near each other may do so by chance. */
#define READS_LEAST 3

/* Does the read go on with the stream? */
static bool goes_on(const struct readahead_stream *stream, uint64_t block)
{
    return stream->used && block + SLACK >= stream->next &&
           block <= stream->next + SLACK;
}

static struct readahead_stream *find(struct readahead *readahead,
                                     uint64_t block)
{
    struct readahead_stream *oldest = &readahead->streams[0];

    for (unsigned i = 0; i < READAHEAD_STREAMS; i++) {
        struct readahead_stream *stream = &readahead->streams[i];

        if (goes_on(stream, block))
            return stream;
        if (stream->used < oldest->used)
            oldest = stream;
    }
    *oldest = (struct readahead_stream){0};
    return oldest;
}

void readahead_note(struct reader *reader, uint64_t block, uint64_t count)
{
    struct readahead *readahead = &reader->readahead;
    uint64_t end = block + count, blocks = volume_blocks(reader->volume);
    struct readahead_stream *stream;
    uint64_t until;

    if (readahead->max == 0)
        return;
    stream = find(readahead, block);
    if (!stream->used) {
        stream->next = stream->ahead = end;
        stream->used = ++readahead->clock;
        stream->reads = 1;
        return;
    }
    stream->used = ++readahead->clock;
    if (end > stream->next)
        stream->next = end;
    /* Enough is under way, or it is read faster than it comes. */
    if (++stream->reads < READS_LEAST || reader->under_way >= readahead->max)
        return;
    if (stream->ahead < stream->next)
        stream->ahead = stream->next;
    /* Half of the window is there still. */
    if (stream->ahead - stream->next > stream->window / 2)
        return;
    stream->window = stream->window ? stream->window * 2 : FIRST_WINDOW;
    if (stream->window < 2 * count)
        stream->window = 2 * count;
    if (stream->window > readahead->max)
        stream->window = readahead->max;
    until = stream->next + stream->window;
    if (until > blocks)
        until = blocks;
    if (until > stream->ahead)
        reader_look_ahead(reader, stream->ahead, until);
    stream->ahead = until;
}
