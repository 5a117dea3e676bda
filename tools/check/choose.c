/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What a load does next: at random, or each border in turn. */
#include "tools/check/load.h"
#include "tools/check/options.h"

#define TRIES 8

static uint64_t below(struct load *load, uint64_t n)
{
    return n ? host_random(&load->random) % n : 0;
}

static bool may_do(const struct load *load, uint32_t op)
{
    if (!disk_has(load->disk, op))
        return false;
    return !op_writes(op) || (options.writes && !load->plan->only_reads &&
                              disk_writable(load->disk));
}

static uint32_t choose_op(struct load *load)
{
    static const uint32_t mix[] = {
        ABD_OP_READ,  ABD_OP_READ,  ABD_OP_READ,  ABD_OP_READ,
        ABD_OP_WRITE, ABD_OP_WRITE, ABD_OP_WRITE, ABD_OP_ZERO,
        ABD_OP_TRIM,  ABD_OP_FLUSH, ABD_OP_CACHE, ABD_OP_EXTENTS,
    };
    uint32_t op = mix[below(load, sizeof mix / sizeof mix[0])];

    return may_do(load, op) ? op : ABD_OP_READ;
}

static uint32_t choose_flags(struct load *load, uint32_t op)
{
    const struct abd_disk *pub = load->disk->pub;
    uint32_t flags = 0;

    if (op_writes(op) && pub->fua == ABD_FUA_NATIVE && below(load, 4) == 0)
        flags |= ABD_REQ_FUA;
    if (op == ABD_OP_ZERO && below(load, 2))
        flags |= ABD_REQ_MAY_TRIM;
    if (op == ABD_OP_ZERO && pub->flags & ABD_DISK_FAST_ZERO &&
        below(load, 3) == 0)
        flags |= ABD_REQ_FAST;
    if (op == ABD_OP_EXTENTS && below(load, 3) == 0)
        flags |= ABD_REQ_ONE;
    return flags;
}

/* What takes effect in any order would leave the model in doubt. */
static bool conflicts(const struct load *load,
                      const struct operation *operation)
{
    if (load->plan->overlaps || operation->op == ABD_OP_FLUSH)
        return false;
    list_for_each (link, &load->in_flight) {
        const struct operation *other =
            container_of(link, struct operation, link);

        if ((op_writes(operation->op) || op_writes(other->op)) &&
            other->op != ABD_OP_FLUSH &&
            operation->offset < other->offset + other->length &&
            other->offset < operation->offset + operation->length)
            return true;
    }
    return false;
}

static uint64_t longest(const struct load *load, uint32_t op, uint64_t room)
{
    uint64_t max = disk_longest(load->disk, op);
    uint64_t unit = load->disk->block_min;

    max = max < room ? max : room;
    return max / unit * unit;
}

/* In one of the windows; short ones more often than long ones. */
static void choose_range(struct load *load, struct operation *operation)
{
    const struct window *window =
        &load->model->windows[below(load, load->model->n)];
    uint64_t unit = load->disk->block_min;
    uint64_t units = window->length / unit;
    uint64_t max = longest(load, operation->op, window->length) / unit;
    uint64_t length = UINT64_C(1) << below(load, 24);
    uint64_t at;

    length = 1 + below(load, length < max ? length : max);
    at = below(load, units - length + 1);
    if (below(load, 8) == 0)
        at = below(load, 2) ? 0 : units - length;
    operation->offset = window->offset + at * unit;
    operation->length = length * unit;
}

/* What is lent is overwritten, all or part of it. */
static bool choose_lent_range(struct load *load, struct operation *operation)
{
    const struct operation *loan;
    struct list *link = load->held.next;
    uint64_t n, max;

    if (!op_writes(operation->op) || load->held_n == 0 || below(load, 2))
        return false;
    for (n = below(load, load->held_n); n > 0; n--)
        link = link->next;
    loan = container_of(link, struct operation, link);
    max = longest(load, operation->op, loan->length);
    operation->offset = loan->offset;
    operation->length = below(load, 2) ? max : load->disk->block_min;
    return true;
}

/* --- borders --- */

static const uint32_t border_ops[] = {
    ABD_OP_WRITE, ABD_OP_READ, ABD_OP_EXTENTS, ABD_OP_ZERO,
    ABD_OP_READ,  ABD_OP_TRIM, ABD_OP_CACHE,   ABD_OP_READ,
};
#define BORDER_OPS     (sizeof border_ops / sizeof border_ops[0])
#define BORDER_LENGTHS 6
#define BORDER_PLACES  4

static uint64_t border_length(const struct load *load, uint32_t op, unsigned i)
{
    uint64_t unit = load->disk->block_min;
    uint64_t max = longest(load, op, load->length);
    uint64_t lend_min = load->disk->pub->lend_min / unit * unit;
    const uint64_t lengths[BORDER_LENGTHS] = {
        unit, max, max - unit, 65536 / unit * unit, lend_min, lend_min - unit};
    uint64_t length = lengths[i];

    return length < unit || length > max ? unit : length;
}

static uint64_t border_place(const struct load *load, uint64_t length,
                             unsigned i)
{
    uint64_t unit = load->disk->block_min;
    uint64_t room = load->length - length;
    const uint64_t places[BORDER_PLACES] = {0, room, unit, room / 2};
    uint64_t place = places[i] < room ? places[i] : room;

    return load->begin + place / unit * unit;
}

/* False: all have been. */
static bool choose_border(struct load *load, struct operation *operation)
{
    uint64_t i = load->border;

    do {
        i = load->border++;
        if (i >= BORDER_OPS * BORDER_LENGTHS * BORDER_PLACES)
            return false;
        operation->op = border_ops[i % BORDER_OPS];
    } while (!may_do(load, operation->op));
    i /= BORDER_OPS;
    operation->length =
        border_length(load, operation->op, (unsigned)(i % BORDER_LENGTHS));
    operation->offset =
        border_place(load, operation->length, (unsigned)(i / BORDER_LENGTHS));
    return true;
}

bool choose(struct load *load, struct operation *operation)
{
    uint64_t before = load->border;

    if (load->plan->borders && choose_border(load, operation)) {
        if (conflicts(load, operation)) {
            load->border = before;
            return false;
        }
    } else {
        operation->op = choose_op(load);
        for (unsigned i = 0; operation->op != ABD_OP_FLUSH; i++) {
            if (!choose_lent_range(load, operation))
                choose_range(load, operation);
            if (!conflicts(load, operation))
                break;
            if (i == TRIES)
                return false;
        }
    }
    operation->flags = choose_flags(load, operation->op);
    return true;
}
