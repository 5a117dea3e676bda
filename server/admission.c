/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* See admission.h. */
#include "server/admission.h"

#include "server/connection.h"
#include "server/disk.h"
#include "server/layer.h"
#include "server/worker.h"

#include <assert.h>

static struct admission *admission_of(const struct abd_client *client)
{
    struct connection *connection = container_of(
        (struct abd_client *)(uintptr_t)client, struct connection, client);

    return &connection->admission;
}

/* Who is asked now; NULL: nobody. */
static void set_busy_with(const struct disk *disk)
{
    loop_set_busy_with(worker_current()->loop,
                       disk ? disk->layer->instance.name : NULL);
}

int disk_admit(struct disk *disk, const struct abd_client *client)
{
    struct admission *admission = admission_of(client);
    struct disk *asked = disk;
    int err = 0;

    disk_pin(asked);
    while (asked && !err) {
        const struct abd_plugin *plugin = asked->layer->plugin;

        set_busy_with(asked);
        err = plugin->admit ? plugin->admit(&asked->pub, client) : 0;
        set_busy_with(NULL);
        if (err) {
            disk_unpin(asked);
            break;
        }
        assert(admission->n < LIMIT_LAYERS);
        admission->disks[admission->n++] = asked;
        /* One that is about to be opened again can't be asked, so nobody is let
         * in past it. */
        err = disk_pin_below(asked, &asked);
    }
    if (err)
        disk_leave(disk, client);
    return err;
}

void disk_leave(struct disk *disk, const struct abd_client *client)
{
    struct admission *admission = admission_of(client);
    unsigned layer = disk->layer->index;

    while (admission->n > 0) {
        struct disk *last = admission->disks[admission->n - 1];
        const struct abd_plugin *plugin = last->layer->plugin;

        if (last->layer->index < layer)
            return;
        admission->n--;
        set_busy_with(last);
        if (plugin->leave)
            plugin->leave(&last->pub, client);
        set_busy_with(NULL);
        disk_unpin(last);
    }
}

int admission_reopened(struct disk *disk, struct disk *below)
{
    const struct abd_client *client = disk->pub.client;
    const struct admission *admission;

    if (!client)
        return 0; /* it is shared, and so are those that it was opened for */
    admission = admission_of(client);
    if (admission->n == 0 || admission->disks[admission->n - 1] != disk)
        return 0;
    return disk_admit(below, client);
}

void admission_closing(struct disk *below)
{
    if (below->pub.client)
        disk_leave(below, below->pub.client);
}
