/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

#include "tools/check/load.h"

#include "tools/check/options.h"
#include "tools/check/rules.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW    (UINT64_C(2) << 20)
#define HELD_MAX  16 /* loans at once */
#define NS_PER_MS UINT64_C(1000000)
#define TICK_NS   (100 * NS_PER_MS)

static uint64_t below(struct load *load, uint64_t n)
{
    return n ? host_random(&load->random) % n : 0;
}

static void go_on(struct load *load);

/* --- loans --- */

static void free_operation(struct operation *operation)
{
    free(operation->bytes);
    free(operation);
}

static void give_back(struct operation *loan)
{
    list_remove(&loan->link);
    loan->load->held_n--;
    verify_still_lent(loan);
    request_release(loan->request);
    free_operation(loan);
}

static void give_back_some(struct load *load, uint64_t leave)
{
    while (load->held_n > leave) {
        struct list *link = load->held.next;

        for (uint64_t n = below(load, load->held_n); n > 0; n--)
            link = link->next;
        give_back(container_of(link, struct operation, link));
    }
}

/* --- one operation --- */

static void on_ended(struct request *request)
{
    struct operation *operation = request->arg;
    struct load *load = operation->load;

    list_remove(&operation->link);
    load->in_flight_n--;
    if (request->loan.pieces)
        verify_lent(operation);
    verify(operation);
    request_retire(request);
    if (request->loan.pieces) {
        list_append(&load->held, &operation->link);
        load->held_n++;
        give_back_some(load, below(load, HELD_MAX));
    } else {
        request_release(request);
        free_operation(operation);
    }
    atomic_fetch_add(&load->ended, 1);
    go_on(load);
}

static void fill(struct load *load, const struct request *request)
{
    uint8_t *bytes = request->data;
    uint64_t i = 0;

    for (; i + 8 <= request->data_size; i += 8) {
        uint64_t word = host_random(&load->random);

        memcpy(bytes + i, &word, 8);
    }
    for (; i < request->data_size; i++)
        bytes[i] = (uint8_t)host_random(&load->random);
}

static void start(struct load *load, struct operation *operation)
{
    const struct abd_disk *pub = load->disk->pub;
    const struct load_plan *plan = load->plan;
    struct request *request = request_new(operation->op, operation->flags,
                                          operation->offset, operation->length);
    bool is_lent = operation->op == ABD_OP_READ && plan->lends &&
                   pub->flags & ABD_DISK_LENDS &&
                   operation->length >= pub->lend_min && below(load, 8);

    operation->request = request;
    request->arg = operation;
    request->ended = on_ended;
    if (operation->op == ABD_OP_WRITE ||
        (operation->op == ABD_OP_READ && !is_lent)) {
        request_take_data(request, load->disk, &load->random);
        if (operation->op == ABD_OP_WRITE) {
            fill(load, request);
            operation->data = request->data;
        }
    }
    verify_note_write(load, operation);
    list_append(&load->in_flight, &operation->link);
    load->in_flight_n++;
    load->started++;
    request_submit(request, load->disk,
                   plan->clients[below(load, plan->clients_n)]);
}

static bool start_one(struct load *load)
{
    struct operation *operation = calloc(1, sizeof *operation);

    if (!operation)
        host_die("there is no memory left");
    operation->load = load;
    if (!choose(load, operation)) {
        free(operation);
        return false;
    }
    start(load, operation);
    return true;
}

static void cancel_one(struct load *load)
{
    struct list *link = load->in_flight.next;

    for (uint64_t n = below(load, load->in_flight_n); n > 0; n--)
        link = link->next;
    request_cancel(container_of(link, struct operation, link)->request);
}

static void cancel_all(struct load *load)
{
    list_for_each_safe (link, &load->in_flight)
        request_cancel(container_of(link, struct operation, link)->request);
}

/* --- the load --- */

/* One turn more, so that what is done once a turn has been done. */
static void on_finished(struct loop_message *message)
{
    sem_post(container_of(message, struct load, message)->finished);
}

static void on_last_turn(struct loop_message *message)
{
    message->fn = on_finished;
    loop_send(container_of(message, struct load, message)->loop, message);
}

static bool is_over(const struct load *load)
{
    return load->started >= load->operations || rules_broken() ||
           guard_is_short();
}

static void on_go(struct loop_message *message)
{
    go_on(container_of(message, struct load, message));
}

static void go_on(struct load *load)
{
    if (load->finishing)
        return;
    while (!is_over(load) && load->in_flight_n < load->depth) {
        if (!start_one(load))
            break;
        if (load->plan->cancels && below(load, 4) == 0)
            cancel_one(load);
    }
    if (load->plan->abandons)
        cancel_all(load);
    atomic_store(&load->oldest,
                 list_is_empty(&load->in_flight)
                     ? NULL
                     : list_first(&load->in_flight, struct operation, link)
                           ->request->record);
    if (load->in_flight_n > 0)
        return;
    if (!is_over(load)) {
        loop_send(load->loop, &load->message);
        return;
    }
    load->finishing = true;
    give_back_some(load, 0);
    load->message.fn = on_last_turn;
    loop_send(load->loop, &load->message);
}

/* Somebody waits: for a request that comes later? */
static void on_nudge(struct loop_message *message)
{
    struct load *load = container_of(message, struct load, nudge);
    struct operation *operation = calloc(1, sizeof *operation);

    if (!operation)
        host_die("there is no memory left");
    operation->load = load;
    operation->op = ABD_OP_READ;
    operation->offset = load->begin;
    operation->length = load->disk->block_min;
    start(load, operation);
}

/* --- waiting for it --- */

__attribute__((noreturn)) static void blame(struct load *load,
                                            const struct guard_record *oldest)
{
    const char *callback = "a callback";
    const char *stuck = host_stuck(&callback);
    uint64_t ms = options.timeout_ns / NS_PER_MS;

    if (stuck)
        rules_stop(RULE_BLOCKING, stuck,
                   "%s did not return within %" PRIu64 " ms", callback, ms);
    if (!oldest)
        host_die("the kit does not get on");
    if (atomic_load(&load->ended) != 0 && load->nudged)
        rules_stop(RULE_PROGRESS, atomic_load(&oldest->who),
                   "%s waited for more than %" PRIu64
                   " ms, and ended when another came",
                   guard_describe(oldest), ms);
    rules_stop(
        atomic_load(&oldest->is_cancelled) ? RULE_CANCEL : RULE_COMPLETES,
        atomic_load(&oldest->who), "%s was not completed within %" PRIu64 " ms",
        guard_describe(oldest), ms);
}

/* Nothing ended for the timeout: is it enough that another request comes? */
static void find_out(struct load *load)
{
    const struct guard_record *oldest = atomic_load(&load->oldest);

    load->nudged = false;
    if (oldest && !host_stuck(&(const char *){NULL})) {
        load->nudge.fn = on_nudge;
        loop_send(load->loop, &load->nudge);
        for (unsigned i = 0; i < 20 && !load->nudged; i++) {
            sem_t never;

            sem_init(&never, 0, 0);
            host_wait(&never, TICK_NS / 2);
            load->nudged = atomic_load(&oldest->state) == GUARD_ENDED;
        }
    }
    blame(load, oldest);
}

static void await_one(sem_t *finished, struct load *loads, unsigned n)
{
    uint64_t seen = 0, waited_ns = 0;

    while (!host_wait(finished, TICK_NS)) {
        uint64_t ended = 0;

        for (unsigned i = 0; i < n; i++)
            ended += atomic_load(&loads[i].ended);
        waited_ns = ended == seen ? waited_ns + TICK_NS : 0;
        seen = ended;
        for (unsigned i = 0; waited_ns >= options.timeout_ns && i < n; i++) {
            if (atomic_load(&loads[i].oldest) || i + 1 == n)
                find_out(&loads[i]);
        }
    }
}

/* --- one for each loop --- */

/* At the start, the middle and the end of the part. */
static void add_windows(struct load *load)
{
    uint64_t unit = load->disk->block_min;
    uint64_t window = WINDOW / unit * unit;
    uint64_t middle = load->begin + load->length / 2 / unit * unit;

    if (load->length < 3 * window + unit) {
        model_add_window(load->model, load->begin,
                         load->length < window ? load->length : window);
        return;
    }
    model_add_window(load->model, load->begin, window);
    model_add_window(load->model, middle, window);
    model_add_window(load->model, load->begin + load->length - window, window);
}

/* No two begin with the same number. */
static uint64_t runs;

static void init(struct load *load, unsigned i, unsigned n,
                 const struct load_plan *plan)
{
    struct disk *disk = load->disk;
    uint64_t unit = disk->block_min;
    uint64_t size = disk->pub->size / unit * unit;
    uint64_t part = size / n / unit * unit;

    load->plan = plan;
    load->loop = n == 1 ? disk->loop : abd_loop_at(i);
    load->begin = part * i;
    load->length = i + 1 == n ? size - load->begin : part;
    load->operations = plan->operations / n;
    /* More than the disk takes, so that some wait in front of it. */
    load->depth = plan->depth < disk->share * 2 || disk->share > UINT32_MAX / 2
                      ? plan->depth
                      : disk->share * 2;
    load->random = options.seed + ++runs * UINT64_C(0x632be59bd9b4e019);
    load->model = plan->keeps ? plan->keeps : &load->own_model;
    load->message.fn = on_go;
    list_init(&load->in_flight);
    list_init(&load->held);
    if (load->length && load->model->n == 0)
        add_windows(load);
}

void load_run(struct disk *disk, const struct load_plan *plan)
{
    /* Whole-disk requests and a model that stays want one load. */
    unsigned n = plan->borders || plan->keeps ? 1 : disk_loops(disk);
    struct load *loads = calloc(n, sizeof *loads);
    sem_t finished;

    if (!loads)
        host_die("there is no memory left");
    sem_init(&finished, 0, 0);
    for (unsigned i = 0; i < n; i++) {
        loads[i].disk = disk;
        loads[i].finished = &finished;
        init(&loads[i], i, n, plan);
    }
    for (unsigned i = 0; i < n; i++) {
        if (loads[i].length)
            loop_send(loads[i].loop, &loads[i].message);
        else
            sem_post(&finished);
    }
    for (unsigned i = 0; i < n; i++)
        await_one(&finished, loads, n);
    for (unsigned i = 0; i < n; i++)
        model_finish(&loads[i].own_model);
    sem_destroy(&finished);
    free(loads);
}
