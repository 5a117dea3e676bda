/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Disks and exports: opening, closing, and what the plugin says of them. */
#include "tools/kit/kit.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#define PUBLIC __attribute__((visibility("default")))

static struct kit_disk *disk_of(const struct abd_disk *pub)
{
    return container_of(pub, struct kit_disk, pub);
}

/* Waits for an answer of the plugin; what never comes is the end. */
static void await(sem_t *sem, const char *what)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(options.timeout_ns / UINT64_C(1000000000));
    while (sem_timedwait(sem, &until)) {
        if (errno == ETIMEDOUT)
            report_fatal("%s was not called within %" PRIu64 " s", what,
                         options.timeout_ns / UINT64_C(1000000000));
    }
}

PUBLIC void abd_opened(struct abd_disk *pub, int error)
{
    struct kit_disk *disk = disk_of(pub);

    if (atomic_fetch_add(&disk->opened, 1))
        report_fatal("abd_opened() was called twice for one open()");
    disk->error = error;
    sem_post(&disk->ready);
}

PUBLIC void abd_closed(struct abd_disk *pub)
{
    struct kit_disk *disk = disk_of(pub);

    if (atomic_fetch_add(&disk->closed, 1))
        report_fatal("abd_closed() was called twice for one close()");
    sem_post(&disk->ready);
}

static void on_open(struct loop_message *message)
{
    struct kit_disk *disk = container_of(message, struct kit_disk, message);

    plugin->open(&disk->pub);
}

static void on_admit(struct loop_message *message)
{
    struct kit_disk *disk = container_of(message, struct kit_disk, message);

    disk->error = plugin->admit ? plugin->admit(&disk->pub, &disk->client) : 0;
    disk->admitted = disk->error == 0;
    sem_post(&disk->ready);
}

static void on_close(struct loop_message *message)
{
    struct kit_disk *disk = container_of(message, struct kit_disk, message);

    if (disk->admitted && plugin->leave)
        plugin->leave(&disk->pub, &disk->client);
    plugin->close(&disk->pub);
}

static void send(struct kit_disk *disk, void (*fn)(struct loop_message *))
{
    disk->message.fn = fn;
    loop_send(disk->pub.loop, &disk->message);
}

bool disk_open(struct kit_disk *disk, struct abd_instance *instance,
               bool read_only)
{
    static uint64_t clients;

    memset(disk, 0, sizeof *disk);
    sem_init(&disk->ready, 0, 0);
    disk->client = (struct abd_client){
        .id = ++clients, .address = "kit", .pid = -1, .uid = -1, .gid = -1};
    disk->pub.struct_size = sizeof disk->pub;
    disk->pub.instance = instance;
    disk->pub.loop = abd_loop_at(0);
    disk->pub.client =
        plugin->flags & ABD_PLUGIN_PER_CLIENT ? &disk->client : NULL;
    disk->pub.export_name = "";
    disk->pub.read_only = read_only;
    send(disk, on_open);
    await(&disk->ready, "abd_opened()");
    if (disk->error) {
        report_failure("open() ended with error %d (%s)", disk->error,
                       strerrordesc_np(disk->error));
        return false;
    }
    disk->transfer =
        disk->pub.max_transfer ? disk->pub.max_transfer : UINT64_C(1) << 20;
    disk->block_min = disk->pub.block_min ? disk->pub.block_min : 1;
    disk->max_requests = disk->pub.max_requests ? disk->pub.max_requests : 4096;
    send(disk, on_admit);
    await(&disk->ready, "the kit's own message");
    if (!disk->admitted)
        report_failure("admit() refused a client with error %d", disk->error);
    return disk->admitted;
}

void disk_close(struct kit_disk *disk)
{
    send(disk, on_close);
    await(&disk->ready, "abd_closed()");
    sem_destroy(&disk->ready);
}

static bool is_power_of_2(uint32_t n)
{
    return n && (n & (n - 1)) == 0;
}

void disk_check_fields(const struct kit_disk *disk)
{
    const struct abd_disk *pub = &disk->pub;

    if (pub->size > INT64_MAX)
        report_failure("size is above INT64_MAX");
    if (pub->max_transfer % 4096)
        report_failure("max_transfer is no multiple of 4096");
    if (!is_power_of_2(disk->block_min) || disk->block_min > 65536)
        report_failure("block_min is %u, no power of 2 from 1 to 65536",
                       disk->block_min);
    if (pub->size % disk->block_min)
        report_failure("size is no multiple of block_min");
    if (pub->max_zero % disk->block_min || pub->max_trim % disk->block_min)
        report_failure("max_zero or max_trim is no multiple of block_min");
    if (pub->block_preferred && (!is_power_of_2(pub->block_preferred) ||
                                 pub->block_preferred < disk->block_min))
        report_failure("block_preferred is %u", pub->block_preferred);
    if (!disk_has(disk, ABD_OP_READ))
        report_failure("ops lacks ABD_OP_READ");
    if (pub->ops & ~((2U << ABD_OP_CACHE) - 2))
        report_failure("ops has bits that mean nothing: %#x", pub->ops);
    if (pub->fua > ABD_FUA_NATIVE)
        report_failure("fua is %u, none of enum abd_fua", pub->fua);
    if (pub->fua == ABD_FUA_EMULATE && !disk_has(disk, ABD_OP_FLUSH))
        report_failure("fua is ABD_FUA_EMULATE, but ops lacks ABD_OP_FLUSH");
    if (pub->flags & ABD_DISK_LENDS && pub->lend_min > disk->transfer)
        report_failure("lend_min is above max_transfer");
    if (pub->read_only && pub->state == NULL && pub->size == 0)
        report_failure("the disk is empty and has no state");
}

/* --- exports --- */

struct listing {
    struct abd_exports pub;
    sem_t done;
    atomic_uint ends;
    int n, error;
    struct loop_message message;
};

PUBLIC void abd_add_export(struct abd_exports *exports, const char *name,
                           const char *description)
{
    struct listing *listing = container_of(exports, struct listing, pub);

    if (!name || strlen(name) > 4096 ||
        (description && strlen(description) > 4096))
        report_failure("abd_add_export(): a name that is NULL, or a string of "
                       "more than 4096 bytes");
    if (atomic_load(&listing->ends))
        report_failure("abd_add_export() after abd_exports_done()");
    listing->n++;
}

PUBLIC void abd_exports_done(struct abd_exports *exports, int error)
{
    struct listing *listing = container_of(exports, struct listing, pub);

    if (atomic_fetch_add(&listing->ends, 1))
        report_fatal("abd_exports_done() was called twice");
    listing->error = error;
    sem_post(&listing->done);
}

static void on_list(struct loop_message *message)
{
    struct listing *listing = container_of(message, struct listing, message);

    plugin->exports(&listing->pub);
}

int exports_count(struct abd_instance *instance)
{
    struct listing listing = {.pub = {.instance = instance}};

    sem_init(&listing.done, 0, 0);
    listing.message.fn = on_list;
    loop_send(abd_loop_at(0), &listing.message);
    await(&listing.done, "abd_exports_done()");
    sem_destroy(&listing.done);
    if (listing.error) {
        report_failure("exports() ended with error %d", listing.error);
        return -1;
    }
    return listing.n;
}

/* --- the server's part of abd-loop.h --- */

PUBLIC void abd_shutdown(void)
{
}

PUBLIC void abd_disconnect(const struct abd_client *client)
{
    (void)client;
}

PUBLIC void abd_memory(const struct abd_instance *instance,
                       struct abd_memory *ret)
{
    (void)instance;
    *ret = (struct abd_memory){.fd = -1};
    report_skip("plugins with ABD_PLUGIN_REGISTERS can't be checked yet");
}
