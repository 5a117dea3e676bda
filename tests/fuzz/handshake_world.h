/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What the handshake has around it, for fuzz_handshake.c: two loops without
 * threads, a socket without a kernel, disks and connections that only check how
 * they are used.
 *
 * Nothing happens by itself: each of the functions at the end is one event,
 * which the fuzzer's input puts in an order.  So a run depends on its input
 * alone. */
#ifndef ABD_TESTS_FUZZ_HANDSHAKE_WORLD_H
#define ABD_TESTS_FUZZ_HANDSHAKE_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/connection.h"
#include "server/disk.h"
#include "tests/fuzz/handshake_client.h"

/* What the disks and exports are like.  Set once. */
struct world_plan {
    struct client_view view;
    struct abd_disk disk; /* its size, ops, block sizes, flags, texts */
    bool parallel, shared;
    unsigned home;      /* the loop of disks that are not parallel */
    bool lists;         /* the plugin has exports() */
    uint64_t memory;    /* for all of a payload */
    bool two_fds, file; /* of the stream */
    uint64_t timeout_ns;
};

struct world {
    const struct world_plan *plan;
    struct client client;
    struct connection connection;
    bool over, served, closing, moving, gone;
    bool excused; /* it may be closed whatever the client does */
    size_t room;  /* what the client's side still takes */

    /* What the server asked for and has not heard of. */
    struct disk_request *opening;
    struct nbd_string opening_name;
    struct abd_exports *listing;
    struct disk *disk; /* the one that is open: there is never a second */
    bool admitted;
    bool putting; /* one that is gone, but who put it back has not heard so */
    void (*put_fn)(struct loop_message *message);
};
extern struct world world;

void world_init(const struct world_plan *plan, const uint8_t *input,
                size_t size);
/* Checks that nothing is left. */
void world_finish(void);
bool world_is_listed(unsigned index, struct nbd_string name,
                     struct nbd_string description);

/* Can this event come now? */
bool world_has_message(unsigned loop);
bool world_has_timer(void);
bool world_is_ready(void);

/* Events. */
void world_begin(void);
void world_message(unsigned loop);
void world_timer(void);
void world_ready(void);
void world_open_ends(void);
void world_list_ends(void);
void world_drain(void);
void world_go(void); /* the client goes */
void world_close(void);

#endif
