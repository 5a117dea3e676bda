/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

#include "tools/check/registered.h"

#include "tools/check/host.h"
#include "tools/check/rules.h"
#include "tools/check/stack.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LENGTH (UINT64_C(256) << 20)
#define ALIGN  (UINT64_C(2) << 20)
#define PAGE   UINT64_C(4096)
#define PAGES  (LENGTH / PAGE)
#define POISON 0xdb

/* By the page that data begins in; pages 0: none begins there. */
static struct place {
    struct guard_record *record;
    uint32_t pages;
    bool is_used;
} places[PAGES];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of places, next */
static uint64_t next;
static struct abd_memory memory = {.fd = -1}; /* set once */

bool registered_is_wanted(void)
{
    return memory.base != NULL;
}

void registered_start(void)
{
    uint64_t at;
    void *room;
    bool wanted = false;

    for (unsigned i = 0; i < layers_n; i++)
        wanted |= (layers[i].plugin.flags & ABD_PLUGIN_REGISTERS) != 0;
    if (!wanted)
        return;
    memory.fd = memfd_create("abdkit-check", MFD_CLOEXEC);
    if (memory.fd < 0 || ftruncate(memory.fd, (off_t)LENGTH))
        host_die("there is no memory to register");
    room = mmap(NULL, LENGTH + ALIGN, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        host_die("there is no memory to register");
    at = ALIGN - (uintptr_t)room % ALIGN;
    memory.base = mmap((char *)room + at, LENGTH, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED, memory.fd, 0);
    if (memory.base == MAP_FAILED)
        host_die("there is no memory to register");
    memory.length = LENGTH;
}

LOOP_EXPORTED void abd_memory(const struct abd_instance *instance,
                              struct abd_memory *ret)
{
    if (!registered_is_wanted())
        rules_stop(RULE_ENTRY, instance->name,
                   "abd_memory() without ABD_PLUGIN_REGISTERS");
    *ret = memory;
}

static uint8_t *page_at(uint64_t i)
{
    return (uint8_t *)memory.base + i * PAGE;
}

static void check_locked(const struct place *place)
{
    const uint8_t *bytes = page_at((uint64_t)(place - places));

    for (uint64_t i = 0; i < place->pages * PAGE; i++) {
        if (bytes[i] == POISON)
            continue;
        rules_break(RULE_AFTER_END, atomic_load(&place->record->who),
                    "it wrote to the data of %s after having completed it",
                    guard_describe(place->record));
        return;
    }
}

/* The pages in front of next are taken last.  What lies there must be free. */
static bool make_room_locked(uint64_t n)
{
    for (uint64_t i = next; i < next + n; i++) {
        if (places[i].pages && places[i].is_used) {
            next = i + places[i].pages;
            return false;
        }
    }
    for (uint64_t i = next; i < next + n; i++) {
        if (places[i].pages)
            check_locked(&places[i]);
        places[i].pages = 0;
    }
    return true;
}

void *registered_take(struct guard_record *record, size_t size)
{
    uint64_t n = (size + PAGE - 1) / PAGE;
    struct place *place;

    pthread_mutex_lock(&lock);
    for (uint64_t tries = 0;; tries++) {
        if (next + n > PAGES)
            next = 0;
        if (make_room_locked(n))
            break;
        if (tries == PAGES)
            host_die("--depth is too much for the memory registered");
    }
    place = &places[next];
    next += n;
    *place =
        (struct place){.record = record, .pages = (uint32_t)n, .is_used = true};
    pthread_mutex_unlock(&lock);
    memset(page_at((uint64_t)(place - places)), 0, n * PAGE);
    return page_at((uint64_t)(place - places));
}

void registered_give(void *data)
{
    struct place *place =
        &places[(uint64_t)((uint8_t *)data - (uint8_t *)memory.base) / PAGE];

    memset(data, POISON, place->pages * PAGE);
    pthread_mutex_lock(&lock);
    place->is_used = false;
    pthread_mutex_unlock(&lock);
}

void registered_check(void)
{
    pthread_mutex_lock(&lock);
    for (uint64_t i = 0; i < PAGES && registered_is_wanted(); i++) {
        if (places[i].pages && !places[i].is_used)
            check_locked(&places[i]);
    }
    pthread_mutex_unlock(&lock);
}
