/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The arena's chunks, and in which order loops get them: the part of memory.h
 * that loops share.  memory.c cuts chunks into buffers.
 *
 * The chunks lie in two zones: the first nine tenths serve any use, the rest
 * only reads, so that neither the number of a long run's chunks nor their
 * being neighbours depends on what the other zone is used for.
 *
 * A seat is a loop's place in the queue for one use: the ticket of its first
 * waiter there.  Tickets are times, made unique, so the smallest waits longest.
 * A chunk of a zone goes to whoever has no smaller ticket before him, among all
 * seats for the mixed zone, among the seats of reads for the reads' own. */
#ifndef ABD_LOOP_ARENA_H
#define ABD_LOOP_ARENA_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "loop/loop.h"
#include "loop/memory.h"

#define CHUNK_SHIFT   20
#define CHUNK_SIZE    (UINT64_C(1) << CHUNK_SHIFT)
#define CLASS_SHIFT   12 /* of the smallest */
#define CLASSES       (CHUNK_SHIFT - CLASS_SHIFT + 1)
#define CHUNK_BUFFERS (1 << (CHUNK_SHIFT - CLASS_SHIFT))
#define NO_TICKET     UINT64_MAX

enum zone { ZONE_ANY, ZONE_READS, ZONES };

/* What is known of a chunk that was taken, by the loop that took it; the memory
 * itself is never written to by us. */
struct chunk {
    struct list link; /* while some buffers are free */
    uint8_t class;
    uint16_t free, total; /* buffers */
    uint64_t out[4];      /* bit i: buffer i is out; finds double gives.  The
                             arena's, of pages, if it is of what is needed */
    uint8_t slots[CHUNK_BUFFERS]; /* stack of the free ones */
};

/* One loop's share.  Lives as long as the arena. */
struct memory {
    /* Set once. */
    struct arena *arena;
    struct abd_loop *loop;

    /* Loop thread only. */
    struct list partial[ZONES][CLASSES]; /* chunks with free buffers */
    struct list waiters[MEMORY_USES];
    uint64_t seats[MEMORY_USES]; /* as the arena knows them */
    uint64_t serving;            /* ticket of whose try() runs, or NO_TICKET */
    struct chunk *spare;         /* empty, but kept, and in its list */
    struct list pressures;       /* buffer.c's: whom to ask for more */

    /* Written by the loop's thread. */
    atomic_bool has_spare; /* a chunk, or pressures; pairs with arena.first,
                              see memory.c */
    _Atomic uint64_t used; /* bytes that are out; relaxed, a statistic */
    _Atomic uint64_t waiting;

    /* Any thread: is the message under way? */
    atomic_bool scheduled;
    struct loop_message message;
};

struct arena {
    /* Set once. */
    char *base;
    uint64_t length; /* of the chunks */
    uint64_t mapped; /* and what follows them */
    int fd;          /* or -1 */
    unsigned chunks; /* of both zones */
    unsigned mixed;  /* of them, in the zone for any use */
    unsigned loops;
    struct chunk *chunk;     /* chunks of them */
    struct memory *memories; /* one for each loop */

    /* The lock is never held while anything else is locked or called, but
     * loop_send(). */
    pthread_mutex_t lock;
    unsigned taken[ZONES];
    bool *is_taken;      /* of each chunk */
    bool *is_touched;    /* since it was last given back to the kernel */
    bool *is_recent;     /* used since the last trim */
    bool *is_needed;     /* of those, which are cut for what plugins need */
    bool *scratch;       /* as many again, for who counts what could be */
    unsigned needed;     /* how many are */
    unsigned needed_end; /* all of them lie below */
    uint64_t seats[LOOPS_MAX][MEMORY_USES];

    /* The smallest of the seats; written under the lock, read by any. */
    _Atomic uint64_t first[MEMORY_USES];
    _Atomic uint64_t last_ticket;
    _Atomic uint64_t charged;      /* bytes; likewise, a statistic */
    _Atomic uint64_t needed_slack; /* bytes of chunks that are needed, which
                                      nobody has; likewise */
};

/* What a request for buffers needs of the arena, all or nothing: runs of chunks
 * (a run of one is the common case), and where they are. */
struct arena_need {
    unsigned n;
    unsigned length[MEMORY_TAKE_MAX];
    unsigned index[MEMORY_TAKE_MAX];
};

/* needed.c: what a plugin keeps for as long as it likes, so requests can't
 * count on it.  It lies in chunks of its own, of which there are at most half.
 * NULL: they are all taken, by this or by requests. */
void *arena_need(struct arena *arena, uint64_t size);
void arena_need_no_more(struct arena *arena, const void *buffer, uint64_t size);
/* Chunks for that, the lowest there are; needed.c's only. */
bool arena_take_needed_locked(struct arena *arena, unsigned *ret_index);
void arena_put_needed_locked(struct arena *arena, unsigned index);

uint64_t arena_ticket(struct arena *arena);
/* ticket: of who asks; NO_TICKET: who does not wait. */
bool arena_take(struct arena *arena, enum memory_use use, uint64_t ticket,
                struct arena_need *need);
void arena_put(struct arena *arena, unsigned index, unsigned length);
/* Tells the arena the loop's seats if they have changed, wakes other loops
 * whose turn it is then, and returns true: what was given back in between may
 * have woken nobody, so the loop has to look again. */
bool arena_sync_seats(struct memory *memory);
/* Has what is kept in vain given back: every other loop's spare chunk. */
void arena_recall_spares(struct arena *arena, const struct memory *for_whom);
bool arena_is_short(const struct arena *arena);
/* Would it be taken if all others gave back what they have, but for what
 * plugins need?  Does not say where. */
bool arena_could_take(struct arena *arena, enum memory_use use,
                      const struct arena_need *need);
enum zone arena_zone(const struct arena *arena, unsigned index);

/* buffer.c: has those who said so give back what they can spare. */
void buffer_press(struct memory *memory);
/* memory.c: so many bytes more are out. */
void memory_add_used(struct memory *memory, uint64_t bytes);
/* memory.c: has the chunk that is kept in vain given back. */
void memory_drop_spare(struct memory *memory);
/* memory.c: pressures have changed. */
void memory_note_spare(struct memory *memory);

/* memory.c: has the loop look at its waiters.  Any thread. */
void memory_schedule(struct memory *memory);
/* memory.c: the loop's share, empty. */
void memory_init(struct memory *memory, struct arena *arena,
                 struct abd_loop *loop);

/* For tests: called where a race would hurt if it is not NULL. */
extern void (*arena_test_pause)(void);

#endif
