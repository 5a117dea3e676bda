/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

#include "tools/check/rules.h"

#include "tools/check/options.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static const struct {
    const char *name, *what;
} rules[RULES] = {
    [RULE_ENTRY] = {"entry", "what the shared object says of itself"},
    [RULE_CONFIGURE] = {"configure", "create, config, ready and start succeed"},
    [RULE_SAYS_WHY] = {"says-why", "what refuses a parameter logs the reason"},
    [RULE_OPEN] = {"open", "each open() ends with one abd_opened()"},
    [RULE_CLOSE] = {"close", "each close() ends with one abd_closed()"},
    [RULE_DISK_FIELDS] = {"disk-fields", "what open() says of the disk"},
    [RULE_DISK_CONSTANT] = {"disk-constant",
                            "what the disk says stays after abd_opened()"},
    [RULE_DISK_GONE] = {"disk-gone", "nothing follows abd_closed()"},
    [RULE_EXPORTS] = {"exports", "LIST, and the disks that it names"},
    [RULE_CLIENTS] = {"clients", "admit() and leave(), several clients"},
    [RULE_COMPLETES] = {"completes", "every request ends"},
    [RULE_PROGRESS] = {"progress", "no completion waits for a later request"},
    [RULE_CANCEL] = {"cancel", "cancelled requests still end"},
    [RULE_ONCE] = {"exactly-once", "no request is completed twice"},
    [RULE_OWNER] = {"owner", "only what was submitted is completed"},
    [RULE_INLINE] = {"inline", "INLINE completes before submit() returns"},
    [RULE_ERRORS] = {"errors", "errors are errno values, their places inside"},
    [RULE_SUCCEEDS] = {"succeeds", "what ops promises does not fail"},
    [RULE_CONSTANT] = {"request-constant",
                       "a request and a WRITE's data are not written to"},
    [RULE_BOUNDS] = {"bounds", "data and scratch are not left"},
    [RULE_AFTER_END] = {"after-end", "nothing is touched after completion"},
    [RULE_DATA] = {"data", "READs give what was written"},
    [RULE_KEEPS] = {"keeps", "the contents outlive closing and opening"},
    [RULE_READ_ONLY] = {"read-only", "the same disk, opened read-only"},
    [RULE_FAST_ZERO] = {"fast-zero", "fast zeroes are made or refused"},
    [RULE_EXTENTS] = {"extents", "extents lie inside the disk"},
    [RULE_EXTENTS_ZERO] = {"extents-zero", "what is said to be zero is"},
    [RULE_LENT_PIECES] = {"lent-pieces", "pieces cover the request exactly"},
    [RULE_LENT_STAYS] = {"lent-stays", "what is lent stays until release()"},
    [RULE_BLOCKING] = {"blocking", "no callback holds a loop for 100 ms"},
    [RULE_LOOP] = {"loop", "nothing aborts, as misuse of abd-loop.h would"},
    [RULE_CRASH] = {"crash", "no fault of memory"},
    [RULE_INSTANCES] = {"instances", "two instances at once"},
    [RULE_FORWARD] = {"forward", "abd_forward() of what it owns, on its loop"},
    [RULE_CHILDREN] = {"children", "abd_child() as far as abd_filter says"},
    [RULE_BELOW] = {"below", "disks below are used as they say, and closed"},
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all below */
static struct {
    bool broken;
    const char *skipped;
} results[RULES];
static const char *scenario = "start";

/* Shared: only ever set, so relaxed is enough. */
static atomic_bool tried[RULES];
static atomic_bool broken_now, broken_ever;

void rules_try(enum rule rule)
{
    if (!atomic_load_explicit(&tried[rule], memory_order_relaxed))
        atomic_store_explicit(&tried[rule], true, memory_order_relaxed);
}

void rules_skip(enum rule rule, const char *reason)
{
    pthread_mutex_lock(&lock);
    results[rule].skipped = reason;
    pthread_mutex_unlock(&lock);
}

__attribute__((format(printf, 3, 0))) static void say_broken(enum rule rule,
                                                             const char *who,
                                                             const char *format,
                                                             va_list args)
{
    results[rule].broken = true;
    printf("FAILED %s: %s: ", rules[rule].name, who ? who : "abdkit-check");
    vprintf(format, args);
    printf(" (%s, --seed=%" PRIu64 ")\n", scenario, options.seed);
    fflush(stdout);
}

void rules_break(enum rule rule, const char *who, const char *format, ...)
{
    va_list args;

    pthread_mutex_lock(&lock);
    atomic_store(&broken_now, true);
    atomic_store(&broken_ever, true);
    if (!results[rule].broken) {
        va_start(args, format);
        say_broken(rule, who, format, args);
        va_end(args);
    }
    pthread_mutex_unlock(&lock);
}

static int finish(bool early)
{
    unsigned passed = 0, failed = 0, skipped = 0;

    for (unsigned i = 0; i < RULES; i++) {
        if (results[i].broken) {
            failed++;
            continue;
        }
        if (!early && atomic_load(&tried[i])) {
            printf("ok %s\n", rules[i].name);
            passed++;
            continue;
        }
        printf("skipped %s: %s\n", rules[i].name,
               early                ? "the run has stopped at the failure"
               : results[i].skipped ? results[i].skipped
               : broken_ever        ? "the run has stopped at the failure"
                                    : "there was no occasion");
        skipped++;
    }
    printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
    fflush(stdout);
    return failed ? 1 : 0;
}

void rules_stop(enum rule rule, const char *who, const char *format, ...)
{
    va_list args;

    /* Never unlocked: other threads have nothing to add. */
    pthread_mutex_lock(&lock);
    if (!results[rule].broken) {
        va_start(args, format);
        say_broken(rule, who, format, args);
        va_end(args);
    }
    _exit(finish(true));
}

void rules_scenario(const char *name)
{
    pthread_mutex_lock(&lock);
    scenario = name;
    atomic_store(&broken_now, false);
    pthread_mutex_unlock(&lock);
    if (options.verbose) {
        printf("... %s\n", name);
        fflush(stdout);
    }
}

bool rules_broken(void)
{
    return atomic_load(&broken_now);
}

bool rules_ever_broken(void)
{
    return atomic_load(&broken_ever);
}

void rules_list(void)
{
    for (unsigned i = 0; i < RULES; i++)
        printf("%-17s %s\n", rules[i].name, rules[i].what);
}

int rules_finish(void)
{
    int status;

    pthread_mutex_lock(&lock);
    status = finish(false);
    pthread_mutex_unlock(&lock);
    return status;
}
