/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Workers: the server's part of each loop, and the order of its turn. */
#include "server/worker.h"

#include "server/bounce.h"
#include "server/connection.h"
#include "server/disk.h"
#include "server/layer.h"
#include "server/reply.h"
#include "server/request.h"
#include "server/transmission.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct worker *workers;
unsigned workers_n;
struct arena *server_arena;

/* Memory for requests without which a worker can't do its work. */
#define REQUESTS_MIN (128 * 1024)

static void *zeroes;

void *worker_zeroes(void)
{
    return zeroes;
}

uint8_t *worker_take_receive_buffer(struct worker *worker)
{
    if (worker->receive_spares_n == 0)
        return NULL;
    return worker->receive_spares[--worker->receive_spares_n];
}

void worker_give_receive_buffer(struct worker *worker, uint8_t *buffer)
{
    worker->receive_spares[worker->receive_spares_n++] = buffer;
}

/* Batches of requests are complete: the plugins may carry them out. */
static bool run_kicks(void *arg)
{
    struct worker *worker = arg;
    struct list *link;

    while ((link = list_take_first(&worker->kicks))) {
        struct lane *lane = container_of(link, struct lane, kick_link);
        const struct layer *layer = lane->disk->layer;

        loop_set_busy_with(worker->loop, layer->instance.name);
        layer->plugin->kick(&lane->disk->pub);
        loop_set_busy_with(worker->loop, NULL);
    }
    return false;
}

/* What was completed is unwound, answered, and makes room for more. */
static bool run_answers(void *arg)
{
    struct worker *worker = arg;
    unsigned sent;

    /* submit() leaves its plugin's name behind, as asking for the time at each
     * request would cost more than some of them do. */
    loop_set_busy_with(worker->loop, NULL);
    worker->turn_ns = abd_loop_now_ns();
    loop_read_clock(worker->loop); /* what took no turn took some time, too */
    requests_unwind(worker);
    sent = reply_send_all(worker);
    transmission_run_ready(worker);
    /* One client that waits for each answer before it asks again, and a disk
     * that is quick: with a slow one, waking up is little beside it. */
    if (sent == 1 && worker->at_once == 1 && worker->jobs == 0)
        loop_expect_soon(worker->loop);
    worker->at_once = 0;
    loop_set_busy_with(worker->loop, NULL);
    return !list_is_empty(&worker->done) || !list_is_empty(&worker->ready) ||
           !list_is_empty(&worker->kicks) || !list_is_empty(&worker->sending);
}

/* Memory for what is received and not parsed yet: one buffer for each worker,
 * and some more that connections may hold while they wait.  It is charged to
 * the budget like all that clients can fill. */
static int create_receive_buffers(struct worker *worker, uint64_t budget)
{
    uint64_t share = budget / 32 / workers_n;
    size_t size = LIMIT_RECEIVE;
    unsigned n;
    uint8_t *memory;

    while (size > 16 * 1024 && size * 2 > share)
        size /= 2;
    n = (unsigned)(share / size);
    n = n < 2 ? 2 : n;
    if ((uint64_t)n * size + REQUESTS_MIN > budget / 4 / workers_n) {
        log_write(ABD_ERROR, NULL, "--memory is too small for --loops=%u",
                  workers_n);
        return ENOMEM;
    }
    if (!arena_charge(server_arena, (uint64_t)n * size))
        return ENOMEM;
    worker->receive_size = size;
    worker->pool_limit = budget / 4 / workers_n - (uint64_t)n * size;
    if (request_pool_max(worker) < REQUEST_UNITS_MIN * request_unit()) {
        log_write(ABD_ERROR, NULL,
                  "--memory is too small for --loops=%u and the %u requests "
                  "that filters may make for one of a client",
                  workers_n, chain.children);
        return ENOMEM;
    }
    worker->receive_spares = calloc(n, sizeof *worker->receive_spares);
    memory = mmap(NULL, n * size, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!worker->receive_spares || memory == MAP_FAILED)
        return ENOMEM;
    worker->pool = mmap(NULL, worker->pool_limit, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (worker->pool == MAP_FAILED)
        return ENOMEM;
    /* It grows by little, and what is charged is what is used. */
    madvise(worker->pool, worker->pool_limit, MADV_NOHUGEPAGE);
    for (unsigned i = n; i > 0; i--)
        worker_give_receive_buffer(worker, memory + (i - 1) * size);
    worker->receive_buffer = worker_take_receive_buffer(worker);
    return 0;
}

static int worker_init(struct worker *worker, unsigned index, uint64_t budget,
                       char **extra)
{
    int err;

    worker->index = index;
    worker->loop = abd_loop_at(index);
    worker->memory = arena_memory(server_arena, worker->loop);
    worker->next_id = index + 1;
    list_init(&worker->free_requests);
    list_init(&worker->done);
    list_init(&worker->kicks);
    list_init(&worker->starved);
    list_init(&worker->connections);
    list_init(&worker->ready);
    list_init(&worker->sending);
    worker->iovecs = calloc(LIMIT_IOVECS, sizeof *worker->iovecs);
    worker->heads = calloc(LIMIT_IOVECS + 1, NBD_REPLY_HEAD_MAX);
    if (!worker->iovecs || !worker->heads)
        return ENOMEM;
    err = bounces_create(worker, extra);
    if (err)
        return err;
    loop_set_context(worker->loop, worker);
    loop_set_stage(worker->loop, LOOP_STAGE_KICK, run_kicks, worker);
    loop_set_stage(worker->loop, LOOP_STAGE_ANSWER, run_answers, worker);
    return create_receive_buffers(worker, budget);
}

/* For plugins that want all memory inside the arena the zeroes are there. */
uint64_t workers_extra(unsigned n)
{
    return bounces_size(n) + (chain.registers ? ZEROES_SIZE : 0);
}

int workers_create(struct arena *arena)
{
    struct arena_counters counters;
    char *extra = arena_extra(arena);
    int err = 0;

    server_arena = arena;
    workers_n = abd_loop_count();
    workers = calloc(workers_n, sizeof *workers);
    if (chain.registers) {
        zeroes = extra;
        extra += ZEROES_SIZE;
    } else {
        /* Never written: the kernel maps its one page of zeroes. */
        zeroes = mmap(NULL, ZEROES_SIZE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (!workers || zeroes == MAP_FAILED)
        return ENOMEM;
    arena_read_counters(arena, &counters);
    for (unsigned i = 0; i < workers_n && !err; i++)
        err = worker_init(&workers[i], i, counters.total, &extra);
    return err;
}
