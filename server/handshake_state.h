/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The handshake itself, for handshake.c and the files of its options.
 * Everybody else uses handshake.h.
 *
 * An option's function is called when all of its data is there.  It appends its
 * replies and returns, or makes the handshake wait (handshake_wait) and goes on
 * later (handshake_resume), or gives the client up (handshake_fail).  None of
 * them ever ends the handshake inside: that is done by the loop that runs it.
 */
#ifndef ABD_SERVER_HANDSHAKE_STATE_H
#define ABD_SERVER_HANDSHAKE_STATE_H

#include "abd-loop.h"

#include "server/connection.h"
#include "server/disk.h"
#include "wire/option.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct exports;

enum handshake_state {
    HANDSHAKE_NEW,
    HANDSHAKE_FLAGS,    /* the client's flags are awaited */
    HANDSHAKE_HEADER,   /* an option's header */
    HANDSHAKE_DATA,     /* an option's data */
    HANDSHAKE_DROP,     /* data of an option that is too long, thrown away */
    HANDSHAKE_WAITING,  /* for a disk or the list of exports; nothing is read */
    HANDSHAKE_ENTERING, /* when all is sent: transmission */
    HANDSHAKE_LEAVING,  /* when all is sent: close */
    HANDSHAKE_FAILED,   /* close at once */
};

/* Made by handshake_begin(), belongs to its connection, freed when it is over.
 * Touched on the connection's thread only. */
struct handshake {
    struct connection *connection;
    enum handshake_state state;
    uint16_t offered; /* handshake flags */
    bool oldstyle;
    bool draining; /* the server is ending */
    bool stopped;  /* the connection is ending, and waits for what we wait */
    unsigned options;

    /* What the client may still take; counts only while we wait for it. */
    struct abd_timer timer;
    uint64_t time_left_ns, timer_start_ns;

    /* The option: its header, then as much of its data as has come. */
    uint8_t head[NBD_OPTION_SIZE];
    uint32_t option, length;
    uint32_t got;  /* bytes of what the state wants */
    uint8_t *data; /* malloc'ed */

    struct {
        uint8_t *bytes;
        size_t start, end, size;
    } output;
    uint32_t in_events, out_events; /* what the watches watch; 0: nothing */
    bool watching; /* in_watch is started (one descriptor for both) */

    /* INFO, GO, EXPORT_NAME, oldstyle (option_export.c). */
    struct disk_request opening;
    bool opening_under_way; /* or the connection is moving to its thread */
    struct disk *disk;      /* got, and put back by us; NULL: none */
    struct disk_put put;
    bool putting;    /* one is being put back; another is got only then */
    bool open_next;  /* when that is over, get the one called name */
    char *name;      /* under which it was asked for */
    uint32_t wanted; /* 1 << NBD_INFO_... */
    bool admitted;

    /* LIST (option_list.c). */
    struct exports *exports;

    /* LIST_ and SET_META_CONTEXT (option_meta.c). */
    char *meta_name; /* for which export base:allocation is selected, or NULL */
};

void handshake_set_state(struct handshake *handshake,
                         enum handshake_state state);

/* Gives the client up, with a debug message that says why. */
void handshake_fail(struct handshake *handshake, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Nothing is read until handshake_resume(), which is called later, on the
 * connection's thread, with the state that is to follow. */
void handshake_wait(struct handshake *handshake);
void handshake_resume(struct handshake *handshake, enum handshake_state state);
/* Something that was under way has come, but handshake->stopped was set: frees
 * the handshake and lets the connection end, if it was the last. */
void handshake_abandon(struct handshake *handshake);

/* Stops what is bound to the loop, before the connection moves to another. */
void handshake_detach(struct handshake *handshake);

#endif
