/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What a client is told about a disk. */
#ifndef ABD_SERVER_NEGOTIATED_H
#define ABD_SERVER_NEGOTIATED_H

struct disk;
struct memory;
struct negotiated;

/* Fills in size, transmission flags and block sizes, of an open disk; style and
 * allocation are set already.  memory: a loop's share, for what can ever fit.
 */
void negotiated_describe(struct negotiated *negotiated, const struct disk *disk,
                         const struct memory *memory);

#endif
