/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Opening and closing one disk: the steps between the table's states, the
 * disks below, and what the plugin says of its disk.  All on the disk's loop,
 * except where plugins answer from elsewhere. */
#ifndef ABD_SERVER_OPEN_H
#define ABD_SERVER_OPEN_H

struct disk;

/* Opens it, and what is below it; ends in disk_table_opened(). */
void open_disk(struct disk *disk);
/* Closes it, then what is below it; ends in disk_table_closed(). */
void close_disk(struct disk *disk);

/* The table's (disk.c): the disk is open, or is given up (and freed). */
void disk_table_opened(struct disk *disk, int error);
/* The disk is closed; it is freed, or opened again. */
void disk_table_closed(struct disk *disk);

#endif
