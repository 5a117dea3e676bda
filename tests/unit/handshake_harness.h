/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What test_handshake.c needs of a server around the handshake: two loops, a
 * client's end of a socket, connections and disks that only take notes.
 *
 * The test's thread is the client and may block; every wait has an end. */
#ifndef ABD_TESTS_HANDSHAKE_HARNESS_H
#define ABD_TESTS_HANDSHAKE_HARNESS_H

#include "server/connection.h"
#include "server/handshake.h"
#include "server/layer.h"
#include "server/settings.h"
#include "server/worker.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum outcome { OUTCOME_NONE, OUTCOME_SERVED, OUTCOME_CLOSED };

/* One client and its connection. */
struct session {
    struct connection connection;
    struct loop_message message;
    void (*arrived)(struct connection *connection);
    bool closing;
    _Atomic enum outcome outcome;
    sem_t over, is_closing, drained;
    int in, out; /* the client's ends */
};

/* What the disk is like, and what happened to it. */
struct disk_notes {
    int open_error, admit_error;
    bool hold;        /* answers only after disk_release() */
    uint64_t open_ns; /* answers so much later */
    struct abd_timer timer;
    unsigned home;
    atomic_uint gets, puts, admits, leaves;
    sem_t held;
    struct disk_request *held_request;
};
extern struct disk_notes notes;
extern struct disk test_disk;
/* The exports() of the plugin; NULL: it has none. */
extern void (*test_exports)(struct abd_exports *exports);

void harness_start(void);
void harness_end(void);
/* Settings, disk and notes as at the start. */
void harness_reset(void);

void session_begin(struct session *session);
void session_begin_with(struct session *session, int server_in, int server_out,
                        int client_in, int client_out);
/* Waits for the outcome. */
enum outcome session_wait(struct session *session);
/* Waits until connection_close() was called. */
void session_wait_closing(struct session *session);
/* Waits until nothing of it is left, and that all that was got was put back. */
void session_end(struct session *session);
/* Tells the handshake that the server is ending; returns when it has been told.
 */
void session_drain(struct session *session);
void disk_wait_held(void);
void disk_release(void);

/* The n-th allocation on a loop's thread from now on fails; 0: none does.
 * Returns whether the one before was reached. */
bool fail_allocation(unsigned n);

/* The client. */
void client_send(struct session *session, const void *bytes, size_t length);
void client_receive(struct session *session, void *bytes, size_t length);
void client_expect_end(struct session *session);
void client_greet(struct session *session, uint32_t flags);
void client_option(struct session *session, uint32_t option, const void *data,
                   uint32_t length);
/* The next reply's type; its payload (up to 8 KiB) is in client_payload. */
uint32_t client_reply(struct session *session, uint32_t option);
extern uint8_t client_payload[8192];
extern uint32_t client_payload_length;
/* INFO or GO for a name, with no information requests; and the last reply. */
uint32_t client_choose(struct session *session, uint32_t option,
                       const char *name);

#endif
