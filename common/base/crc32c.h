/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* CRC32C (Castagnoli), by the processor's own instruction where it has one. */
#ifndef ABD_BASE_CRC32C_H
#define ABD_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Goes on from crc, the result for what comes before; 0: nothing does. */
uint32_t crc32c(uint32_t crc, const void *data, size_t length);
/* The same, without that instruction: for tests. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t length);

#endif
