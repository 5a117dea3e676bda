/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The handshake's messages: bytes <-> structs.
 *
 * No I/O and no allocation: what is parsed points into the caller's buffer.
 * Every length is checked against what is left, by subtraction. */
#ifndef ABD_WIRE_OPTION_H
#define ABD_WIRE_OPTION_H

#include "wire/nbd.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NBD_GREETING_SIZE = 18,           /* newstyle: two magics, flags */
    NBD_OLDSTYLE_GREETING_SIZE = 152, /* all of the oldstyle handshake */
    NBD_OPTION_SIZE = 16,             /* an option's header */
    NBD_OPTION_REPLY_SIZE = 20,       /* the header of a reply to one */
    NBD_EXPORT_NAME_REPLY_SIZE = 134, /* with the zeroes; 10 without */
};

/* Not terminated, not copied. */
struct nbd_string {
    const char *text;
    uint32_t length;
};

struct nbd_option_header {
    uint32_t option, length;
};

void nbd_greeting_encode(uint16_t handshake_flags, uint8_t *to);
void nbd_oldstyle_greeting_encode(uint64_t size, uint16_t transmission_flags,
                                  uint8_t *to);
/* False: wrong magic. */
bool nbd_option_decode(const uint8_t *from, struct nbd_option_header *ret);
void nbd_option_reply_encode(uint32_t option, uint32_t reply, uint32_t length,
                             uint8_t *to);
/* Returns the bytes written, which depend on no_zeroes. */
unsigned nbd_export_name_reply_encode(uint64_t size,
                                      uint16_t transmission_flags,
                                      bool no_zeroes, uint8_t *to);

/* What a parser thinks of an option's data. */
enum nbd_parsed {
    NBD_PARSED,
    NBD_PARSED_INVALID, /* lengths do not add up, or not UTF-8 */
    NBD_PARSED_TOO_BIG, /* a string above NBD_MAX_STRING */
};

/* NBD_OPT_INFO and NBD_OPT_GO.  Unknown information requests are skipped;
 * wanted has bit 1 << NBD_INFO_... for the known ones. */
struct nbd_info_request {
    struct nbd_string name;
    uint32_t wanted;
};
enum nbd_parsed nbd_info_request_parse(const uint8_t *data, uint32_t length,
                                       struct nbd_info_request *ret);

/* NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT.  All of it has been
 * checked when parse returns; the queries are then taken one by one. */
struct nbd_meta_request {
    struct nbd_string name;
    uint32_t queries;
    const uint8_t *next; /* where the next query is; parser's */
};
enum nbd_parsed nbd_meta_request_parse(const uint8_t *data, uint32_t length,
                                       struct nbd_meta_request *ret);
/* The next query; call it at most queries times. */
struct nbd_string nbd_meta_request_next(struct nbd_meta_request *request);

/* The payloads of NBD_REP_INFO, NBD_REP_SERVER and NBD_REP_META_CONTEXT whose
 * size is fixed (the strings behind them are the caller's).  Each returns the
 * bytes written. */
unsigned nbd_info_export_encode(uint64_t size, uint16_t transmission_flags,
                                uint8_t *to); /* 12 */
unsigned nbd_info_block_size_encode(uint32_t minimum, uint32_t preferred,
                                    uint32_t maximum, uint8_t *to); /* 14 */

#endif
