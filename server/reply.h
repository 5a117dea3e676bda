/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Replies: what is to be sent, and sending it.
 *
 * A request whose answer (or chunk of an answer) is due is queued as it is; its
 * bytes are worked out while they are being sent, again from the start of that
 * answer if the socket took only a part, so that nothing has to be stored. */
#ifndef ABD_SERVER_REPLY_H
#define ABD_SERVER_REPLY_H

struct connection;
struct request;
struct worker;

/* A part has ended: queues what can be sent now.  The request is the reply's
 * from here on and goes to part_sent() later. */
void reply_queue(struct connection *connection, struct request *part);
/* Sends what is queued, for all connections; part of the ANSWER stage.  Returns
 * how many replies and chunks have left whole. */
unsigned reply_send_all(struct worker *worker);
/* Nothing will be sent any more: what is queued is given back. */
void reply_discard(struct connection *connection);

#endif
