/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* One client of abd-bound after the handshake. */
#ifndef ABD_BENCH_RESPONDER_H
#define ABD_BENCH_RESPONDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum store_mode { STORE_NULL, STORE_MEMORY, STORE_FILE };

/* What all clients share; set once.  memory: the contents, or for STORE_NULL
 * a stretch of zeroes as long as the longest request. */
struct store {
    enum store_mode mode;
    uint64_t size, delay_ns;
    uint8_t *memory;
    int fd;
    uint8_t *receive_buffer; /* RESPONDER_ROOM + RESPONDER_RECEIVE bytes */
};

#define RESPONDER_RECEIVE ((size_t)256 * 1024)
#define RESPONDER_ROOM    32
#define RESPONDER_LONGEST ((size_t)64 * 1024 * 1024) /* of a read */

struct responder;

/* Takes over fd, also when it fails (NULL: no memory). */
struct responder *responder_create(const struct store *store, int fd,
                                   bool structured);
void responder_destroy(struct responder *responder);

/* Takes one recv's worth of requests, then answers what is due.  Returns 0, or
 * an errno value: the client is gone or wrong. */
int responder_receive(struct responder *responder, uint64_t now_ns);
int responder_answer(struct responder *responder, uint64_t now_ns);

/* What to wait for: may it receive, does it wait for room in the socket, and
 * when the next answer is due (UINT64_MAX: none is waiting for its time). */
bool responder_has_room(const struct responder *responder);
bool responder_is_blocked(const struct responder *responder);
uint64_t responder_due(const struct responder *responder);

#endif
