/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* abdvol delete: the log, then the claims, then the superblock, so that what is
 * left by one that was cut short is still a volume that can be deleted.  It is
 * claimed for that first: nobody else can write to it. */
#include "tools/abdvol/abdvol.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DELETES 32 /* at once */

static const char *const folders[] = {"log", "epoch"};
#define STAGES (sizeof folders / sizeof folders[0])

static unsigned stage, busy;
static struct store_call listing, calls[DELETES];
static char prefix[NAME_SIZE];
static char found[STORE_LIST_MAX][NAME_SIZE];
static unsigned found_n, found_next;
static int failed;
static char why[STORE_WHY_MAX];

static void delete_stage(void);

static void on_found(struct store_call *call, const char *name, uint64_t size)
{
    (void)call;
    (void)size;
    if (strlen(name) < NAME_SIZE)
        strcpy(found[found_n++], name);
}

static void on_deleted(struct store_call *call);

static void delete_more(void)
{
    for (unsigned i = 0; i < DELETES && found_next < found_n && !failed; i++) {
        if (calls[i].name)
            continue;
        memset(&calls[i], 0, sizeof calls[i]);
        calls[i].verb = STORE_DELETE;
        calls[i].name = found[found_next++];
        calls[i].done = on_deleted;
        busy++;
        store_start(self.store, &calls[i]);
    }
    if (busy > 0)
        return;
    if (failed) {
        progress_clear();
        finish(failed, why);
    } else {
        delete_stage(); /* once more: is anything left? */
    }
}

static void on_deleted(struct store_call *call)
{
    busy--;
    call->name = NULL;
    if (call->result == STORE_OK) {
        progress_show(++self.deleted);
    } else {
        failed = EIO;
        memcpy(why, call->why, sizeof why);
    }
    delete_more();
}

static void on_found_all(struct store_call *call)
{
    if (call->result != STORE_OK) {
        progress_clear();
        finish(EIO, call->why);
        return;
    }
    if (found_n == 0)
        stage++;
    delete_more();
}

static void on_volume_deleted(struct store_call *call)
{
    progress_clear();
    self.deleted++;
    finish(call->result == STORE_OK ? 0 : EIO, call->why);
}

static void delete_stage(void)
{
    char uuid[2 * UUID_SIZE + 1];

    memset(&listing, 0, sizeof listing);
    found_n = found_next = 0;
    if (stage == STAGES) {
        listing.verb = STORE_DELETE;
        listing.name = "volume";
        listing.done = on_volume_deleted;
        store_start(self.store, &listing);
        return;
    }
    uuid_print(self.volume.superblock.uuid, uuid);
    snprintf(prefix, sizeof prefix, "%s/%s/", uuid, folders[stage]);
    listing.verb = STORE_LIST;
    listing.name = prefix;
    listing.found = on_found;
    listing.done = on_found_all;
    store_start(self.store, &listing);
}

static void on_claimed_and_closed(struct volume *volume, int error, void *arg)
{
    (void)arg;
    if (error) {
        finish(error, volume->why);
        return;
    }
    /* Log objects, as many claims as there were epochs, the superblock. */
    progress_begin(volume->writer.next_seq - 1 + volume->epoch + 1, "objects",
                   1);
    delete_stage();
}

void delete_run(void)
{
    volume_close(&self.volume, on_claimed_and_closed, NULL);
}
