/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Feeds a client's bytes to the whole handshake: its state machine, all of its
 * options, the list of exports and what is told of a disk.
 *
 * The input begins with what the server is like (struct setting); the rest is
 * what the client sends.  In which pieces it arrives, when the client reads,
 * when disks open and whether the server ends meanwhile follows from the
 * setting, too.  handshake_world.c checks how the handshake uses what is around
 * it, handshake_client.c whether it answers as it should; and it must end. */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "server/limits.h"
#include "tests/fuzz/handshake_client.h"
#include "tests/fuzz/handshake_world.h"

/* The start of an input; all zero is the plainest server. */
struct setting {
    uint8_t server;  /* enum server_bit */
    uint8_t events;  /* enum event_bit */
    uint8_t exports; /* 0-5: how many, 6-7: an error */
    uint8_t ops, flags;
    uint8_t sizes;
    uint8_t texts;
    uint8_t order; /* 0: all at once, else in an order made from it */
};
_Static_assert(sizeof(struct setting) == 8, "it is read as bytes");

enum server_bit {
    OLDSTYLE = 1,
    NO_STRUCTURED = 2,
    READ_ONLY = 4,
    NO_FIXED = 8,
    NO_NO_ZEROES = 16,
    LISTS = 32,
    PARALLEL = 64,
    ELSEWHERE = 128, /* disks live on the other loop */
};
enum event_bit {
    MAY_DRAIN = 1,
    MAY_CLOSE = 2,
    MAY_TIME_OUT = 4,
    MAY_GO = 8, /* the client, once it has sent all */
    TWO_FDS = 16,
    IS_FILE = 32,
    OPEN_ERRORS = 64,
    ADMIT_ERRORS = 128,
};

static struct setting setting;
static uint32_t order; /* xorshift */

static uint32_t next_random(uint32_t below)
{
    order ^= order << 13;
    order ^= order >> 17;
    order ^= order << 5;
    return order % below;
}

/* The same for one name each time. */
static unsigned char_of(struct nbd_string name, uint32_t at)
{
    return at < name.length ? (unsigned char)name.text[at] : 0;
}

static int open_error(struct nbd_string name)
{
    static const int errors[] = {0,      0,         ENOENT, EPERM,
                                 EACCES, ESHUTDOWN, ENOMEM, EIO};

    return setting.events & OPEN_ERRORS ? errors[char_of(name, 0) % 8] : 0;
}

static int admit_error(struct nbd_string name)
{
    static const int errors[] = {0, 0, EPERM, ENOMEM};

    return setting.events & ADMIT_ERRORS ? errors[char_of(name, 1) % 4] : 0;
}

static void plan_disk(struct abd_disk *disk)
{
    static const uint64_t sizes[] = {0, 65536, UINT64_C(1) << 30,
                                     INT64_MAX - INT64_MAX % 65536};
    static const uint32_t block_min[] = {0, 1, 512, 65536};
    static const uint32_t block_preferred[] = {0, 65536, 1 << 20, 1 << 28};
    static const uint32_t block_max[] = {0, UINT32_MAX, 1 << 28, 3 << 27};

    *disk = (struct abd_disk){
        .size = sizes[setting.sizes & 3],
        .read_only = (setting.server & READ_ONLY) != 0,
        .block_min = block_min[setting.sizes >> 2 & 3],
        .block_preferred = block_preferred[setting.sizes >> 4 & 3],
        .block_max = block_max[setting.sizes >> 6],
        .max_transfer = setting.texts & 64 ? 64 * MIB : 0,
        .ops = 1U << ABD_OP_READ | (uint32_t)(setting.ops & 0x7f) << 1,
        .flags = setting.flags,
        .fua = ABD_FUA_NONE,
    };
    if (setting.ops & 0x80)
        disk->fua =
            disk->ops & 1U << ABD_OP_FLUSH ? ABD_FUA_EMULATE : ABD_FUA_NATIVE;
}

static void plan_texts(struct abd_disk *disk)
{
    static char long_text[NBD_MAX_STRING + 2];
    const char *texts[] = {NULL,
                           "",
                           "short",
                           "\xc3\xa9\xf0\x9f\x92\xbe",
                           "\xff not UTF-8",
                           long_text,
                           long_text + 1,
                           NULL};

    memset(long_text, 'x', sizeof long_text - 1);
    disk->canonical_name = texts[setting.texts & 7];
    disk->description = texts[setting.texts >> 3 & 7];
}

static void make_plan(struct world_plan *plan)
{
    static const int list_errors[] = {0, 0, EPERM, EIO};
    uint8_t server = setting.server, events = setting.events;

    *plan = (struct world_plan){
        .view = {.oldstyle = (server & OLDSTYLE) != 0,
                 .no_structured = (server & NO_STRUCTURED) != 0,
                 .open_error = open_error,
                 .admit_error = admit_error,
                 .is_listed = world_is_listed,
                 .exports = 1},
        .parallel = (server & PARALLEL) != 0,
        .shared = (setting.flags & 128) != 0,
        .home = (server & ELSEWHERE) != 0,
        .lists = (server & LISTS) != 0,
        .memory = setting.texts & 128 ? MIB : 64 * MIB,
        .two_fds = (events & TWO_FDS) != 0,
        .file = (events & IS_FILE) != 0,
        .timeout_ns = events & MAY_TIME_OUT ? SECOND : 0,
    };
    if (!(server & NO_FIXED))
        plan->view.offered |= NBD_FLAG_FIXED_NEWSTYLE;
    if (!(server & NO_NO_ZEROES))
        plan->view.offered |= NBD_FLAG_NO_ZEROES;
    if (plan->lists) {
        plan->view.exports = setting.exports & 63;
        plan->view.list_error = list_errors[setting.exports >> 6];
    }
    plan_disk(&plan->disk);
    plan_texts(&plan->disk);
    plan->view.size = plan->disk.size;
}

/* What can happen.  The first kinds go on until the handshake ends; of each of
 * the last there is at most one, and rarely. */
enum event {
    EVENT_ARRIVE, /* bytes of the client */
    EVENT_READ,   /* the client makes room */
    EVENT_READY,
    EVENT_MESSAGE_0,
    EVENT_MESSAGE_1,
    EVENT_OPEN,
    EVENT_LIST,
    EVENT_GO,
    EVENT_DRAIN,
    EVENT_CLOSE,
    EVENT_TIME_OUT,
    EVENTS
};

static bool is_rare(enum event event)
{
    return event >= EVENT_DRAIN;
}

static bool can_happen(enum event event)
{
    const struct client *client = &world.client;

    switch (event) {
    case EVENT_ARRIVE:
        return client->arrived < client->size;
    case EVENT_READ:
        return world.room == 0 && !world.gone;
    case EVENT_READY:
        return world_is_ready();
    case EVENT_MESSAGE_0:
    case EVENT_MESSAGE_1:
        return world_has_message(event - EVENT_MESSAGE_0);
    case EVENT_OPEN:
        return world.opening;
    case EVENT_LIST:
        return world.listing;
    case EVENT_GO:
        return (setting.events & MAY_GO) && !world.gone && !world.plan->file &&
               client->arrived == client->size;
    case EVENT_DRAIN:
        return (setting.events & MAY_DRAIN) && !client->draining;
    case EVENT_CLOSE:
        return (setting.events & MAY_CLOSE) && !world.closing && !world.moving;
    default:
        return world_has_timer();
    }
}

static void arrive(void)
{
    struct client *client = &world.client;
    size_t left = client->size - client->arrived, n = left;

    if (setting.order != 0 && next_random(8) > 0)
        n = 1 + next_random(setting.order & 1 ? 3 : 40);
    client->arrived += n < left ? n : left;
}

static void make_room(void)
{
    world.room = SIZE_MAX;
    if (setting.order != 0 && next_random(4) > 0)
        world.room = 1 + next_random(setting.order & 2 ? 3 : 300);
}

static void happen(enum event event)
{
    switch (event) {
    case EVENT_ARRIVE:
        arrive();
        break;
    case EVENT_READ:
        make_room();
        break;
    case EVENT_READY:
        world_ready();
        break;
    case EVENT_MESSAGE_0:
    case EVENT_MESSAGE_1:
        world_message(event - EVENT_MESSAGE_0);
        break;
    case EVENT_OPEN:
        world_open_ends();
        break;
    case EVENT_LIST:
        world_list_ends();
        break;
    case EVENT_GO:
        world_go();
        break;
    case EVENT_DRAIN:
        world_drain();
        break;
    case EVENT_CLOSE:
        world_close();
        break;
    default:
        world_timer();
        break;
    }
}

/* One of those that can happen; EVENTS: none can. */
static enum event choose(void)
{
    enum event possible[EVENTS];
    uint32_t n = 0;
    bool rare = next_random(16) == 0;

    for (unsigned i = 0; i < EVENTS; i++)
        if (can_happen(i) && (rare || !is_rare(i)))
            possible[n++] = i;
    if (n == 0)
        return EVENTS;
    return possible[setting.order == 0 ? 0 : next_random(n)];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world_plan plan;
    size_t head = size < sizeof setting ? size : sizeof setting;

    memset(&setting, 0, sizeof setting);
    if (head > 0)
        memcpy(&setting, data, head);
    order = 0x9e3779b9u ^ setting.order ^ (uint32_t)size << 8;
    log_open(LOG_TO_NULL, NULL);
    log_set_verbose(true);
    make_plan(&plan);
    world_init(&plan, data + head, size - head);
    if (plan.file)
        world.client.arrived = world.client.size;
    world_begin();
    while (!world.over) {
        enum event event = choose();

        /* Nothing can happen any more, and it has not ended. */
        assert(event != EVENTS);
        happen(event);
    }
    world_finish();
    return 0;
}
