/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A small disk in memory that keeps every rule.  Each plugin beside this file
 * takes it and breaks one of them, so that tests can show that the kit sees it.
 * Everything runs on the disk's loop.  Parameter: size (default 1M). */
#ifndef ABD_TESTS_CONTRACT_RAM_H
#define ABD_TESTS_CONTRACT_RAM_H

#include "abd-filter.h"
#include "abd-loop.h"
#include "abd-plugin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

/* instance->state */
struct ram {
    uint64_t size;
    char *bytes;
};

/* All callbacks filled in; the caller changes what it breaks. */
struct abd_plugin ram_plugin(const char *name);

int ram_create(struct abd_instance *instance);
int ram_config(struct abd_instance *instance, const char *key,
               const char *value);
int ram_ready(struct abd_instance *instance);
void ram_destroy(struct abd_instance *instance);
/* Fills in the disk; what follows is abd_opened(). */
void ram_fill(struct abd_disk *disk);
void ram_open(struct abd_disk *disk);
void ram_close(struct abd_disk *disk);
/* Does what the request asks for, and returns the error to complete it with. */
int ram_do(struct abd_request *request);
void ram_submit(struct abd_request *request);
/* Where the request's bytes are. */
char *ram_at(const struct abd_request *request);

/* true in one of n calls. */
bool ram_every(unsigned n);

/* A filter's open() and close(): disk->state is the disk below. */
void below_open(struct abd_disk *disk);
void below_close(struct abd_disk *disk);
struct abd_plugin below_plugin(const char *name);

#endif
