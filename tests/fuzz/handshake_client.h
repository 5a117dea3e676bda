/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The client of fuzz_handshake.c: what it sends is the fuzzer's, and what it is
 * sent must be what the protocol demands as the answer to exactly that.
 *
 * It follows the bytes that the server takes with a parser of its own, so it
 * knows which answer is owed, and that the server never takes a byte past the
 * part that it is at.  Whatever does not hold aborts. */
#ifndef ABD_TESTS_FUZZ_HANDSHAKE_CLIENT_H
#define ABD_TESTS_FUZZ_HANDSHAKE_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/message.h"
#include "wire/option.h"

struct negotiated;

/* What the server is like, as far as the answers depend on it.  Set once. */
struct client_view {
    bool oldstyle, no_structured;
    uint16_t offered; /* handshake flags */
    uint64_t size;    /* of every disk */
    unsigned exports; /* that are listed */
    int list_error;
    /* Why an export of this name can't be used, or 0. */
    int (*open_error)(struct nbd_string name);
    int (*admit_error)(struct nbd_string name);
    /* Is this the export at that place of the list? */
    bool (*is_listed)(unsigned index, struct nbd_string name,
                      struct nbd_string description);
};

struct client {
    const struct client_view *view;
    const uint8_t *input;
    size_t size, arrived, taken; /* arrived: lies in the server's socket */
    bool ended;                  /* the server has seen the end of it */
    bool draining;               /* the server has been told to end */

    /* What the server takes next. */
    enum client_part { CLIENT_FLAGS, CLIENT_HEADER, CLIENT_DATA } part;
    size_t part_taken, part_length;

    /* The option that was taken last, and what has come as its answer. */
    bool owed;     /* its last reply has not come */
    bool too_late; /* it was taken when the server had been told to end */
    unsigned options;
    uint32_t option, length;
    const uint8_t *data;
    uint32_t infos; /* 1 << NBD_INFO_... */
    unsigned listed, contexts;

    /* What holds so far. */
    uint32_t flags; /* the client's */
    bool greeted, chosen, left;
    enum nbd_reply_style style;
    struct nbd_string meta_name; /* text NULL: nothing is selected */
    uint64_t told_size;
    uint16_t told_flags;

    uint8_t *output; /* malloc'ed: what it was sent */
    size_t output_n, checked;
};

void client_init(struct client *client, const struct client_view *view,
                 const uint8_t *input, size_t size);
void client_finish(struct client *client);

/* The server is about to take up to length bytes: everything that was asked
 * must have been answered, and it must not want more than the part has. */
void client_check_wish(struct client *client, size_t length);
/* It has taken so many. */
void client_take(struct client *client, size_t n);
/* It has sent so many. */
void client_hear(struct client *client, const void *bytes, size_t n);

/* The name under which the server may open a disk now; false: it must not. */
bool client_may_open(const struct client *client, struct nbd_string *ret);
/* May the exports be listed now? */
bool client_may_list(const struct client *client);
/* The server goes on to transmission: was all said, and does it agree? */
void client_check_choice(struct client *client,
                         const struct negotiated *negotiated);
/* The server has closed: had it a reason?  excused: one that lies outside of
 * what the client did. */
void client_check_end(struct client *client, bool excused);

#endif
