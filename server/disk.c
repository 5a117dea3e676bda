/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The table of disks: finding, opening, sharing, closing.
 *
 * One lock, held for a few list operations only and never around a plugin's
 * code.  Opening and closing are chains of steps on the disk's own loop. */
#include "server/disk.h"

#include "server/open.h"
#include "server/worker.h"

#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Protects: the lists below, and each disk's fields under "table_lock". */
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list table;
static struct list idle; /* open, unused, the one unused longest first */
static unsigned idle_n;
static uint64_t last_id;

/* At the end. */
static bool closing_all;
static void (*all_closed)(void *arg);
static void *all_closed_arg;
static struct loop_message all_closed_message;

void disks_init(void)
{
    list_init(&table);
    list_init(&idle);
}

static struct disk *new_locked(struct layer *layer, const char *name,
                               bool read_only, struct abd_loop *loop,
                               bool shared)
{
    struct disk *disk = calloc(1, sizeof *disk);

    if (!disk)
        return NULL;
    disk->name = strdup(name);
    disk->lanes = calloc(workers_n, sizeof *disk->lanes);
    if (!disk->name || !disk->lanes) {
        free(disk->name);
        free(disk->lanes);
        free(disk);
        return NULL;
    }
    disk->id = ++last_id;
    disk->layer = layer;
    disk->shared = shared;
    disk->pub.struct_size = sizeof disk->pub;
    disk->pub.instance = &layer->instance;
    disk->pub.loop = loop;
    disk->pub.export_name = disk->name;
    disk->pub.read_only = read_only;
    list_init(&disk->asking);
    list_init(&disk->belows);
    return disk;
}

static void disk_free(struct disk *disk)
{
    free(disk->name);
    free(disk->lanes);
    free(disk);
}

/* The name under which a layer keeps the disk for an export. */
static const char *key_of(const struct layer *layer, const char *name)
{
    return layer->per_name ? name : "";
}

static struct disk *find_locked(const struct layer *layer, const char *name,
                                bool read_only)
{
    const char *key = key_of(layer, name);

    list_for_each (link, &table) {
        struct disk *disk = container_of(link, struct disk, table_link);

        if (disk->shared && disk->layer == layer &&
            disk->pub.read_only == read_only &&
            strcmp(key_of(layer, disk->name), key) == 0)
            return disk;
    }
    return NULL;
}

/* The least busy loop: fewest clients, then fewest disks. */
static struct abd_loop *least_busy_locked(void)
{
    unsigned disks[LOOPS_MAX] = {0};
    unsigned best = 0;
    unsigned best_n = UINT32_MAX;

    list_for_each (link, &table) {
        const struct disk *disk = container_of(link, struct disk, table_link);

        disks[abd_loop_index(disk->pub.loop)]++;
    }
    for (unsigned i = 0; i < workers_n; i++) {
        unsigned clients = atomic_load_explicit(&workers[i].connections_n,
                                                memory_order_relaxed);
        unsigned n = clients + disks[i];

        if (n < best_n) {
            best = i;
            best_n = n;
        }
    }
    return workers[best].loop;
}

/* All disks of one chain live on one loop, since a request passes them on one
 * thread.  So if a lower layer's disk for this export is there already, its
 * loop decides; and if none is, the ones that will be shared are entered in the
 * table now, so that whoever comes at the same time finds the same loop. */
static struct abd_loop *home_locked(const struct layer *from, const char *name,
                                    bool read_only,
                                    struct abd_loop *client_loop)
{
    bool shared = false;

    for (unsigned i = from->index; i < chain.n; i++) {
        struct layer *layer = chain.layers[i];
        struct disk *disk =
            layer->per_client ? NULL : find_locked(layer, name, read_only);

        if (disk)
            return disk->pub.loop;
        shared |= !layer->per_client;
    }
    return shared ? least_busy_locked() : client_loop;
}

static int reserve_lower_locked(const struct layer *from, const char *name,
                                bool read_only, struct abd_loop *loop)
{
    for (unsigned i = from->index + 1; i < chain.n; i++) {
        struct layer *layer = chain.layers[i];
        struct disk *disk;

        if (layer->per_client || find_locked(layer, name, read_only))
            continue;
        disk = new_locked(layer, name, read_only, loop, true);
        if (!disk)
            return ENOMEM;
        list_append(&table, &disk->table_link);
    }
    return 0;
}

static void on_answer(struct loop_message *message)
{
    struct disk_request *request =
        container_of(message, struct disk_request, message);

    request->got(request, request->disk, request->error);
}

static void answer(struct disk_request *request, struct disk *disk, int error)
{
    request->disk = disk;
    request->error = error;
    request->message.fn = on_answer;
    loop_send(request->loop, &request->message);
}

static void on_open(struct loop_message *message)
{
    open_disk(container_of(message, struct disk, message));
}

static void begin_open_locked(struct disk *disk)
{
    disk->state = DISK_OPENING;
    disk->message.fn = on_open;
    loop_send(disk->pub.loop, &disk->message);
}

/* A disk to be used by the request, in any state but missing; NULL: no memory.
 */
static struct disk *obtain_locked(struct layer *layer, const char *name,
                                  bool read_only,
                                  const struct abd_client *client,
                                  struct abd_loop *loop,
                                  struct abd_loop *client_loop)
{
    struct disk *disk =
        layer->per_client ? NULL : find_locked(layer, name, read_only);

    if (disk)
        return disk;
    if (!loop) {
        loop = home_locked(layer, name, read_only, client_loop);
        if (reserve_lower_locked(layer, name, read_only, loop))
            return NULL;
    }
    disk = new_locked(layer, name, read_only, loop, !layer->per_client);
    if (!disk)
        return NULL;
    if (layer->per_client)
        disk->pub.client = client;
    list_append(&table, &disk->table_link);
    return disk;
}

void disk_get(struct layer *layer, const char *name, bool read_only,
              const struct abd_client *client, struct abd_loop *loop,
              struct disk_request *request)
{
    struct disk *disk;
    int err = 0;

    pthread_mutex_lock(&table_lock);
    disk = obtain_locked(layer, name, read_only, client, loop, request->loop);
    if (!disk) {
        err = ENOMEM;
    } else if (loop && disk->pub.loop != loop && !disk->parallel) {
        err = EXDEV;
        disk = NULL;
    } else {
        disk->users++;
        if (list_is_linked(&disk->idle_link)) {
            list_remove(&disk->idle_link);
            idle_n--;
        }
        if (disk->state == DISK_OPEN) {
            answer(request, disk, 0);
        } else {
            list_append(&disk->asking, &request->link);
            if (disk->state == DISK_NEW)
                begin_open_locked(disk);
        }
    }
    pthread_mutex_unlock(&table_lock);
    if (err) {
        if (err == EXDEV)
            log_write(ABD_ERROR, layer->instance.name,
                      "export \"%s\" is in use on another loop; start the "
                      "server with --loops=1 for this chain of filters",
                      name);
        answer(request, NULL, err);
    }
}

/* Tells all who wait, one by one; called without the lock's being needed by
 * them, since their answers are messages. */
static void answer_all_locked(struct disk *disk, int error)
{
    struct list *link;

    while ((link = list_take_first(&disk->asking))) {
        if (error)
            disk->users--;
        answer(container_of(link, struct disk_request, link),
               error ? NULL : disk, error);
    }
}

/* Is somebody above using (or opening) what this would be the lower layer of?
 */
static bool is_wanted_locked(const struct disk *lower)
{
    const char *key = key_of(lower->layer, lower->name);

    list_for_each (link, &table) {
        const struct disk *disk = container_of(link, struct disk, table_link);

        if (disk->layer->index < lower->layer->index &&
            disk->state != DISK_NEW &&
            strcmp(key_of(lower->layer, disk->name), key) == 0)
            return true;
    }
    return false;
}

/* Disks that were entered for a layer above which then did not open them. */
static void drop_unwanted_locked(void)
{
    list_for_each_safe (link, &table) {
        struct disk *disk = container_of(link, struct disk, table_link);

        if (disk->state == DISK_NEW && disk->users == 0 &&
            !is_wanted_locked(disk)) {
            list_remove(&disk->table_link);
            disk_free(disk);
        }
    }
}

void disk_table_opened(struct disk *disk, int error)
{
    pthread_mutex_lock(&table_lock);
    answer_all_locked(disk, error);
    if (error) {
        list_remove(&disk->table_link);
        drop_unwanted_locked();
    } else {
        disk->state = DISK_OPEN;
    }
    pthread_mutex_unlock(&table_lock);
    if (error)
        disk_free(disk);
}

static void on_close(struct loop_message *message)
{
    close_disk(container_of(message, struct disk, message));
}

static void begin_close_locked(struct disk *disk)
{
    disk->state = DISK_CLOSING;
    disk->message.fn = on_close;
    loop_send(disk->pub.loop, &disk->message);
}

/* At the end: a layer at a time, from the outermost, since closing one puts
 * back what is below it. */
static void close_next_locked(void)
{
    list_for_each_safe (link, &table) {
        struct disk *disk = container_of(link, struct disk, table_link);

        if (disk->state == DISK_NEW && disk->users == 0) {
            list_remove(&disk->table_link);
            disk_free(disk);
        } else if (disk->state == DISK_OPEN && disk->users == 0 &&
                   disk->pins == 0) {
            begin_close_locked(disk);
        }
    }
    if (list_is_empty(&table) && all_closed) {
        void (*done)(void *) = all_closed;

        all_closed = NULL;
        done(all_closed_arg);
    }
}

void disk_table_closed(struct disk *disk)
{
    struct disk_put *gone = disk->gone;
    bool ended = true;

    pthread_mutex_lock(&table_lock);
    if (list_is_empty(&disk->asking)) {
        list_remove(&disk->table_link);
    } else {
        ended = false; /* asked for meanwhile: open it again */
        begin_open_locked(disk);
    }
    if (ended) {
        disk_free(disk);
        drop_unwanted_locked();
    }
    if (closing_all)
        close_next_locked();
    pthread_mutex_unlock(&table_lock);
    if (gone)
        loop_send(gone->loop, &gone->message);
}

/* Nobody uses it any more. */
static void retire_locked(struct disk *disk)
{
    if (!disk->shared || closing_all) {
        begin_close_locked(disk);
        return;
    }
    list_append(&idle, &disk->idle_link);
    if (++idle_n > LIMIT_IDLE_DISKS) {
        struct list *oldest = list_take_first(&idle);

        idle_n--;
        begin_close_locked(container_of(oldest, struct disk, idle_link));
    }
}

void disk_put(struct disk *disk, struct disk_put *gone)
{
    bool own = !disk->shared;

    pthread_mutex_lock(&table_lock);
    assert(disk->users > 0 && disk->state == DISK_OPEN);
    assert(!own || disk->pins == 0);
    if (own)
        disk->gone = gone;
    if (--disk->users == 0 && disk->pins == 0)
        retire_locked(disk);
    pthread_mutex_unlock(&table_lock);
    if (!own && gone)
        loop_send(gone->loop, &gone->message);
}

void disk_pin(struct disk *disk)
{
    pthread_mutex_lock(&table_lock);
    disk->pins++;
    pthread_mutex_unlock(&table_lock);
}

void disk_unpin(struct disk *disk)
{
    pthread_mutex_lock(&table_lock);
    assert(disk->pins > 0);
    if (--disk->pins == 0 && disk->users == 0)
        retire_locked(disk);
    pthread_mutex_unlock(&table_lock);
}

int disk_pin_below(struct disk *disk, struct disk **ret)
{
    int err;

    pthread_mutex_lock(&table_lock);
    *ret = disk->below;
    if (disk->below)
        disk->below->pins++;
    err = disk->had_below && !disk->below ? EBUSY : 0;
    pthread_mutex_unlock(&table_lock);
    return err;
}

void disk_set_below(struct disk *disk, struct disk *below)
{
    pthread_mutex_lock(&table_lock);
    disk->below = below;
    disk->had_below |= below != NULL;
    pthread_mutex_unlock(&table_lock);
}

static void on_close_all(struct loop_message *message)
{
    (void)message;
    pthread_mutex_lock(&table_lock);
    closing_all = true;
    close_next_locked();
    pthread_mutex_unlock(&table_lock);
}

void disks_close_all(void (*done)(void *arg), void *arg)
{
    all_closed = done;
    all_closed_arg = arg;
    all_closed_message.fn = on_close_all;
    loop_send(workers[0].loop, &all_closed_message);
}

void disks_for_each(void (*fn)(struct disk *disk, void *arg), void *arg)
{
    pthread_mutex_lock(&table_lock);
    list_for_each (link, &table)
        fn(container_of(link, struct disk, table_link), arg);
    pthread_mutex_unlock(&table_lock);
}
