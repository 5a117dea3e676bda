/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* One filter on several real loops at once, for ThreadSanitizer and for what
 * only a real clock can show.
 *
 *     filter_loops_NAME LOOPS [key=value ...]
 *
 * Every loop admits a client, submits a burst of requests and lets the client
 * leave when all have ended; then the disk is closed.  The disk below answers
 * in the loop's next turn.  What must be true of the filter is checked by its
 * name.  A parallel disk's threads touch only atomics of the struct run. */
#include "abd-filter.h"
#include "abd-loop.h"

#include "loop/loop.h"

#include <assert.h>
#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PUBLIC   __attribute__((visibility("default")))
#define LOOPS    8
#define REQUESTS 1000 /* of each loop */

struct burst_request {
    struct abd_request pub;
    int (*after)(struct abd_request *request, int error);
    struct abd_task task;
    int error;
    uint64_t started_ns;
    char scratch[256];
};

/* What one loop does. */
struct burst {
    struct abd_client client;
    struct abd_task task;
    bool admitted;
    unsigned left, failed;
    uint64_t shortest_ns; /* of those that are not a FLUSH */
    struct burst_request requests[REQUESTS];
};

static struct {
    const struct abd_filter *filter;
    const struct abd_plugin *plugin;
    struct abd_instance instance;
    struct abd_disk disk, below;
    struct burst *bursts[LOOPS];
    unsigned loops;
    sem_t done;
    atomic_uint inside, most_inside, refused, shutdowns;
} run;

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static struct burst *own_burst(void)
{
    return run.bursts[abd_loop_index(abd_loop_current())];
}

static void burst_end(struct burst *burst)
{
    if (burst->admitted) {
        atomic_fetch_sub(&run.inside, 1);
        if (run.plugin->leave)
            run.plugin->leave(&run.disk, &burst->client);
    }
    sem_post(&run.done);
}

static void on_ended(void *arg)
{
    struct burst_request *request = arg;
    struct burst *burst = own_burst();

    request->pub.disk = &run.disk;
    if (request->after)
        request->error = request->after(&request->pub, request->error);
    uint64_t ns = now_ns() - request->started_ns;
    if (request->pub.op != ABD_OP_FLUSH && ns < burst->shortest_ns)
        burst->shortest_ns = ns;
    burst->failed += request->error != 0;
    if (--burst->left == 0)
        burst_end(burst);
}

static void end(struct abd_request *pub, int error)
{
    struct burst_request *request = (struct burst_request *)pub;

    request->error = error;
    abd_post(abd_loop_current(), &request->task, on_ended, request);
}

PUBLIC void abd_complete(struct abd_request *request, int error)
{
    end(request, error);
}

PUBLIC void abd_fail(struct abd_request *request, int error, uint64_t at,
                     const char *format, ...)
{
    (void)at, (void)format;
    end(request, error);
}

PUBLIC void abd_forward(struct abd_request *request, struct abd_disk *below,
                        uint64_t offset,
                        int (*after)(struct abd_request *request, int error))
{
    assert(below == &run.below && offset == request->offset);
    ((struct burst_request *)request)->after = after;
    end(request, 0);
}

/* No filter makes a child of what is submitted here. */
PUBLIC struct abd_request *abd_child(
    struct abd_request *parent, struct abd_disk *below, const struct abd_io *io,
    void (*ended)(struct abd_request *child, int error, void *arg), void *arg)
{
    (void)parent, (void)below, (void)io, (void)ended, (void)arg;
    abort();
}

PUBLIC void abd_complete_as(struct abd_request *request,
                            struct abd_request *child)
{
    (void)request, (void)child;
    abort();
}

PUBLIC bool abd_cancelled(const struct abd_request *request)
{
    (void)request;
    return false;
}

PUBLIC void abd_open_below(struct abd_disk *disk, const char *export_name,
                           bool read_only,
                           void (*opened)(struct abd_disk *disk,
                                          struct abd_disk *below, int error))
{
    (void)export_name;
    run.below.read_only = read_only;
    opened(disk, &run.below, 0);
}

PUBLIC void abd_inherit(struct abd_disk *disk, const struct abd_disk *below)
{
    disk->size = below->size;
    disk->ops = below->ops;
    disk->flags = below->flags;
    disk->fua = below->fua;
}

PUBLIC void abd_opened(struct abd_disk *disk, int error)
{
    (void)disk;
    assert(error == 0);
    sem_post(&run.done);
}

PUBLIC void abd_close_below(struct abd_disk *disk, struct abd_disk *below,
                            void (*closed)(struct abd_disk *disk))
{
    assert(below == &run.below);
    closed(disk);
}

PUBLIC void abd_closed(struct abd_disk *disk)
{
    (void)disk;
    sem_post(&run.done);
}

PUBLIC void abd_shutdown(void)
{
    atomic_fetch_add(&run.shutdowns, 1);
}

static void submit_all(struct burst *burst)
{
    static const uint32_t ops[] = {ABD_OP_READ, ABD_OP_FLUSH, ABD_OP_EXTENTS,
                                   ABD_OP_CACHE};

    burst->left = REQUESTS;
    for (unsigned i = 0; i < REQUESTS; i++) {
        struct burst_request *request = &burst->requests[i];
        bool flush = ops[i % 4] == ABD_OP_FLUSH;

        request->started_ns = now_ns();
        request->pub = (struct abd_request){
            .disk = &run.disk,
            .client = &burst->client,
            .id = burst->client.id * REQUESTS + i,
            .op = ops[i % 4],
            .offset = flush ? 0 : UINT64_C(4096) * i,
            .length = flush ? 0 : 4096,
            .scratch = request->scratch,
        };
        if (run.plugin->submit)
            run.plugin->submit(&request->pub);
        else
            end(&request->pub, 0);
    }
}

static void on_burst(void *arg)
{
    struct burst *burst = arg;
    int err =
        run.plugin->admit ? run.plugin->admit(&run.disk, &burst->client) : 0;

    burst->admitted = err == 0;
    if (err) {
        atomic_fetch_add(&run.refused, 1);
        burst_end(burst);
        return;
    }
    unsigned inside = atomic_fetch_add(&run.inside, 1) + 1;
    unsigned most = atomic_load(&run.most_inside);
    while (inside > most &&
           !atomic_compare_exchange_weak(&run.most_inside, &most, inside))
        ;
    submit_all(burst);
}

static void on_open(void *arg)
{
    (void)arg;
    if (run.plugin->open)
        run.plugin->open(&run.disk);
    else
        abd_opened(&run.disk, 0);
}

static void on_close(void *arg)
{
    (void)arg;
    if (run.plugin->close)
        run.plugin->close(&run.disk);
    else
        abd_closed(&run.disk);
}

static void wait_for(unsigned n)
{
    while (n > 0)
        n -= sem_wait(&run.done) == 0;
}

static void configure(char **config)
{
    int err = run.plugin->create ? run.plugin->create(&run.instance) : 0;

    for (; !err && *config; config++) {
        char *value = strchr(*config, '=');
        *value++ = '\0';
        err = run.plugin->config(&run.instance, *config, value);
    }
    if (!err && run.plugin->ready)
        err = run.plugin->ready(&run.instance);
    assert(err == 0);
}

static void require(bool truth, const char *what)
{
    if (truth)
        return;
    fprintf(stderr, "%s: not true: %s\n", run.plugin->name, what);
    abort();
}

/* The file that the filter wrote, the value of the first parameter. */
static char *contents(const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = path ? fopen(path, "r") : NULL;

    assert(path && file && getdelim(&text, &size, '\0', file) > 0);
    fclose(file);
    unlink(path);
    return text;
}

/* A line for each client's coming and going, two for each request, none mixed
 * with another. */
static void check_log(const char *path)
{
    char *text = contents(path);
    unsigned lines = 0;

    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        char *who = strstr(line, " connection=");
        require(who && who - line == 26 && !strstr(who + 1, " connection="),
                "a line is about one thing");
        lines++;
    }
    require(lines == run.loops * (2 * REQUESTS + 2), "all lines are there");
    free(text);
}

static void check_stats(const char *path)
{
    char *text = contents(path), expected[40];

    snprintf(expected, sizeof expected, "total: %u ops, ",
             run.loops * REQUESTS);
    require(strncmp(text, expected, strlen(expected)) == 0,
            "all requests are counted");
    free(text);
}

static void check(uint64_t elapsed_ns, const char *path)
{
    const char *name = run.plugin->name;
    unsigned failed = 0;

    for (unsigned i = 0; i < run.loops; i++)
        failed += run.bursts[i]->failed;
    if (strcmp(name, "delay") == 0) {
        /* rdelay, edelay, cdelay: all but the flushes.  One after the other
         * they would take over a minute. */
        for (unsigned i = 0; i < run.loops; i++)
            require(run.bursts[i]->shortest_ns >= 100000000,
                    "nothing ends before its delay");
        require(elapsed_ns < 20000000000, "requests wait side by side");
    }
    if (strcmp(name, "log") == 0)
        check_log(path);
    if (strcmp(name, "stats") == 0)
        check_stats(path);
    if (strcmp(name, "error") == 0) /* 3 of 4 requests, at 50% */
        require(failed > run.loops * 300 && failed < run.loops * 450,
                "about half of the requests fail");
    else
        require(failed == 0, "no request fails");
    if (strcmp(name, "limit") == 0)
        require(atomic_load(&run.most_inside) == 1, "one client at a time");
    else
        require(atomic_load(&run.refused) == 0, "nobody is refused");
    require(atomic_load(&run.shutdowns) == (strcmp(name, "exitlast") == 0),
            "exitlast, and only it, ends the server once");
}

/* The filter is configured and the loops run. */
static void start(unsigned loops, char **config)
{
    assert(loops >= 1 && loops <= LOOPS);
    run.loops = loops;
    run.filter = abd_filter_entry();
    run.plugin = run.filter->plugin;
    run.instance.name = run.plugin->name;
    sem_init(&run.done, 0, 0);
    assert(loops_create(loops) == 0);
    configure(config);
    assert(loops_start() == 0);
    if (run.plugin->start)
        assert(run.plugin->start(&run.instance) == 0);
    run.below = (struct abd_disk){
        .size = 1 << 30, .ops = 0xfe, .flags = ABD_DISK_PARALLEL};
    run.disk = (struct abd_disk){.struct_size = sizeof run.disk,
                                 .instance = &run.instance,
                                 .loop = abd_loop_at(0),
                                 .export_name = ""};
}

/* All bursts at once; returns how long they took. */
static uint64_t burst_all(void)
{
    uint64_t started = now_ns();

    for (unsigned i = 0; i < run.loops; i++) {
        struct burst *burst = calloc(1, sizeof *burst);

        assert(burst);
        run.bursts[i] = burst;
        burst->client.id = i + 1;
        burst->shortest_ns = UINT64_MAX;
        abd_post(abd_loop_at(i), &burst->task, on_burst, burst);
    }
    wait_for(run.loops);
    return now_ns() - started;
}

int main(int argc, char **argv)
{
    struct abd_task task = {0};

    assert(argc >= 2);
    start((unsigned)(argv[1][0] - '0'), argv + 2);
    abd_post(abd_loop_at(0), &task, on_open, NULL);
    wait_for(1);
    uint64_t elapsed_ns = burst_all();
    abd_post(abd_loop_at(0), &task, on_close, NULL);
    wait_for(1);
    if (run.plugin->destroy)
        run.plugin->destroy(&run.instance);
    loops_stop();
    /* configure() has cut the parameters in two. */
    check(elapsed_ns, argc > 2 ? argv[2] + strlen(argv[2]) + 1 : NULL);
    for (unsigned i = 0; i < run.loops; i++)
        free(run.bursts[i]);
    loops_destroy();
    return 0;
}
