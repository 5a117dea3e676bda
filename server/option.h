/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The option that a client has sent: which it is, who answers it. */
#ifndef ABD_SERVER_OPTION_H
#define ABD_SERVER_OPTION_H

struct handshake;

/* All of its data is there. */
void option_answer(struct handshake *handshake);
/* Its data was longer than LIMIT_OPTION, and has been dropped. */
void option_answer_too_big(struct handshake *handshake);

#endif
