/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* See the header.  One queue of deferred calls and one list of timers, both
 * sorted by time; a request keeps a frame for each layer that waits for its
 * end.  One thread. */
#include "filter_host.h"

#include "base/list.h"
#include "base/parse.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEEN_MAX 20000

struct host host;

/* A disk of a layer; layer == n_layers is the test's own. */
struct host_disk {
    struct abd_disk pub;
    unsigned layer;
    struct abd_disk *above; /* NULL: the top one */
    void (*opened)(struct abd_disk *, struct abd_disk *, int);
    void (*closed)(struct abd_disk *);
    int error;                   /* of its open() */
    struct abd_disk *only_below; /* of a layer without open() */
};

struct deferred {
    struct list link;
    unsigned loop;
    void (*fn)(void *arg);
    void *arg;
};

/* What is in a struct abd_timer. */
struct host_timer {
    struct list link;
    uint64_t due_ns, repeat_ns;
    void (*fn)(void *arg);
    void *arg;
    uint64_t loop;
};
static_assert(sizeof(struct host_timer) <= sizeof(struct abd_timer), "size");

static struct {
    const struct abd_filter *filter;
    struct abd_instance instances[HOST_LAYERS];
    unsigned n_layers;
    unsigned loops, loop;
    char loop_places[8]; /* their addresses stand for the loops */
    uint64_t next_id;
    struct list deferred, timers;
    struct host_request *held, **held_end;
    bool closed;
} self;

static struct host_disk *disk_of(struct abd_disk *pub)
{
    return container_of(pub, struct host_disk, pub);
}

static struct host_request *request_of(const struct abd_request *pub)
{
    return container_of((struct abd_request *)pub, struct host_request, pub);
}

static void defer(unsigned loop, void (*fn)(void *arg), void *arg)
{
    struct deferred *item = calloc(1, sizeof *item);

    assert(item);
    item->loop = loop;
    item->fn = fn;
    item->arg = arg;
    list_append(&self.deferred, &item->link);
}

void host_run(void)
{
    struct list *link;
    unsigned before = self.loop;

    while ((link = list_take_first(&self.deferred))) {
        struct deferred *item = container_of(link, struct deferred, link);
        self.loop = item->loop;
        item->fn(item->arg);
        free(item);
    }
    self.loop = before;
}

void host_advance(uint64_t ns)
{
    uint64_t end = host.now_ns + ns;
    unsigned before = self.loop;

    host_run();
    while (!list_is_empty(&self.timers)) {
        struct host_timer *timer =
            container_of(self.timers.next, struct host_timer, link);
        if (timer->due_ns > end)
            break;
        list_remove(&timer->link);
        host.timers--;
        host.now_ns = timer->due_ns;
        self.loop = (unsigned)timer->loop;
        timer->fn(timer->arg);
        host_run();
    }
    host.now_ns = end;
    self.loop = before;
}

/* ---- abd-loop.h */

unsigned abd_loop_count(void)
{
    return self.loops;
}

struct abd_loop *abd_loop_at(unsigned index)
{
    assert(index < self.loops);
    return (struct abd_loop *)&self.loop_places[index];
}

unsigned abd_loop_index(const struct abd_loop *loop)
{
    return (unsigned)((const char *)loop - self.loop_places);
}

struct abd_loop *abd_loop_current(void)
{
    return abd_loop_at(self.loop);
}

uint64_t abd_loop_now_ns(void)
{
    return host.now_ns;
}

void abd_timer_start(struct abd_timer *timer, uint64_t delay_ns,
                     uint64_t repeat_ns, void (*fn)(void *arg), void *arg)
{
    struct host_timer *mine = (struct host_timer *)timer;
    struct list *place = &self.timers;

    assert(!list_is_linked(&mine->link) && repeat_ns == 0);
    mine->due_ns = host.now_ns + delay_ns;
    mine->fn = fn;
    mine->arg = arg;
    mine->loop = self.loop;
    while (place->prev != &self.timers &&
           container_of(place->prev, struct host_timer, link)->due_ns >
               mine->due_ns)
        place = place->prev;
    list_insert_before(place, &mine->link);
    host.timers++;
}

void abd_timer_stop(struct abd_timer *timer)
{
    struct host_timer *mine = (struct host_timer *)timer;

    if (!list_is_linked(&mine->link))
        return;
    assert(mine->loop == self.loop);
    list_remove(&mine->link);
    host.timers--;
}

void abd_post(struct abd_loop *loop, struct abd_task *task,
              void (*fn)(void *arg), void *arg)
{
    (void)task;
    defer(abd_loop_index(loop), fn, arg);
}

void abd_shutdown(void)
{
    host.shutdowns++;
}

int abd_absolute_path(const struct abd_instance *instance, const char *path,
                      char **ret)
{
    if (path[0] == '\0') {
        abd_log(instance, NULL, ABD_ERROR, "an empty path");
        return EINVAL;
    }
    *ret = strdup(path);
    return *ret ? 0 : ENOMEM;
}

void abd_log(const struct abd_instance *instance, const struct abd_disk *disk,
             enum abd_level level, const char *format, ...)
{
    size_t used = strlen(host.log);
    va_list args;

    (void)instance, (void)disk;
    if (used > sizeof host.log - 9000)
        used = 0;
    used += (size_t)sprintf(host.log + used, "%c ", "EWID"[level]);
    va_start(args, format);
    used += (size_t)vsnprintf(host.log + used, 8500, format, args);
    va_end(args);
    memcpy(host.log + used, "\n", 2);
}

/* ---- requests */

static void submit_to(struct host_request *request, struct abd_disk *disk,
                      uint64_t offset);

static void free_scratch(struct host_request *request)
{
    free(request->pub.scratch);
    request->pub.scratch = NULL;
}

/* The disk that has the request has ended it: up to whoever waits for that. */
static void on_completed(void *arg)
{
    struct host_request *request = arg;

    free_scratch(request);
    while (request->frames > 0) {
        unsigned i = --request->frames;
        request->pub.disk = request->frame[i].disk;
        request->pub.offset = request->frame[i].offset;
        request->pub.scratch = request->frame[i].scratch;
        request->error = request->frame[i].after(&request->pub, request->error);
        free_scratch(request);
    }
    request->done = true;
    request->done_ns = host.now_ns;
    if (request->parent) {
        request->ended(&request->pub, request->error, request->arg);
        request->parent->children--;
        host_free(request);
    }
}

static void complete(struct host_request *request, int error)
{
    assert(!request->completed && "second completion");
    assert(request->children <= 1); /* the one that is just ending */
    request->completed = true;
    request->error = error;
    defer(request->loop, on_completed, request);
}

void abd_complete(struct abd_request *request, int error)
{
    complete(request_of(request), error);
}

void abd_fail(struct abd_request *request, int error, uint64_t at,
              const char *format, ...)
{
    struct host_request *own = request_of(request);
    va_list args;

    va_start(args, format);
    vsnprintf(own->text, sizeof own->text, format, args);
    va_end(args);
    own->fail_at = at;
    complete(own, error);
}

void abd_complete_lent(struct abd_request *request,
                       const struct abd_piece *pieces, unsigned n,
                       void (*release)(void *arg), void *arg)
{
    struct host_request *own = request_of(request);

    (void)release, (void)arg;
    own->pieces = pieces;
    own->n_pieces = n;
    complete(own, 0);
}

void abd_complete_as(struct abd_request *request, struct abd_request *child)
{
    struct host_request *from = request_of(child);

    assert(from->done && from->parent == request_of(request));
    complete(request_of(request), from->error);
}

bool abd_cancelled(const struct abd_request *request)
{
    return request_of(request)->cancelled;
}

void abd_forward(struct abd_request *request, struct abd_disk *below,
                 uint64_t offset,
                 int (*after)(struct abd_request *request, int error))
{
    struct host_request *own = request_of(request);

    assert(disk_of(below)->above == request->disk);
    if (after) {
        unsigned i = own->frames++;
        own->frame[i].disk = request->disk;
        own->frame[i].offset = request->offset;
        own->frame[i].scratch = request->scratch;
        own->frame[i].after = after;
        request->scratch = NULL;
    } else {
        free_scratch(own);
    }
    submit_to(own, below, offset);
}

struct abd_request *abd_child(
    struct abd_request *parent, struct abd_disk *below, const struct abd_io *io,
    void (*ended)(struct abd_request *child, int error, void *arg), void *arg)
{
    struct host_request *child = calloc(1, sizeof *child);

    assert(child && parent && disk_of(below)->above == parent->disk);
    child->parent = request_of(parent);
    child->parent->children++;
    assert(child->parent->children <= self.filter->children);
    child->loop = self.loop;
    child->ended = ended;
    child->arg = arg;
    child->pub.id = ++self.next_id;
    child->pub.client = parent->client;
    child->pub.op = io->op;
    child->pub.flags = io->flags;
    child->pub.length = io->length;
    child->pub.data = io->data;
    submit_to(child, below, io->offset);
    return &child->pub;
}

/* The lowest disk. */
static void answer(struct host_request *request)
{
    struct host_seen *seen = &host.seen[host.n_seen++];

    assert(host.n_seen <= SEEN_MAX);
    *seen = (struct host_seen){
        .op = request->pub.op,
        .flags = request->pub.flags,
        .offset = request->pub.offset,
        .length = request->pub.length,
        .at_ns = host.now_ns,
        .data = request->pub.data,
    };
    if (host.hold) {
        request->next = NULL;
        *self.held_end = request;
        self.held_end = &request->next;
    } else if (host.answer == 0 && request->pub.op == ABD_OP_READ &&
               !request->pub.data) {
        abd_complete_lent(&request->pub, host.lend, host.n_lend, NULL, NULL);
    } else {
        abd_complete(&request->pub, host.answer);
    }
}

bool host_answer(int error)
{
    struct host_request *request = self.held;

    if (!request)
        return false;
    self.held = request->next;
    if (!self.held)
        self.held_end = &self.held;
    abd_complete(&request->pub, error);
    return true;
}

static void submit_to(struct host_request *request, struct abd_disk *disk,
                      uint64_t offset)
{
    const struct abd_plugin *plugin = self.filter->plugin;

    request->pub.disk = disk;
    request->pub.offset = offset;
    if (disk_of(disk)->layer == self.n_layers) {
        answer(request);
    } else if (!plugin->submit) {
        submit_to(request, disk_of(disk)->only_below, offset);
    } else {
        assert(plugin->scratch_size <= 256);
        request->pub.scratch =
            calloc(1, plugin->scratch_size + !plugin->scratch_size);
        assert(request->pub.scratch);
        plugin->submit(&request->pub);
    }
}

struct host_request *host_submit(uint32_t op, uint32_t flags, uint64_t offset,
                                 uint64_t length, void *data,
                                 const struct abd_client *client)
{
    struct host_request *request = calloc(1, sizeof *request);

    assert(request);
    request->loop = self.loop;
    request->pub.id = ++self.next_id;
    request->pub.client = client;
    request->pub.op = op;
    request->pub.flags = flags;
    request->pub.length = length;
    request->pub.data = data;
    submit_to(request, host.top, offset);
    return request;
}

void host_cancel(struct host_request *request)
{
    const struct abd_plugin *plugin = self.filter->plugin;

    request->cancelled = true;
    if (!request->completed && plugin->cancel &&
        disk_of(request->pub.disk)->layer < self.n_layers)
        plugin->cancel(&request->pub);
}

void host_free(struct host_request *request)
{
    assert(request->done);
    free(request);
}

/* ---- disks */

/* Declared here because a layer opens the next. */
static void open_disk(unsigned layer, struct abd_disk *above, bool read_only,
                      void (*opened)(struct abd_disk *, struct abd_disk *,
                                     int));

/* Above is told that this disk is open, or why not. */
static void tell_opened(void *arg)
{
    struct host_disk *disk = arg;
    struct abd_disk *pub = disk->error ? NULL : &disk->pub;

    if (disk->above) {
        disk->opened(disk->above, pub, disk->error);
    } else {
        host.open_result = disk->error;
        host.top = pub;
    }
    if (disk->error) {
        host.open_disks--;
        free(disk);
    }
}

void abd_opened(struct abd_disk *disk, int error)
{
    struct host_disk *own = disk_of(disk);

    own->error = error;
    defer(0, tell_opened, own);
}

static void only_below_opened(struct abd_disk *pub, struct abd_disk *below,
                              int error)
{
    if (!error) {
        disk_of(pub)->only_below = below;
        abd_inherit(pub, below);
    }
    abd_opened(pub, error);
}

static void open_disk(unsigned layer, struct abd_disk *above, bool read_only,
                      void (*opened)(struct abd_disk *, struct abd_disk *, int))
{
    struct host_disk *disk = calloc(1, sizeof *disk);

    assert(disk);
    host.open_disks++;
    disk->layer = layer;
    disk->above = above;
    disk->opened = opened;
    if (layer == self.n_layers) {
        disk->pub = host.below;
        disk->pub.read_only = read_only;
        if (read_only)
            host.opened_read_only++;
        else
            host.opened_writable++;
        abd_opened(&disk->pub, host.open_error);
        return;
    }
    disk->pub.struct_size = sizeof disk->pub;
    disk->pub.instance = &self.instances[layer];
    disk->pub.loop = abd_loop_at(0);
    disk->pub.export_name = host.below.export_name;
    disk->pub.read_only = read_only;
    if (self.filter->plugin->open)
        self.filter->plugin->open(&disk->pub);
    else
        open_disk(layer + 1, &disk->pub, read_only, only_below_opened);
}

void abd_open_below(struct abd_disk *disk, const char *export_name,
                    bool read_only,
                    void (*opened)(struct abd_disk *disk,
                                   struct abd_disk *below, int error))
{
    assert(!export_name);
    open_disk(disk_of(disk)->layer + 1, disk, read_only, opened);
}

static void tell_closed(void *arg)
{
    struct host_disk *disk = arg;

    host.open_disks--;
    if (disk->above)
        disk->closed(disk->above);
    else
        self.closed = true;
    free(disk);
}

void abd_closed(struct abd_disk *disk)
{
    defer(0, tell_closed, disk_of(disk));
}

static void close_disk(struct abd_disk *pub, void (*closed)(struct abd_disk *))
{
    struct host_disk *disk = disk_of(pub);

    disk->closed = closed;
    if (disk->layer == self.n_layers)
        abd_closed(pub);
    else if (self.filter->plugin->close)
        self.filter->plugin->close(pub);
    else
        close_disk(disk->only_below, abd_closed);
}

void abd_close_below(struct abd_disk *disk, struct abd_disk *below,
                     void (*closed)(struct abd_disk *disk))
{
    assert(disk_of(below)->above == disk);
    close_disk(below, closed);
}

void abd_inherit(struct abd_disk *disk, const struct abd_disk *below)
{
    struct abd_disk all = *below;

    all.struct_size = disk->struct_size;
    all.instance = disk->instance;
    all.loop = disk->loop;
    all.client = disk->client;
    all.export_name = disk->export_name;
    all.read_only = disk->read_only;
    all.state = disk->state;
    all.flags &= ~(uint32_t)ABD_DISK_INLINE;
    if (!(self.filter->flags & ABD_FILTER_PARALLEL))
        all.flags &= ~(uint32_t)ABD_DISK_PARALLEL;
    if (!(self.filter->flags & ABD_FILTER_LENDS))
        all.flags &= ~(uint32_t)ABD_DISK_LENDS;
    *disk = all;
}

/* ---- the life of the layers */

void host_init(unsigned loops)
{
    static struct host_seen seen[SEEN_MAX];

    memset(&self, 0, sizeof self);
    memset(&host, 0, sizeof host);
    self.filter = abd_filter_entry();
    assert(self.filter->abi == ABD_ABI && self.filter->plugin->abi == ABD_ABI);
    self.loops = loops;
    list_init(&self.deferred);
    list_init(&self.timers);
    self.held_end = &self.held;
    host.seen = seen;
    host.now_ns = 1000000;
    host.below = (struct abd_disk){
        .struct_size = sizeof host.below,
        .export_name = "",
        .size = UINT64_C(1) << 40,
        .block_min = 1,
        .block_preferred = 4096,
        .ops = 0xfe,
        .flags = ABD_DISK_PARALLEL | ABD_DISK_INLINE | ABD_DISK_LENDS,
        .fua = ABD_FUA_NATIVE,
        .max_requests = 16,
    };
}

int host_layer(const char *const *config)
{
    const struct abd_plugin *plugin = self.filter->plugin;
    struct abd_instance *instance = &self.instances[self.n_layers++];

    assert(self.n_layers < HOST_LAYERS);
    instance->name = plugin->name;
    int err = plugin->create ? plugin->create(instance) : 0;
    for (; !err && config && *config; config++) {
        char *key = strdup(*config), *equals = strchr(key, '=');
        const struct abd_parameter *known = plugin->parameters;

        *equals = '\0';
        while (known->name && strcmp(known->name, key) != 0)
            known++;
        err = known->name ? plugin->config(instance, key, equals + 1) : ENOENT;
        free(key);
    }
    return err;
}

int host_start(void)
{
    const struct abd_plugin *plugin = self.filter->plugin;
    int err = 0;

    for (unsigned i = 0; i < self.n_layers && !err; i++)
        if (plugin->ready)
            err = plugin->ready(&self.instances[i]);
    for (unsigned i = 0; i < self.n_layers && !err; i++)
        if (plugin->start)
            err = plugin->start(&self.instances[i]);
    return err;
}

int host_open(void)
{
    host.open_result = ENODATA;
    open_disk(0, NULL, host.below.read_only, NULL);
    host_run();
    return host.open_result;
}

bool host_close(void)
{
    self.closed = false;
    close_disk(host.top, NULL);
    host_run();
    if (self.closed)
        host.top = NULL;
    return self.closed;
}

void host_stop(void)
{
    for (unsigned i = 0; i < self.n_layers; i++)
        if (self.filter->plugin->destroy)
            self.filter->plugin->destroy(&self.instances[i]);
    self.n_layers = 0;
}

void host_enter_loop(unsigned index)
{
    assert(index < self.loops);
    self.loop = index;
}

static void leave_layers(unsigned n, const struct abd_client *client)
{
    while (self.filter->plugin->leave && n-- > 0) {
        struct abd_disk disk = *host.top; /* every layer says the same */
        disk.instance = &self.instances[n];
        self.filter->plugin->leave(&disk, client);
    }
}

int host_admit(const struct abd_client *client)
{
    for (unsigned n = 0; self.filter->plugin->admit && n < self.n_layers; n++) {
        struct abd_disk disk = *host.top;
        disk.instance = &self.instances[n];
        int err = self.filter->plugin->admit(&disk, client);
        if (err) {
            leave_layers(n, client);
            return err;
        }
    }
    return 0;
}

void host_leave(const struct abd_client *client)
{
    leave_layers(self.n_layers, client);
}
