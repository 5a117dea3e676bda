/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The event loop of abd-load.
 *
 * Phases: connect all (blocking), warm up, measure, drain.  When the measured
 * time is over nothing new is issued, and what is in flight is still awaited,
 * so that every request is known to have ended well or badly.  The counters at
 * both ends of the measured time are subtracted.  One thread. */
#include "tests/bench/run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "wire/nbd.h"

#define SECOND      UINT64_C(1000000000)
#define DRAIN_NS    (60 * SECOND)
#define EVENTS      64
#define HEAVY_SIZE  (1024u * 1024)
#define HEAVY_DEPTH 64u

/* Owned by run_measure. */
struct run {
    const struct run_options *options;
    struct workload workload;
    struct pump *pumps;
    uint32_t *interest; /* epoll events of each pump, to change them rarely */
    struct pump_counts *base;     /* counters when measuring began */
    unsigned count, writer, deaf; /* writer, deaf: numbers; count: none */
    int epoll;
    uint64_t start_ns; /* of issuing, for the rate limit */
    uint64_t granted;  /* requests allowed so far */
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static uint64_t own_cpu_ns(void)
{
    struct timespec used;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * SECOND + (uint64_t)used.tv_nsec;
}

static struct pump_profile profile_of(const struct run *run, unsigned number)
{
    struct pump_profile profile = run->options->profile;

    if (number == run->writer) {
        profile.op = PUMP_WRITE;
        profile.size = HEAVY_SIZE;
        profile.depth = HEAVY_DEPTH;
    }
    profile.deaf = number == run->deaf;
    return profile;
}

/* Says why the server cannot do what is to be measured; NULL: it can. */
static const char *unfit(const struct session *session,
                         const struct pump_profile *profile)
{
    bool writes = profile->op != PUMP_READ && profile->op != PUMP_FLUSH;

    if (session->size < profile->size)
        return "the export is smaller than one request";
    if (writes && (session->flags & NBD_FLAG_READ_ONLY))
        return "the export is read-only";
    if (profile->op == PUMP_TRIM && !(session->flags & NBD_FLAG_SEND_TRIM))
        return "the server does not offer TRIM";
    if (profile->op == PUMP_ZERO &&
        !(session->flags & NBD_FLAG_SEND_WRITE_ZEROES))
        return "the server does not offer WRITE_ZEROES";
    if (profile->op == PUMP_FLUSH && !(session->flags & NBD_FLAG_SEND_FLUSH))
        return "the server does not offer FLUSH";
    return NULL;
}

static int open_pump(struct run *run, unsigned number)
{
    const struct run_options *options = run->options;
    struct pump_profile profile = profile_of(run, number);
    struct session session;
    const char *why;

    int err = target_connect(&options->target, options->style, &session, &why);
    if (err) {
        fprintf(stderr, "abd-load: connection %u: %s: %s\n", number + 1, why,
                strerrordesc_np(err));
        return err;
    }
    why = unfit(&session, &profile);
    if (why) {
        fprintf(stderr, "abd-load: %s\n", why);
        close(session.fd);
        return EINVAL;
    }
    int bytes = (int)options->send_buffer;
    if (bytes > 0)
        setsockopt(session.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    err = pump_init(&run->pumps[number], &run->workload, &profile, &session,
                    number);
    if (err) {
        fprintf(stderr, "abd-load: connection %u: %s\n", number + 1,
                strerrordesc_np(err));
        return err;
    }
    run->count = number + 1;
    run->interest[number] = profile.deaf ? 0 : EPOLLIN;
    struct epoll_event event = {.events = run->interest[number],
                                .data.u32 = number};
    return epoll_ctl(run->epoll, EPOLL_CTL_ADD, session.fd, &event) < 0 ? errno
                                                                        : 0;
}

static int prepare_workload(struct run *run)
{
    const struct run_options *options = run->options;
    struct workload *workload = &run->workload;
    unsigned size = options->profile.size;

    workload->verify = options->verify;
    workload->sequential = options->sequential;
    workload->seed = options->seed;
    workload->max_size =
        options->heavy_writer && size < HEAVY_SIZE ? HEAVY_SIZE : size;
    workload->receive_buffer = malloc(PUMP_ROOM + PUMP_RECEIVE);
    workload->payload = malloc(workload->max_size);
    if (!workload->receive_buffer || !workload->payload)
        return ENOMEM;
    /* Not zeroes: a server may treat those specially. */
    memset(workload->receive_buffer, 0, PUMP_ROOM + PUMP_RECEIVE);
    memset(workload->payload, 0x5a, workload->max_size);
    return 0;
}

/* Mixed verifying needs to know which blocks hold data: the disk's size is
 * known after the first connection. */
static int prepare_written(struct run *run)
{
    const struct run_options *options = run->options;

    if (!options->verify || options->profile.op != PUMP_MIXED)
        return 0;
    run->workload.written =
        calloc(run->pumps[0].session.size / options->profile.size, 1);
    return run->workload.written ? 0 : ENOMEM;
}

static void run_finish(struct run *run)
{
    for (unsigned i = 0; i < run->count; i++)
        pump_finish(&run->pumps[i]);
    free(run->pumps);
    free(run->interest);
    free(run->base);
    free(run->workload.receive_buffer);
    free(run->workload.payload);
    free(run->workload.written);
    if (run->epoll >= 0)
        close(run->epoll);
}

/* Room for the descriptors; a failure shows when they are opened. */
static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int run_init(struct run *run, const struct run_options *options,
                    unsigned connections)
{
    *run = (struct run){.options = options, .epoll = -1};
    /* The first one is an ordinary one, whatever else there is. */
    run->writer = options->heavy_writer ? connections - 1 : connections;
    run->deaf =
        options->deaf ? connections - 1 - options->heavy_writer : connections;
    raise_file_limit();
    run->epoll = epoll_create1(EPOLL_CLOEXEC);
    run->pumps = calloc(connections, sizeof *run->pumps);
    run->interest = calloc(connections, sizeof *run->interest);
    run->base = calloc(connections, sizeof *run->base);
    if (run->epoll < 0 || !run->pumps || !run->interest || !run->base)
        return ENOMEM;
    return prepare_workload(run);
}

static int connect_all(struct run *run, unsigned connections)
{
    int err = 0;

    for (unsigned i = 0; !err && i < connections; i++) {
        err = open_pump(run, i);
        if (!err && i == 0)
            err = prepare_written(run);
    }
    return err;
}

/* Asks epoll for room in the socket only while that is waited for. */
static void update_interest(struct run *run, struct pump *pump)
{
    uint32_t wanted = (pump->profile.deaf ? 0 : EPOLLIN) |
                      (pump_is_blocked(pump) ? EPOLLOUT : 0);

    if (wanted == run->interest[pump->number])
        return;
    struct epoll_event event = {.events = wanted, .data.u32 = pump->number};
    epoll_ctl(run->epoll, EPOLL_CTL_MOD, pump->session.fd, &event);
    run->interest[pump->number] = wanted;
}

static int serve_pump(struct run *run, struct pump *pump, uint32_t events)
{
    const char *why = "send";
    int err = 0;

    if (events & EPOLLIN)
        err = pump_receive(pump, &why);
    else if (events & (EPOLLHUP | EPOLLERR))
        err = ECONNRESET;
    if (!err) {
        why = "send";
        err = pump_send(pump);
    }
    if (!err) {
        update_interest(run, pump);
        return 0;
    }
    if (pump->profile.deaf && err != EPROTO) {
        /* A server may drop who never reads; nothing more to see here. */
        epoll_ctl(run->epoll, EPOLL_CTL_DEL, pump->session.fd, NULL);
        pump->stopped = true;
        return 0;
    }
    fprintf(stderr, "abd-load: connection %u: %s: %s\n", pump->number + 1, why,
            strerrordesc_np(err));
    return err;
}

/* With a rate limit: gives out what time has earned; returns when to look
 * again, UINT64_MAX: when something happens. */
static uint64_t grant(struct run *run)
{
    uint64_t rate = run->options->rate_limit;
    struct workload *workload = &run->workload;

    if (rate == 0 || run->pumps[0].stopped)
        return UINT64_MAX;
    uint64_t earned = (uint64_t)((double)(workload->now_ns - run->start_ns) *
                                 (double)rate / (double)SECOND);
    if (run->options->count && earned > run->options->count)
        earned = run->options->count;
    if (earned > run->granted) {
        workload->budget += earned - run->granted;
        run->granted = earned;
    }
    return workload->now_ns + SECOND / rate;
}

/* Those with nothing in flight get no event, so a new grant needs a push. */
static int push_all(struct run *run)
{
    int err = 0;

    for (unsigned i = 0; !err && i < run->count; i++)
        err = serve_pump(run, &run->pumps[i], 0);
    return err;
}

static int turn(struct run *run, uint64_t deadline)
{
    struct epoll_event events[EVENTS];
    struct workload *workload = &run->workload;
    uint64_t wake = grant(run);
    int err = 0;

    if (run->options->rate_limit && workload->budget > 0)
        err = push_all(run);
    if (wake > deadline)
        wake = deadline;
    uint64_t wait = wake > workload->now_ns ? wake - workload->now_ns : 0;
    struct timespec timeout = {(time_t)(wait / SECOND), (long)(wait % SECOND)};
    int n = err ? 0 : epoll_pwait2(run->epoll, events, EVENTS, &timeout, NULL);
    if (n < 0 && errno != EINTR)
        return errno;
    for (int i = 0; !err && i < n; i++) {
        workload->now_ns = now_ns();
        err =
            serve_pump(run, &run->pumps[events[i].data.u32], events[i].events);
    }
    workload->now_ns = now_ns();
    return err;
}

/* All that has been issued is answered (but for who never reads). */
static bool is_idle(const struct run *run)
{
    for (unsigned i = 0; i < run->count; i++) {
        const struct pump *pump = &run->pumps[i];
        if (!pump->profile.deaf && pump_in_flight(pump) > 0)
            return false;
    }
    return true;
}

static int run_until(struct run *run, uint64_t deadline)
{
    bool counted = run->options->count > 0;
    int err = 0;

    while (!err && run->workload.now_ns < deadline) {
        if (counted && run->workload.budget == 0 &&
            (!run->options->rate_limit ||
             run->granted == run->options->count) &&
            is_idle(run))
            break;
        err = turn(run, deadline);
    }
    return err;
}

static int drain(struct run *run)
{
    uint64_t deadline = run->workload.now_ns + DRAIN_NS;
    int err = 0;

    for (unsigned i = 0; i < run->count; i++)
        run->pumps[i].stopped = true;
    while (!err && !is_idle(run) && run->workload.now_ns < deadline)
        err = turn(run, deadline);
    if (!err && !is_idle(run)) {
        fprintf(stderr, "abd-load: requests were not answered in %u s\n",
                (unsigned)(DRAIN_NS / SECOND));
        err = ETIMEDOUT;
    }
    return err;
}

static int read_server(const struct run_options *options, struct procstat *ret)
{
    int err = options->server ? procstat_read(ret, options->server) : 0;

    if (err)
        fprintf(stderr, "abd-load: process %d: %s\n", (int)options->server,
                strerrordesc_np(err));
    return err;
}

static void subtract(struct pump_counts *from, const struct pump_counts *base)
{
    from->issued -= base->issued;
    from->completed -= base->completed;
    from->errors -= base->errors;
    from->mismatches -= base->mismatches;
    from->bytes -= base->bytes;
}

static void add(struct pump_counts *to, const struct pump_counts *more)
{
    to->issued += more->issued;
    to->completed += more->completed;
    to->errors += more->errors;
    to->mismatches += more->mismatches;
    to->bytes += more->bytes;
}

static void collect(const struct run *run, struct run_result *result)
{
    result->slowest = UINT64_MAX;
    for (unsigned i = 0; i < run->count; i++) {
        struct pump_counts counts = run->pumps[i].counts;
        subtract(&counts, &run->base[i]);
        if (i == run->writer) {
            result->writer = counts;
        } else if (i != run->deaf) {
            add(&result->all, &counts);
            if (counts.completed < result->slowest)
                result->slowest = counts.completed;
            if (counts.completed > result->fastest)
                result->fastest = counts.completed;
        }
    }
}

/* Errors and mismatches of draining and warming up count, too. */
static void collect_mistakes(const struct run *run, struct run_result *result)
{
    result->all.errors = result->all.mismatches = 0;
    for (unsigned i = 0; i < run->count; i++) {
        result->all.errors += run->pumps[i].counts.errors;
        result->all.mismatches += run->pumps[i].counts.mismatches;
    }
}

static int measure_load(struct run *run, struct run_result *result)
{
    const struct run_options *options = run->options;
    struct workload *workload = &run->workload;

    workload->budget = options->rate_limit ? 0
                       : options->count    ? options->count
                                           : UINT64_MAX;
    workload->latency = &result->latency;
    run->start_ns = workload->now_ns = now_ns();
    int err = push_all(run);
    if (!err && options->warmup_ns)
        err = run_until(run, workload->now_ns + options->warmup_ns);
    for (unsigned i = 0; i < run->count; i++)
        run->base[i] = run->pumps[i].counts;
    result->latency = (struct latency){0};
    if (!err)
        err = read_server(options, &result->before);
    uint64_t cpu = own_cpu_ns(), began = now_ns();
    if (!err)
        err = run_until(run, options->time_ns ? began + options->time_ns
                                              : UINT64_MAX);
    result->client_cpu_ns = own_cpu_ns() - cpu;
    result->seconds = (double)(now_ns() - began) / (double)SECOND;
    if (!err)
        err = read_server(options, &result->after);
    collect(run, result);
    workload->latency = NULL;
    if (!err)
        err = drain(run);
    collect_mistakes(run, result);
    return err;
}

/* Each client does one request, then all are held for the measured time. */
static int measure_idle(struct run *run, struct run_result *result)
{
    struct workload *workload = &run->workload;

    int err = read_server(run->options, &result->before);
    if (!err)
        err = connect_all(run, run->options->idle);
    for (unsigned i = 0; !err && i < run->options->idle; i++) {
        workload->budget = 1;
        workload->now_ns = now_ns();
        err = pump_send(&run->pumps[i]);
        update_interest(run, &run->pumps[i]);
    }
    while (!err && !is_idle(run))
        err = turn(run, workload->now_ns + DRAIN_NS);
    if (err)
        return err;
    struct procstat held;
    err = read_server(run->options, &held);
    uint64_t began = now_ns();
    struct timespec rest = {(time_t)(run->options->time_ns / SECOND),
                            (long)(run->options->time_ns % SECOND)};
    struct epoll_event event;
    /* Nothing is asked for, so nothing should come. */
    if (!err && epoll_pwait2(run->epoll, &event, 1, &rest, NULL) > 0) {
        fprintf(stderr,
                "abd-load: connection %u: the server hung up on an "
                "idle client\n",
                event.data.u32 + 1);
        err = ECONNRESET;
    }
    result->seconds = (double)(now_ns() - began) / (double)SECOND;
    if (!err)
        err = read_server(run->options, &result->after);
    /* CPU of the time at rest; memory of the whole. */
    result->before.cpu_ns = held.cpu_ns;
    result->before.voluntary = held.voluntary;
    result->before.involuntary = held.involuntary;
    collect(run, result);
    return err;
}

int run_measure(const struct run_options *options, struct run_result *ret)
{
    struct run run;

    *ret = (struct run_result){0};
    int err = run_init(&run, options,
                       options->idle ? options->idle : options->connections);
    if (!err && options->idle) {
        err = measure_idle(&run, ret);
    } else if (!err) {
        err = connect_all(&run, options->connections);
        if (!err)
            err = measure_load(&run, ret);
    }
    if (err == ENOMEM)
        fprintf(stderr, "abd-load: no memory\n");
    run_finish(&run);
    return err;
}
