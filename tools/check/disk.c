/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

#include "tools/check/disk.h"

#include "tools/check/options.h"
#include "tools/check/rules.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_REQUESTS 1024

static const char *name_of(const struct disk *disk)
{
    return disk->layer->plugin.name;
}

struct disk *disk_of(const struct abd_disk *pub)
{
    const struct guard_record *record = guard_find(pub, GUARD_DISK);

    if (!record || atomic_load(&record->state) == GUARD_ENDED)
        rules_stop(RULE_DISK_GONE, host_busy_with(), "it uses a disk that %s",
                   record ? "is closed" : "is none");
    return record->object;
}

uint64_t disk_longest(const struct disk *disk, uint32_t op)
{
    uint64_t max = 0;

    if (op == ABD_OP_READ || op == ABD_OP_WRITE)
        max = disk->transfer;
    else if (op == ABD_OP_ZERO)
        max = disk->pub->max_zero;
    else if (op != ABD_OP_FLUSH)
        max = disk->pub->max_trim;
    return max ? max : UINT64_MAX;
}

struct abd_client disk_new_client(void)
{
    static _Atomic uint64_t clients;

    return (struct abd_client){
        .id = atomic_fetch_add(&clients, 1) + 1,
        .address = "unix:abdkit-check",
        .pid = -1,
        .uid = -1,
        .gid = -1,
    };
}

/* --- opening --- */

static void start_open(struct disk *disk);

static void end_disk(struct disk *disk)
{
    atomic_store(&disk->record->state, GUARD_ENDED);
    if (!guard_end(disk->pub, sizeof *disk->pub))
        rules_break(RULE_BOUNDS, name_of(disk),
                    "it wrote in front of a struct abd_disk");
    list_remove(&disk->below_link);
    free(disk->export_name);
    free(disk);
}

static struct disk *create(struct stack *stack, unsigned index,
                           const struct abd_client *client, const char *name,
                           struct abd_loop *loop)
{
    struct disk *disk = calloc(1, sizeof *disk);

    if (!disk || !(disk->export_name = strdup(name)))
        host_die("there is no memory left");
    disk->stack = stack;
    disk->layer = &layers[index];
    disk->layer_index = index;
    disk->client = layer_is_per_client(index) ? client : NULL;
    disk->loop = loop;
    list_init(&disk->belows);
    disk->record = guard_record_new();
    disk->record->object = disk;
    atomic_store(&disk->record->who, name_of(disk));
    atomic_store(&disk->record->state, GUARD_PLUGINS);
    disk->pub = guard_take(disk->record, GUARD_DISK, sizeof *disk->pub,
                           _Alignof(struct abd_disk), 0);
    disk->pub->struct_size = sizeof *disk->pub;
    disk->pub->instance = &stack->instances[index];
    disk->pub->loop = loop;
    disk->pub->client = disk->client;
    disk->pub->export_name = disk->export_name;
    return disk;
}

/* What the kit needs of what the plugin has said. */
static void adopt(struct disk *disk)
{
    const struct abd_disk *pub = disk->pub;
    unsigned n = pub->flags & ABD_DISK_PARALLEL ? abd_loop_count() : 1;

    disk->transfer = pub->max_transfer ? pub->max_transfer : UINT64_C(1) << 20;
    disk->block_min = pub->block_min ? pub->block_min : 1;
    disk->max_requests =
        pub->max_requests ? pub->max_requests : DEFAULT_REQUESTS;
    disk->share = disk->max_requests > n ? disk->max_requests / n : 1;
    for (unsigned i = 0; i < abd_loop_count(); i++) {
        disk->lanes[i].disk = disk;
        disk->lanes[i].worker = host_worker_of(abd_loop_at(i));
        list_init(&disk->lanes[i].waiting);
    }
}

static void on_opened(struct loop_message *message)
{
    struct disk *disk = container_of(message, struct disk, message);

    if (!disk->error)
        adopt(disk);
    disk->on_opened(disk);
}

LOOP_EXPORTED void abd_opened(struct abd_disk *pub, int error)
{
    struct disk *disk = disk_of(pub);
    uint32_t state = DISK_OPENING;

    if (!atomic_compare_exchange_strong(&disk->state, &state, DISK_OPENED))
        rules_stop(RULE_OPEN, name_of(disk),
                   "abd_opened() was called twice for one open()");
    rules_try(RULE_OPEN);
    if (error < 0 || error > 4095)
        rules_break(RULE_OPEN, name_of(disk),
                    "abd_opened() with error %d, which is no errno value",
                    error);
    disk->error = error;
    disk->said = *pub;
    disk->message.fn = on_opened;
    loop_send(disk->loop, &disk->message);
}

/* --- closing --- */

/* state is the plugin's own, and some clear it in close(). */
static void check_constant(struct disk *disk)
{
    disk->said.state = disk->pub->state;
    rules_try(RULE_DISK_CONSTANT);
    if (memcmp(&disk->said, disk->pub, sizeof disk->said) != 0)
        rules_break(RULE_DISK_CONSTANT, name_of(disk),
                    "it changed a disk after abd_opened()");
}

static void on_closed(struct loop_message *message)
{
    struct disk *disk = container_of(message, struct disk, message);

    if (!list_is_empty(&disk->belows))
        rules_stop(RULE_BELOW, name_of(disk),
                   "abd_closed() with a disk below that is still open");
    check_constant(disk);
    disk->on_closed(disk);
}

LOOP_EXPORTED void abd_closed(struct abd_disk *pub)
{
    struct disk *disk = disk_of(pub);
    uint32_t state = DISK_CLOSING;

    if (!atomic_compare_exchange_strong(&disk->state, &state, DISK_CLOSED))
        rules_stop(RULE_CLOSE, name_of(disk), "abd_closed() was called %s",
                   state == DISK_CLOSED ? "twice for one close()"
                                        : "without close()");
    rules_try(RULE_CLOSE);
    rules_try(RULE_DISK_GONE);
    disk->message.fn = on_closed;
    loop_send(disk->loop, &disk->message);
}

/* --- the disk below --- */

static void on_below_opened(struct disk *below)
{
    struct disk *disk = below->above;
    void (*opened)(struct abd_disk *, struct abd_disk *, int) = below->opened;
    int error = below->error;
    struct host_call before;

    if (error)
        end_disk(below);
    before = host_enter(name_of(disk), "opened()");
    opened(disk->pub, error ? NULL : below->pub, error);
    host_leave(before);
}

LOOP_EXPORTED void abd_open_below(struct abd_disk *pub, const char *name,
                                  bool read_only,
                                  void (*opened)(struct abd_disk *,
                                                 struct abd_disk *, int))
{
    struct disk *disk = disk_of(pub);
    struct disk *below;

    if (!layer_is_filter(disk->layer_index))
        rules_stop(RULE_BELOW, name_of(disk),
                   "abd_open_below() by what is no filter");
    if (!loop_is_current(disk->loop))
        rules_stop(RULE_BELOW, name_of(disk),
                   "abd_open_below() is not called on the disk's loop");
    rules_try(RULE_BELOW);
    below = create(disk->stack, disk->layer_index + 1, pub->client,
                   name ? name : disk->export_name, disk->loop);
    below->above = disk;
    below->opened = opened;
    below->on_opened = on_below_opened;
    below->pub->read_only = read_only;
    list_append(&disk->belows, &below->below_link);
    start_open(below);
}

static void on_below_closed(struct disk *below)
{
    struct disk *disk = below->above;
    void (*closed)(struct abd_disk *) = below->closed;
    struct host_call before;

    end_disk(below);
    before = host_enter(name_of(disk), "closed()");
    closed(disk->pub);
    host_leave(before);
}

static void start_close(struct disk *disk);

LOOP_EXPORTED void abd_close_below(struct abd_disk *pub, struct abd_disk *under,
                                   void (*closed)(struct abd_disk *))
{
    struct disk *disk = disk_of(pub);
    struct disk *below = disk_of(under);
    const struct lane *lane = &below->lanes[abd_loop_index(disk->loop)];

    if (below->above != disk || !loop_is_current(disk->loop))
        rules_stop(RULE_BELOW, name_of(disk),
                   "abd_close_below() of a disk that is not its own, or not "
                   "on its loop");
    if (lane->in_flight_n || !list_is_empty(&lane->waiting))
        rules_stop(RULE_BELOW, name_of(disk),
                   "abd_close_below() with requests in flight");
    below->closed = closed;
    below->on_closed = on_below_closed;
    start_close(below);
}

LOOP_EXPORTED void abd_inherit(struct abd_disk *disk,
                               const struct abd_disk *below)
{
    const struct abd_filter *filter = &disk_of(disk)->layer->filter;

    disk->canonical_name = below->canonical_name;
    disk->description = below->description;
    disk->size = below->size;
    disk->max_transfer = below->max_transfer;
    disk->max_zero = below->max_zero;
    disk->max_trim = below->max_trim;
    disk->block_min = below->block_min;
    disk->block_preferred = below->block_preferred;
    disk->block_max = below->block_max;
    disk->data_alignment = below->data_alignment;
    disk->ops = below->ops;
    disk->flags = below->flags & ~(uint32_t)ABD_DISK_INLINE;
    if (!(filter->flags & ABD_FILTER_PARALLEL))
        disk->flags &= ~(uint32_t)ABD_DISK_PARALLEL;
    if (!(filter->flags & ABD_FILTER_LENDS))
        disk->flags &= ~(uint32_t)ABD_DISK_LENDS;
    /* What 0 means depends on INLINE. */
    if (below->flags & ABD_DISK_INLINE && below->data_alignment == 0)
        disk->data_alignment = 1;
    disk->fua = below->fua;
    disk->max_requests = below->max_requests;
    disk->lend_min = below->lend_min;
}

/* For a filter without open(). */
static void on_default_opened(struct abd_disk *disk, struct abd_disk *below,
                              int error)
{
    if (!error)
        abd_inherit(disk, below);
    abd_opened(disk, error);
}

static void start_open(struct disk *disk)
{
    const struct abd_plugin *plugin = &disk->layer->plugin;
    struct host_call before;

    if (!plugin->open) {
        abd_open_below(disk->pub, NULL, disk->pub->read_only,
                       on_default_opened);
        return;
    }
    before = host_enter(name_of(disk), "open()");
    plugin->open(disk->pub);
    host_leave(before);
}

static void start_close(struct disk *disk)
{
    const struct abd_plugin *plugin = &disk->layer->plugin;
    struct host_call before;
    uint32_t state = DISK_OPENED;

    /* On other loops nothing is left: a load takes one more turn, with its
     * stage KICK, before it says that it has finished. */
    list_remove(&disk->lanes[abd_loop_index(disk->loop)].kick_link);
    if (!atomic_compare_exchange_strong(&disk->state, &state, DISK_CLOSING))
        rules_stop(RULE_CLOSE, name_of(disk),
                   "abd_closed() or abd_close_below() was called too often");
    if (!plugin->open) {
        abd_close_below(disk->pub,
                        list_first(&disk->belows, struct disk, below_link)->pub,
                        abd_closed);
        return;
    }
    before = host_enter(name_of(disk), "close()");
    plugin->close(disk->pub);
    host_leave(before);
}

void disk_kick(struct lane *lane)
{
    const struct abd_plugin *plugin = &lane->disk->layer->plugin;
    struct host_call before = host_enter(plugin->name, "kick()");

    plugin->kick(lane->disk->pub);
    host_leave(before);
}

/* --- from the main thread --- */

static void wake(struct disk *disk)
{
    sem_post(disk->waiter);
}

/* What the plugin should have called and did not. */
static void await(struct disk *disk, enum rule rule, const char *function)
{
    if (host_wait(disk->waiter, options.timeout_ns))
        return;
    rules_stop(rule, name_of(disk), "%s was not called within %" PRIu64 " ms",
               function, options.timeout_ns / 1000000);
}

static void on_open(void *arg)
{
    start_open(arg);
}

static void on_end(void *arg)
{
    end_disk(arg);
}

struct disk *disk_open(struct stack *stack, const struct abd_client *client,
                       const char *export_name, bool read_only, int *ret_error)
{
    static uint64_t turn;
    struct disk *disk =
        create(stack, 0, client, export_name,
               abd_loop_at((unsigned)(turn++ % abd_loop_count())));
    sem_t waiter;

    disk->pub->read_only = read_only;
    disk->on_opened = wake;
    disk->waiter = &waiter;
    sem_init(&waiter, 0, 0);
    host_run(disk->loop, on_open, disk);
    await(disk, RULE_OPEN, "abd_opened()");
    sem_destroy(&waiter);
    *ret_error = disk->error;
    if (!disk->error)
        return disk;
    host_run(disk->loop, on_end, disk);
    return NULL;
}

struct disk *disk_need(struct stack *stack, const struct abd_client *client)
{
    int error;
    struct disk *disk = disk_open(stack, client, "", !options.writes, &error);

    if (!disk)
        rules_stop(RULE_OPEN, stack_name(), "open() ended with error %d (%s)",
                   error, strerrordesc_np(error));
    return disk;
}

static void on_close(void *arg)
{
    start_close(arg);
}

void disk_close(struct disk *disk)
{
    sem_t waiter;

    disk->on_closed = wake;
    disk->waiter = &waiter;
    sem_init(&waiter, 0, 0);
    host_run(disk->loop, on_close, disk);
    await(disk, RULE_CLOSE, "abd_closed()");
    sem_destroy(&waiter);
    host_run(disk->loop, on_end, disk);
}

/* --- clients --- */

struct visit {
    struct disk *disk;
    const struct abd_client *client;
    int error;
};

static void leave(struct disk *disk, const struct abd_client *client)
{
    const struct abd_plugin *plugin = &disk->layer->plugin;
    struct host_call before;

    if (!list_is_empty(&disk->belows))
        leave(list_first(&disk->belows, struct disk, below_link), client);
    if (!plugin->leave)
        return;
    before = host_enter(plugin->name, "leave()");
    plugin->leave(disk->pub, client);
    host_leave(before);
}

static int admit(struct disk *disk, const struct abd_client *client)
{
    const struct abd_plugin *plugin = &disk->layer->plugin;
    struct host_call before = host_enter(plugin->name, "admit()");
    int err = plugin->admit ? plugin->admit(disk->pub, client) : 0;

    host_leave(before);
    if (err < 0 || err > 4095)
        rules_break(RULE_CLIENTS, plugin->name,
                    "admit() returned %d, which is no errno value", err);
    if (err || list_is_empty(&disk->belows))
        return err;
    err = admit(list_first(&disk->belows, struct disk, below_link), client);
    if (err && plugin->leave) {
        before = host_enter(plugin->name, "leave()");
        plugin->leave(disk->pub, client);
        host_leave(before);
    }
    return err;
}

static void on_admit(void *arg)
{
    struct visit *visit = arg;

    visit->error = admit(visit->disk, visit->client);
}

static void on_leave(void *arg)
{
    struct visit *visit = arg;

    leave(visit->disk, visit->client);
}

int disk_admit(struct disk *disk, const struct abd_client *client)
{
    struct visit visit = {disk, client, 0};

    rules_try(RULE_CLIENTS);
    host_run(disk->loop, on_admit, &visit);
    return visit.error;
}

void disk_leave(struct disk *disk, const struct abd_client *client)
{
    struct visit visit = {disk, client, 0};

    host_run(disk->loop, on_leave, &visit);
}

unsigned disk_loops(const struct disk *disk)
{
    unsigned n = abd_loop_count();

    if (!(disk->pub->flags & ABD_DISK_PARALLEL))
        return 1;
    if (n > disk->max_requests)
        n = disk->max_requests;
    list_for_each (link, &disk->belows) {
        unsigned under =
            disk_loops(container_of(link, struct disk, below_link));

        n = under < n ? under : n;
    }
    return n;
}
