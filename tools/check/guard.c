/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

#include "tools/check/guard.h"

#include "tools/check/host.h"
#include "tools/check/rules.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define PAGE UINT64_C(4096)
/* The thread sanitizer leaves less of the address space. */
#ifdef __SANITIZE_THREAD__
#define THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER 1
#endif
#endif
#ifdef THREAD_SANITIZER
#define RANGE (UINT64_C(64) << 30)
#else
#define RANGE (UINT64_C(1) << 40)
#endif
#define RECORDS (UINT64_C(1) << 26)
#define CANARY  0xa5

/* What a page is: the number of its record, its kind, and whether it is the one
 * behind.  Written by whoever takes it, before anybody else knows of it. */
struct page {
    uint32_t record;
    uint8_t kind, behind;
    uint16_t place; /* of what begins in it */
};

static struct {
    uint8_t *base; /* set once */
    struct page *pages;
    struct guard_record *records;
    _Atomic uint64_t pages_used, records_used;
} guard;

static void *reserve(uint64_t bytes, int protection)
{
    void *memory = mmap(NULL, bytes, protection,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        host_die("there is not enough address space (ulimit -v?)");
    return memory;
}

struct guard_record *guard_record_new(void)
{
    uint64_t i = atomic_fetch_add(&guard.records_used, 1);

    if (i >= RECORDS)
        host_die("too many requests for one run; use a smaller --operations");
    return &guard.records[i];
}

bool guard_is_short(void)
{
    return atomic_load(&guard.pages_used) > RANGE / PAGE / 8 * 7 ||
           atomic_load(&guard.records_used) > RECORDS / 8 * 7;
}

static uint64_t page_of(const void *address)
{
    return (uint64_t)((const uint8_t *)address - guard.base) / PAGE;
}

void *guard_take(struct guard_record *record, enum guard_kind kind, size_t size,
                 size_t alignment, size_t spare)
{
    uint64_t room = (size + alignment - 1) / alignment * alignment + spare;
    uint64_t n = (room + PAGE - 1) / PAGE;
    uint64_t first = atomic_fetch_add(&guard.pages_used, n + 1);
    uint8_t *begin = guard.base + first * PAGE;
    uint8_t *memory = begin + n * PAGE - room;

    if (first + n + 1 > RANGE / PAGE)
        host_die("too many requests for one run; use a smaller --operations");
    if (mprotect(begin, n * PAGE, PROT_READ | PROT_WRITE))
        host_die("there is no memory left");
    for (uint64_t i = first; i <= first + n; i++)
        guard.pages[i] = (struct page){
            .record = (uint32_t)(record - guard.records),
            .kind = (uint8_t)kind,
            .behind = i == first + n,
            .place = i == first ? (uint16_t)(memory - begin) : UINT16_MAX,
        };
    memset(begin, CANARY, (size_t)(memory - begin));
    memset(memory + size, CANARY, (size_t)(room - size));
    return memory;
}

/* The pages that it lies in. */
static uint8_t *whole(const void *memory, size_t size, size_t *ret_bytes)
{
    uint8_t *begin = guard.base + page_of(memory) * PAGE;
    uint64_t used = (uint64_t)((const uint8_t *)memory - begin) + size;

    *ret_bytes = (used + PAGE - 1) / PAGE * PAGE;
    return begin;
}

void guard_set_writable(void *memory, size_t size, bool writable)
{
    size_t bytes;
    uint8_t *begin = whole(memory, size, &bytes);

    mprotect(begin, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ);
}

static bool is_canary(const uint8_t *begin, const uint8_t *end)
{
    while (begin < end && *begin == CANARY)
        begin++;
    return begin == end;
}

bool guard_end(void *memory, size_t size)
{
    size_t bytes;
    uint8_t *begin = whole(memory, size, &bytes);
    bool intact = is_canary(begin, memory) &&
                  is_canary((uint8_t *)memory + size, begin + bytes);

    /* A new mapping joins its neighbours, which a protected one may not. */
    if (mmap(begin, bytes, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
             0) == MAP_FAILED)
        host_die("there is no memory left");
    return intact;
}

struct guard_record *guard_find(const void *address, enum guard_kind kind)
{
    uint64_t at = (uint64_t)((const uint8_t *)address - guard.base);
    const struct page *page = &guard.pages[at / PAGE];

    if ((const uint8_t *)address < guard.base || at >= RANGE ||
        at / PAGE >= atomic_load(&guard.pages_used) || page->behind ||
        page->kind != (uint8_t)kind || page->place != at % PAGE)
        return NULL;
    return &guard.records[page->record];
}

const char *guard_describe(const struct guard_record *record)
{
    static _Thread_local char text[128];
    static const char *const names[] = {
        [ABD_OP_READ] = "READ",   [ABD_OP_WRITE] = "WRITE",
        [ABD_OP_ZERO] = "ZERO",   [ABD_OP_TRIM] = "TRIM",
        [ABD_OP_FLUSH] = "FLUSH", [ABD_OP_EXTENTS] = "EXTENTS",
        [ABD_OP_CACHE] = "CACHE",
    };
    bool known =
        record->op < sizeof names / sizeof names[0] && names[record->op];

    if (record->op == ABD_OP_FLUSH)
        snprintf(text, sizeof text, "request %" PRIu64 " (FLUSH)", record->id);
    else
        snprintf(text, sizeof text,
                 "request %" PRIu64 " (%s of %" PRIu64 " bytes at %" PRIu64 ")",
                 record->id, known ? names[record->op] : "?", record->length,
                 record->offset);
    return text;
}

const char *guard_blame(const struct guard_record *record)
{
    const struct worker *worker = host_worker();
    const char *who = worker ? atomic_load(&worker->who) : NULL;

    return who ? who : atomic_load(&record->who);
}

/* --- faults --- */

static _Thread_local const struct guard_record *reading_lent;
static _Thread_local const char *lender;

void guard_lent_begin(const struct guard_record *record, const char *who)
{
    reading_lent = record;
    lender = who;
}

void guard_lent_end(void)
{
    reading_lent = NULL;
}

static const char *const kinds[] = {
    [GUARD_REQUEST] = "the struct",
    [GUARD_SCRATCH] = "the scratch",
    [GUARD_DATA] = "the data",
};

__attribute__((noreturn)) static void blame_disk(
    const struct guard_record *record, const struct page *page)
{
    const char *who = guard_blame(record);

    if (page->behind)
        rules_stop(RULE_BOUNDS, who,
                   "it touched a struct abd_disk beyond struct_size");
    rules_stop(RULE_DISK_GONE, who, "it touched a disk after abd_closed()");
}

__attribute__((noreturn)) static void blame(const struct page *page)
{
    const struct guard_record *record = &guard.records[page->record];
    const char *who = guard_blame(record);
    uint32_t state = atomic_load(&record->state);

    if (page->kind == GUARD_DISK)
        blame_disk(record, page);
    if (page->behind)
        rules_stop(RULE_BOUNDS, who, "it left %s of %s", kinds[page->kind],
                   guard_describe(record));
    if (state == GUARD_PLUGINS)
        rules_stop(RULE_CONSTANT, who, "it wrote to %s of %s",
                   kinds[page->kind], guard_describe(record));
    rules_stop(RULE_AFTER_END, who,
               "it touched %s of %s after having completed it",
               kinds[page->kind], guard_describe(record));
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    uint64_t at = (uint64_t)((uint8_t *)info->si_addr - guard.base);

    (void)context;
    if (reading_lent)
        rules_stop(RULE_LENT_STAYS, lender,
                   "what was lent for %s can't be read before release()",
                   guard_describe(reading_lent));
    if ((uint8_t *)info->si_addr >= guard.base && at < RANGE &&
        at / PAGE < atomic_load(&guard.pages_used))
        blame(&guard.pages[at / PAGE]);
    rules_stop(RULE_CRASH, host_busy_with(), "signal %d (%s), address %p",
               number, strsignal(number), info->si_addr);
}

static void on_abort(int number)
{
    (void)number;
    rules_stop(RULE_LOOP, host_busy_with(),
               "abort() was called, and a message above may say why");
}

void guard_init(void)
{
    struct sigaction fault = {.sa_sigaction = on_fault,
                              .sa_flags = SA_SIGINFO | SA_NODEFER};

    guard.base = reserve(RANGE, PROT_NONE);
    guard.pages =
        reserve(RANGE / PAGE * sizeof *guard.pages, PROT_READ | PROT_WRITE);
    guard.records =
        reserve(RECORDS * sizeof *guard.records, PROT_READ | PROT_WRITE);
    sigaction(SIGSEGV, &fault, NULL);
    sigaction(SIGBUS, &fault, NULL);
    sigaction(SIGILL, &fault, NULL);
    sigaction(SIGFPE, &fault, NULL);
    signal(SIGABRT, on_abort);
}
