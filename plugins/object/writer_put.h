/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The writer's second half: sealing, storing, committing.  For writer.c. */
#ifndef ABD_OBJECT_WRITER_PUT_H
#define ABD_OBJECT_WRITER_PUT_H

#include "writer.h"

#define WRITER_HEAD_MAX (LOG_HEADER_SIZE + WRITER_ENTRIES * LOG_ENTRY_SIZE + 8)

/* There is an open object, or why not: EAGAIN, ENOMEM. */
int writer_need_open(struct writer *writer);

bool writer_has_entry_room(struct log_object *object, unsigned n);

/* The open object is sealed now, or when it can be. */
void writer_seal_soon(struct writer *writer);
/* Somebody lacks memory: what is open is sealed, so that it comes back. */
void writer_make_room(struct writer *writer);

/* Its memory is free for others. */
void writer_give_chunks(struct writer *writer, struct log_object *object);
void log_object_free(struct log_object *object);

#endif
