/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* log - a filter that writes down what clients ask for and what they get.
 *
 * Each loop has a buffer of its own, so nothing is locked.  The first line in
 * an empty buffer starts a timer of no delay; it fires in the loop's next turn
 * and writes all lines of this one at once.  The file is opened for appending,
 * where one write() is never mixed with another, so lines stay whole although
 * several loops write.  Closing a disk visits every loop and empties its
 * buffer: when the last disk is closed, nothing waits any more. */
#include "../common/config.h"
#include "abd-filter.h"
#include "abd-loop.h"

#include "base/cleanup.h"
#include "base/list.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_BUFFER 65536
/* The longest line: a quoted export name and some numbers. */
#define LOG_LINE   8192
#define LOG_QUOTED 4096

/* The filter sees whole requests: it asks for the largest transfer there is,
 * and the server cuts below it.  That costs memory: the server must hold all of
 * a large request's data at once instead of piece by piece, so that with its
 * usual budget only one write of this size is in flight at a time.  Requests up
 * to the disk's own max_transfer cost nothing extra. */
#define LOG_MAX_TRANSFER (UINT64_C(64) << 20)

/* A client, from admit() to leave(); in the list of its loop. */
struct log_client {
    struct list link;
    uint64_t id, transactions;
};

/* What one loop has written but not yet given to the file.  That loop only. */
struct log_buffer {
    struct abd_instance *instance;
    struct abd_timer timer; /* started while there is something */
    struct list clients;    /* the one that spoke last is first */
    time_t second;          /* what date stands for; 0: nothing yet */
    char date[24];
    bool failed; /* the last write did: said once */
    size_t length;
    char text[LOG_BUFFER];
};

/* instance->state; set once before the loops serve anybody. */
struct log {
    char *path; /* owned; NULL: lines go to the server's log */
    bool append;
    int fd;
    unsigned n;
    struct log_buffer **buffers; /* n, one for each loop */
};

/* disk->state; the task is posted to one loop after the other. */
struct log_disk {
    struct abd_disk *below;
    struct abd_task task;
    unsigned next; /* loop to visit */
};

static const char *const log_names[] = {
    [ABD_OP_READ] = "Read",   [ABD_OP_WRITE] = "Write",
    [ABD_OP_ZERO] = "Zero",   [ABD_OP_TRIM] = "Trim",
    [ABD_OP_FLUSH] = "Flush", [ABD_OP_EXTENTS] = "Extents",
    [ABD_OP_CACHE] = "Cache",
};

static int log_create(struct abd_instance *instance)
{
    struct log *log = calloc(1, sizeof *log);

    if (!log)
        return config_no_memory(instance);
    log->fd = -1;
    instance->state = log;
    return 0;
}

static void log_destroy(struct abd_instance *instance)
{
    struct log *log = instance->state;

    if (!log)
        return;
    for (unsigned i = 0; i < log->n; i++)
        free(log->buffers[i]);
    free(log->buffers);
    if (log->fd >= 0)
        close(log->fd);
    free(log->path);
    free(log);
}

static int log_config(struct abd_instance *instance, const char *key,
                      const char *value)
{
    struct log *log = instance->state;

    if (strcmp(key, "logappend") == 0)
        return config_bool(instance, key, value, &log->append);
    if (strcmp(key, "logscript") == 0)
        return config_check(instance, key, value, ENOTSUP,
                            "scripts are not supported, use logfile=FILE");
    free(log->path);
    log->path = NULL;
    return abd_absolute_path(instance, value, &log->path);
}

static int log_ready(struct abd_instance *instance)
{
    struct log *log = instance->state;

    if (!log->path)
        return 0;
    int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY;
    log->fd = open(log->path, flags | (log->append ? 0 : O_TRUNC), 0644);
    /* A pipe that nobody reads must not hold the loop. */
    if (log->fd < 0 || fcntl(log->fd, F_SETFL, O_APPEND | O_NONBLOCK) != 0) {
        int err = errno;
        abd_log(instance, NULL, ABD_ERROR, "logfile=%s: %s", log->path,
                strerrordesc_np(err));
        return err;
    }
    return 0;
}

static int log_start(struct abd_instance *instance)
{
    struct log *log = instance->state;
    unsigned n = abd_loop_count();

    log->buffers = calloc(n, sizeof(struct log_buffer *));
    if (!log->buffers)
        return config_no_memory(instance);
    for (; log->n < n; log->n++) {
        struct log_buffer *buffer = calloc(1, sizeof *buffer);
        if (!buffer)
            return config_no_memory(instance);
        buffer->instance = instance;
        list_init(&buffer->clients);
        log->buffers[log->n] = buffer;
    }
    return 0;
}

/* The buffer of the loop that this runs on. */
static struct log_buffer *log_buffer(const struct abd_instance *instance)
{
    const struct log *log = instance->state;

    return log->buffers[abd_loop_index(abd_loop_current())];
}

/* Writes all that is there.  What cannot be written is dropped: a full disk
 * must not end the service. */
static void log_write_out(struct log_buffer *buffer)
{
    const struct log *log = buffer->instance->state;
    size_t done = 0;
    int err = 0;

    abd_timer_stop(&buffer->timer);
    while (done < buffer->length && !err) {
        ssize_t n = write(log->fd, buffer->text + done, buffer->length - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            err = errno;
    }
    if (err && !buffer->failed)
        abd_log(buffer->instance, NULL, ABD_ERROR,
                "write to %s: %s; lines are lost", log->path,
                strerrordesc_np(err));
    buffer->failed = err != 0;
    buffer->length = 0;
}

static void log_on_timeout(void *arg)
{
    log_write_out(arg);
}

/* YYYY-MM-DD HH:MM:SS of UTC, made once a second. */
static const char *log_date(struct log_buffer *buffer, time_t second)
{
    struct tm tm;

    if (second != buffer->second) {
        gmtime_r(&second, &tm);
        strftime(buffer->date, sizeof buffer->date, "%Y-%m-%d %H:%M:%S", &tm);
        buffer->second = second;
    }
    return buffer->date;
}

/* One line, about a client or (NULL) the server's own request. */
__attribute__((format(printf, 4, 5))) static void log_line(
    struct log_buffer *buffer, const struct abd_disk *disk,
    const struct abd_client *client, const char *format, ...)
{
    const struct log *log = buffer->instance->state;
    char who[40] = "", line[LOG_LINE];
    va_list args;

    if (client)
        snprintf(who, sizeof who, "connection=%" PRIu64 " ", client->id);
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (log->fd < 0) {
        abd_log(buffer->instance, disk, ABD_DEBUG, "%s%s", who, line);
        return;
    }

    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (buffer->length + sizeof who + sizeof line + 40 > LOG_BUFFER)
        log_write_out(buffer);
    if (buffer->length == 0)
        abd_timer_start(&buffer->timer, 0, 0, log_on_timeout, buffer);
    int length =
        snprintf(buffer->text + buffer->length, LOG_BUFFER - buffer->length,
                 "%s.%06ld %s%s\n", log_date(buffer, now.tv_sec),
                 now.tv_nsec / 1000, who, line);
    buffer->length += (size_t)length; /* it fits: see above */
}

static void log_opened(struct abd_disk *disk, struct abd_disk *below, int error)
{
    struct log_disk *state = disk->state;

    if (error) {
        disk->state = NULL;
        free(state);
        abd_opened(disk, error);
        return;
    }
    state->below = below;
    abd_inherit(disk, below);
    disk->max_transfer = LOG_MAX_TRANSFER;
    disk->max_zero = disk->max_trim = 0;
    abd_opened(disk, 0);
}

static void log_open(struct abd_disk *disk)
{
    disk->state = calloc(1, sizeof(struct log_disk));
    if (disk->state)
        abd_open_below(disk, NULL, disk->read_only, log_opened);
    else
        abd_opened(disk, ENOMEM);
}

static void log_closed(struct abd_disk *disk)
{
    free(disk->state);
    disk->state = NULL;
    abd_closed(disk);
}

static void log_close_below(void *arg)
{
    struct abd_disk *disk = arg;
    struct log_disk *state = disk->state;

    abd_close_below(disk, state->below, log_closed);
}

/* Empties the buffer of the loop it runs on, and goes on to the next. */
static void log_visit(void *arg)
{
    struct abd_disk *disk = arg;
    struct log_disk *state = disk->state;

    log_write_out(log_buffer(disk->instance));
    state->next++;
    if (state->next < abd_loop_count())
        abd_post(abd_loop_at(state->next), &state->task, log_visit, disk);
    else
        abd_post(disk->loop, &state->task, log_close_below, disk);
}

static void log_close(struct abd_disk *disk)
{
    struct log_disk *state = disk->state;

    abd_post(abd_loop_at(0), &state->task, log_visit, disk);
}

static struct log_client *log_find(struct log_buffer *buffer, uint64_t id)
{
    list_for_each (link, &buffer->clients) {
        struct log_client *client = container_of(link, struct log_client, link);
        if (client->id == id)
            return client;
    }
    return NULL;
}

static int log_admit(struct abd_disk *disk, const struct abd_client *client)
{
    struct log_buffer *buffer = log_buffer(disk->instance);
    struct log_client *entry = calloc(1, sizeof *entry);
    const char *name = disk->export_name ? disk->export_name : "";
    char quoted[LOG_QUOTED];
    uint32_t ops = disk->ops;
    bool write = ops & 1U << ABD_OP_WRITE && !disk->read_only;

    if (!entry) {
        abd_log(disk->instance, disk, ABD_ERROR, "no memory for a client");
        return ENOMEM;
    }
    entry->id = client->id;
    list_prepend(&buffer->clients, &entry->link);
    text_quote(name, strlen(name), quoted, sizeof quoted);
    log_line(buffer, disk, client,
             "Connect export=%s tls=%d size=0x%" PRIx64
             " minsize=0x%x prefsize=0x%x maxsize=0x%x write=%d flush=%d "
             "rotational=%d trim=%d zero=%d fua=%u extents=%d cache=%d "
             "fast_zero=%d",
             quoted, client->tls, disk->size, disk->block_min,
             disk->block_preferred, disk->block_max, write,
             !!(ops & 1U << ABD_OP_FLUSH),
             !!(disk->flags & ABD_DISK_ROTATIONAL), !!(ops & 1U << ABD_OP_TRIM),
             ops & 1U << ABD_OP_ZERO ? 2 : write, disk->fua,
             !!(ops & 1U << ABD_OP_EXTENTS), ops & 1U << ABD_OP_CACHE ? 2 : 0,
             !!(disk->flags & ABD_DISK_FAST_ZERO));
    return 0;
}

static void log_leave(struct abd_disk *disk, const struct abd_client *client)
{
    struct log_buffer *buffer = log_buffer(disk->instance);
    struct log_client *entry = log_find(buffer, client->id);

    log_line(buffer, disk, client, "Disconnect transactions=%" PRIu64,
             entry ? entry->transactions : 0);
    if (entry)
        list_remove(&entry->link);
    free(entry);
}

static int log_after(struct abd_request *request, int error)
{
    struct log_buffer *buffer = log_buffer(request->disk->instance);
    const char *name = error ? strerrorname_np(error) : NULL;

    if (error)
        log_line(buffer, request->disk, request->client,
                 "...%s id=%" PRIu64 " return=-1 (%s)", log_names[request->op],
                 request->id, name ? name : "unknown error");
    else
        log_line(buffer, request->disk, request->client,
                 "...%s id=%" PRIu64 " return=0 (Success)",
                 log_names[request->op], request->id);
    return error;
}

static void log_request(struct log_buffer *buffer,
                        const struct abd_request *request)
{
    char flags[48] = "";
    bool fua = request->flags & ABD_REQ_FUA;

    switch (request->op) {
    case ABD_OP_FLUSH:
        log_line(buffer, request->disk, request->client,
                 "Flush id=%" PRIu64 " ...", request->id);
        return;
    case ABD_OP_WRITE:
    case ABD_OP_TRIM:
        snprintf(flags, sizeof flags, " fua=%d", fua);
        break;
    case ABD_OP_ZERO:
        snprintf(flags, sizeof flags, " trim=%d fua=%d fast=%d",
                 !!(request->flags & ABD_REQ_MAY_TRIM), fua,
                 !!(request->flags & ABD_REQ_FAST));
        break;
    case ABD_OP_EXTENTS:
        snprintf(flags, sizeof flags, " req_one=%d",
                 !!(request->flags & ABD_REQ_ONE));
        break;
    }
    log_line(buffer, request->disk, request->client,
             "%s id=%" PRIu64 " offset=0x%" PRIx64 " count=0x%" PRIx64 "%s ...",
             log_names[request->op], request->id, request->offset,
             request->length, flags);
}

static void log_submit(struct abd_request *request)
{
    struct log_disk *state = request->disk->state;
    struct log_buffer *buffer = log_buffer(request->disk->instance);

    if (request->client) {
        struct log_client *entry = log_find(buffer, request->client->id);
        if (entry)
            entry->transactions++;
        if (entry && buffer->clients.next != &entry->link) {
            list_remove(&entry->link);
            list_prepend(&buffer->clients, &entry->link);
        }
    }
    log_request(buffer, request);
    abd_forward(request, state->below, request->offset, log_after);
}

static const struct abd_parameter log_parameters[] = {
    {"logfile", "the file to write to; without, the server's debug log"},
    {"logappend", "yes: keep what the file holds (default no)"},
    {"logscript", "not supported"},
    {NULL},
};

static const struct abd_plugin log_plugin = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_plugin),
    .name = "log",
    .longname = "abdkit log filter",
    .description = "writes down requests and replies",
    .parameters = log_parameters,
    .create = log_create,
    .config = log_config,
    .ready = log_ready,
    .start = log_start,
    .destroy = log_destroy,
    .open = log_open,
    .admit = log_admit,
    .leave = log_leave,
    .submit = log_submit,
    .close = log_close,
};

static const struct abd_filter log_filter = {
    .abi = ABD_ABI,
    .struct_size = sizeof(struct abd_filter),
    .plugin = &log_plugin,
    .flags = ABD_FILTER_PARALLEL | ABD_FILTER_LENDS,
};

__attribute__((visibility("default"))) const struct abd_filter *
abd_filter_entry(void)
{
    return &log_filter;
}
