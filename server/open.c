/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Opening and closing one disk.  See open.h.
 *
 *     open_disk -> plugin's open (or: the disk below, then inherit)
 *               -> abd_opened (any thread) -> on_opened: check -> announce
 *     close_disk -> plugin's close -> abd_closed (any thread) -> on_closed
 *               -> the disks below -> announce */
#include "server/open.h"

#include "server/admission.h"
#include "server/disk.h"
#include "server/layer.h"
#include "server/request.h"
#include "server/worker.h"

#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PUBLIC __attribute__((visibility("default")))

/* A disk that a filter's disk has open below it. */
struct below {
    struct list link; /* in disk->belows */
    struct disk *disk, *below;
    struct disk_request request;
    struct disk_put put;
    void (*opened)(struct abd_disk *, struct abd_disk *, int);
    void (*closed)(struct abd_disk *);
    int error; /* it is put back at once, and opened() gets this */
};

static void complain(const struct disk *disk, const char *what)
{
    log_write(ABD_ERROR, disk->layer->instance.name, "export \"%s\": %s",
              disk->name, what);
}

__attribute__((noreturn)) static void misused(const struct disk *disk,
                                              const char *what)
{
    complain(disk, what);
    abort();
}

/* --- what the plugin says of its disk --- */

static bool is_power_of_2(uint32_t n)
{
    return n && (n & (n - 1)) == 0;
}

/* NULL: all is well. */
static const char *find_fault(const struct abd_disk *pub)
{
    uint32_t block_min = pub->block_min ? pub->block_min : 1;

    if (pub->size > INT64_MAX)
        return "size is above INT64_MAX";
    if (pub->max_transfer % 4096)
        return "max_transfer is no multiple of 4096";
    if (!is_power_of_2(block_min) || block_min > 65536)
        return "block_min is no power of 2 from 1 to 65536";
    if (pub->block_preferred &&
        (!is_power_of_2(pub->block_preferred) ||
         pub->block_preferred < block_min || pub->block_preferred < 512))
        return "block_preferred is no power of 2 of at least 512 and block_min";
    if (pub->block_max && pub->block_max != UINT32_MAX &&
        (pub->block_max % block_min || pub->block_max < pub->block_preferred))
        return "block_max is no multiple of block_min, or below "
               "block_preferred";
    if (pub->max_transfer % block_min)
        return "max_transfer is no multiple of block_min";
    if (pub->data_alignment &&
        (!is_power_of_2(pub->data_alignment) || pub->data_alignment > 4096))
        return "data_alignment is no power of 2 of at most 4096";
    if (pub->size % block_min)
        return "size is no multiple of block_min";
    if ((pub->max_zero && pub->max_zero < block_min) ||
        (pub->max_trim && pub->max_trim < block_min) ||
        pub->max_zero % block_min || pub->max_trim % block_min)
        return "max_zero or max_trim is no multiple of block_min";
    if (!(pub->ops & (1U << ABD_OP_READ)))
        return "ops lacks ABD_OP_READ";
    if (pub->fua > ABD_FUA_NATIVE)
        return "fua is none of enum abd_fua";
    if (pub->fua == ABD_FUA_EMULATE && !(pub->ops & (1U << ABD_OP_FLUSH)))
        return "fua is ABD_FUA_EMULATE, but ops lacks ABD_OP_FLUSH";
    return NULL;
}

/* Lanes share max_requests; a disk that takes fewer than there are loops is
 * served by its own loop alone. */
static void init_lanes(struct disk *disk)
{
    unsigned max = disk->pub.max_requests;

    for (unsigned i = 0; i < workers_n; i++) {
        struct lane *lane = &disk->lanes[i];

        memset(lane, 0, sizeof *lane);
        lane->disk = disk;
        lane->worker = &workers[i];
        if (max == 0)
            lane->max_requests = LIMIT_REQUESTS;
        else if (disk->parallel)
            lane->max_requests = max / workers_n + (i < max % workers_n);
        else
            lane->max_requests = max;
        list_init(&lane->waiting);
        list_init(&lane->connections);
        list_init(&lane->unflushed);
        list_init(&lane->flushing);
    }
}

/* Chains are as parallel as their least parallel layer, and a READ can only be
 * lent whole where no layer cuts it. */
static void derive(struct disk *disk)
{
    disk->transfer =
        disk->pub.max_transfer ? disk->pub.max_transfer : LIMIT_TRANSFER;
    if (disk->transfer > LIMIT_PAYLOAD)
        disk->transfer = LIMIT_PAYLOAD;
    for (disk->piece = 4096; disk->piece * 2 <= disk->transfer;)
        disk->piece *= 2;
    disk->lend_max = disk->transfer;
    disk->block_min = disk->pub.block_min ? disk->pub.block_min : 1;
    disk->alignment = disk->pub.data_alignment;
    if (disk->alignment == 0)
        disk->alignment = disk->pub.flags & ABD_DISK_INLINE ? 1 : 4096;
    disk->takes_received = disk->pub.flags & ABD_DISK_INLINE &&
                           disk->alignment == 1 && !chain.registers;
    disk->parallel =
        (disk->pub.flags & ABD_DISK_PARALLEL) && workers_n > 1 &&
        (!disk->pub.max_requests || disk->pub.max_requests >= workers_n);
    if (disk->layer->filter && disk->layer->filter->background)
        disk->parallel = false;
    list_for_each (link, &disk->belows) {
        const struct disk *below =
            container_of(link, struct below, link)->below;

        if (!below)
            continue;
        if (!below->parallel)
            disk->parallel = false;
        if (below->lend_max < disk->lend_max)
            disk->lend_max = below->lend_max;
    }
    init_lanes(disk);
}

/* --- opening --- */

static void on_background_fed(struct request_waiter *waiter);

/* Requests of a filter's own that belong to no client's.  Such a disk is served
 * by its own loop, where they are reserved for as long as it is open.  If those
 * of clients hold them now, the disk is open when enough have ended. */
static void reserve_background(struct disk *disk)
{
    const struct abd_filter *filter = disk->layer->filter;
    /* One more while ended() of another is called. */
    unsigned n = filter && filter->background ? filter->background + 1 : 0;
    struct worker *worker = worker_of(disk->pub.loop);

    n *= 1 + chain_children_from(disk->layer->index + 1);
    if (n > 0 && !request_background_fits(worker, n)) {
        complain(disk, "no memory for the requests of the filter's own; "
                       "--memory is too small for so many open disks");
        disk->open_error = ENOMEM;
        close_disk(disk);
        return;
    }
    if (n > 0 && !request_reserve_background(worker, n)) {
        disk->background_waiter.wanted = n;
        disk->background_waiter.fed = on_background_fed;
        request_wait(worker, &disk->background_waiter);
        return;
    }
    disk->background = n;
    disk_table_opened(disk, 0);
}

static void on_background(struct loop_message *message)
{
    reserve_background(container_of(message, struct disk, message));
}

static void on_background_fed(struct request_waiter *waiter)
{
    struct disk *disk = container_of(waiter, struct disk, background_waiter);

    disk->message.fn = on_background;
    loop_send(disk->pub.loop, &disk->message);
}

static void put_belows(struct disk *disk);

static void on_opened(struct loop_message *message)
{
    struct disk *disk = container_of(message, struct disk, message);
    const char *fault = disk->open_error ? NULL : find_fault(&disk->pub);

    if (disk->open_error) {
        put_belows(disk);
        return;
    }
    disk->opened = true;
    if (fault) {
        complain(disk, fault);
        disk->open_error = EINVAL;
        close_disk(disk);
        return;
    }
    derive(disk);
    reserve_background(disk);
}

PUBLIC void abd_opened(struct abd_disk *pub, int error)
{
    struct disk *disk = disk_of(pub);

    disk->open_error = error;
    disk->message.fn = on_opened;
    loop_send(pub->loop, &disk->message);
}

static void on_default_below(struct abd_disk *pub, struct abd_disk *below,
                             int error)
{
    if (!error)
        abd_inherit(pub, below);
    abd_opened(pub, error);
}

void open_disk(struct disk *disk)
{
    const struct abd_plugin *plugin = disk->layer->plugin;

    /* What an earlier opening said does not count. */
    memset(&disk->pub.state, 0,
           sizeof disk->pub - offsetof(struct abd_disk, state));
    disk->opened = false;
    disk->open_error = 0;
    if (!plugin->open) {
        abd_open_below(&disk->pub, NULL, disk->pub.read_only, on_default_below);
        return;
    }
    loop_set_busy_with(disk->pub.loop, disk->layer->instance.name);
    plugin->open(&disk->pub);
    loop_set_busy_with(disk->pub.loop, NULL);
}

/* What the layers above were told when they opened must hold for a disk that is
 * opened later, too. */
static int check_reopened(struct disk *disk, struct disk *got)
{
    const char *fault = NULL;

    if (!disk->opened)
        return 0;
    if (disk->parallel && !got->parallel)
        fault = "the disk opened below later is not parallel";
    else if (!disk->below && disk->pub.flags & ABD_DISK_LENDS &&
             (!(got->pub.flags & ABD_DISK_LENDS) ||
              got->pub.lend_min > disk->pub.lend_min ||
              got->lend_max < disk->lend_max))
        fault = "the disk opened below later lends less than the one before";
    if (fault) {
        complain(disk, fault);
        return EINVAL;
    }
    return disk->below ? 0 : admission_reopened(disk, got);
}

static void put_below(void *arg);

static void say_opened(struct disk *disk,
                       void (*opened)(struct abd_disk *, struct abd_disk *,
                                      int),
                       struct disk *below, int error)
{
    loop_set_busy_with(disk->pub.loop, disk->layer->instance.name);
    opened(&disk->pub, below ? &below->pub : NULL, error);
    loop_set_busy_with(disk->pub.loop, NULL);
}

static void on_below(struct disk_request *request, struct disk *got, int error)
{
    struct below *below = container_of(request, struct below, request);
    struct disk *disk = below->disk;
    void (*opened)(struct abd_disk *, struct abd_disk *, int) = below->opened;

    below->below = got;
    if (error) {
        list_remove(&below->link);
        free(below);
        say_opened(disk, opened, NULL, error);
        return;
    }
    below->error = check_reopened(disk, got);
    if (below->error) {
        put_below(below);
        return;
    }
    if (!disk->below)
        disk_set_below(disk, got);
    say_opened(disk, opened, got, 0);
}

PUBLIC void abd_open_below(struct abd_disk *pub, const char *export_name,
                           bool read_only,
                           void (*opened)(struct abd_disk *disk,
                                          struct abd_disk *below, int error))
{
    struct disk *disk = disk_of(pub);
    struct below *below = calloc(1, sizeof *below);
    struct layer *layer;

    assert(disk->layer->index + 1 < chain.n);
    layer = chain.layers[disk->layer->index + 1];
    if (!below) {
        opened(pub, NULL, ENOMEM);
        return;
    }
    below->disk = disk;
    below->opened = opened;
    below->request.loop = pub->loop;
    below->request.got = on_below;
    list_append(&disk->belows, &below->link);
    disk_get(layer, export_name ? export_name : disk->name,
             read_only || pub->read_only, pub->client, pub->loop,
             &below->request);
}

PUBLIC void abd_inherit(struct abd_disk *pub, const struct abd_disk *below)
{
    const struct layer *layer = disk_of(pub)->layer;
    uint32_t kept = ~(uint32_t)ABD_DISK_INLINE;

    if (!(layer->filter->flags & ABD_FILTER_PARALLEL))
        kept &= ~(uint32_t)ABD_DISK_PARALLEL;
    if (!(layer->filter->flags & ABD_FILTER_LENDS))
        kept &= ~(uint32_t)ABD_DISK_LENDS;
    pub->canonical_name = below->canonical_name;
    pub->description = below->description;
    pub->size = below->size;
    pub->max_transfer = below->max_transfer;
    pub->max_zero = below->max_zero;
    pub->max_trim = below->max_trim;
    pub->block_min = below->block_min;
    pub->block_preferred = below->block_preferred;
    pub->block_max = below->block_max;
    pub->data_alignment = below->data_alignment;
    pub->ops = below->ops;
    pub->flags = below->flags & kept;
    pub->fua = below->fua;
    pub->max_requests = below->max_requests;
    pub->lend_min = below->lend_min;
}

/* --- closing --- */

static void say_closed(struct disk *disk, void (*closed)(struct abd_disk *))
{
    loop_set_busy_with(disk->pub.loop, disk->layer->instance.name);
    closed(&disk->pub);
    loop_set_busy_with(disk->pub.loop, NULL);
}

static void on_below_put(struct loop_message *message)
{
    struct below *below = container_of(message, struct below, put.message);
    struct disk *disk = below->disk;
    void (*closed)(struct abd_disk *) = below->closed;
    void (*opened)(struct abd_disk *, struct abd_disk *, int) = below->opened;
    int error = below->error;

    list_remove(&below->link);
    free(below);
    if (error)
        say_opened(disk, opened, NULL, error);
    else if (closed)
        say_closed(disk, closed);
    else
        put_belows(disk);
}

/* Its own disk is closed when clients have read what it lent to them.  (A
 * shared one, and so what it has lent, is held by those that it has admitted.)
 */
static void put_below(void *arg)
{
    struct below *below = arg;
    struct disk *disk = below->disk;
    struct lane *lane = &below->below->lanes[worker_of(disk->pub.loop)->index];

    if (disk->below == below->below) {
        admission_closing(below->below);
        disk_set_below(disk, NULL);
    }
    if (!below->below->shared && lane->lent > 0) {
        lane->on_returned = put_below;
        lane->on_returned_arg = below;
        return;
    }
    below->put.loop = disk->pub.loop;
    below->put.message.fn = on_below_put;
    disk_put(below->below, &below->put);
}

PUBLIC void abd_close_below(struct abd_disk *pub, struct abd_disk *below_pub,
                            void (*closed)(struct abd_disk *disk))
{
    struct disk *disk = disk_of(pub);

    list_for_each (link, &disk->belows) {
        struct below *below = container_of(link, struct below, link);

        if (below->below == disk_of(below_pub) && !below->closed) {
            below->closed = closed;
            put_below(below);
            return;
        }
    }
    misused(disk, "abd_close_below() of a disk that it has not open");
}

/* Puts back the disks below, one after the other, then announces the end. */
static void put_belows(struct disk *disk)
{
    struct below *below = list_first(&disk->belows, struct below, link);

    if (below) {
        put_below(below);
    } else if (disk->open_error) {
        disk_table_opened(disk, disk->open_error);
    } else {
        disk_table_closed(disk);
    }
}

static void on_closed(struct loop_message *message)
{
    struct disk *disk = container_of(message, struct disk, message);

    if (disk->layer->plugin->open && disk->layer->filter &&
        !list_is_empty(&disk->belows) && !disk->open_error)
        complain(disk, "abd_closed() while it has a disk open below; closing "
                       "that");
    disk->pub.state = NULL;
    if (disk->background)
        request_unreserve_background(worker_of(disk->pub.loop),
                                     disk->background);
    disk->background = 0;
    put_belows(disk);
}

PUBLIC void abd_closed(struct abd_disk *pub)
{
    struct disk *disk = disk_of(pub);

    disk->message.fn = on_closed;
    loop_send(pub->loop, &disk->message);
}

void close_disk(struct disk *disk)
{
    const struct abd_plugin *plugin = disk->layer->plugin;
    struct lane *lane = &disk->lanes[abd_loop_index(disk->pub.loop)];

    /* What it was to be kicked for has ended. */
    list_remove(&lane->kick_link);

    if (!plugin->close) {
        abd_closed(&disk->pub);
        return;
    }
    loop_set_busy_with(disk->pub.loop, disk->layer->instance.name);
    plugin->close(&disk->pub);
    loop_set_busy_with(disk->pub.loop, NULL);
}
