/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Where a server listens, and the client's side of the handshake.
 *
 * Everything here blocks: it happens before a measurement begins. */
#ifndef ABD_BENCH_TARGET_H
#define ABD_BENCH_TARGET_H

#include <stdint.h>

/* How replies look; each includes what stands before it. */
enum reply_style { REPLY_SIMPLE, REPLY_STRUCTURED, REPLY_EXTENDED };

/* Owned by whom target_parse filled it for; target_finish frees it. */
struct target {
    char *path; /* of a unix socket, or NULL */
    char *host, *port;
    char *export_name;
};

/* What was agreed with a server.  The descriptor is the caller's to close. */
struct session {
    int fd;
    uint64_t size;
    uint16_t flags;
    enum reply_style style;
};

/* text: nbd+unix:///NAME?socket=PATH, nbd://HOST[:PORT]/NAME, or the path of a
 * unix socket.  Returns 0 or an errno value; *ret_why then says what is wrong.
 */
int target_parse(struct target *target, const char *text, const char **ret_why);
void target_finish(struct target *target);

/* Connects and negotiates: GO, or EXPORT_NAME where the server has no GO.
 * A server that refuses the wanted style is an error, not a fallback. */
int target_connect(const struct target *target, enum reply_style style,
                   struct session *ret, const char **ret_why);

#endif
