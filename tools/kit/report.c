/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What is said of the checks: one line each, and a last one. */
#include "tools/kit/kit.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Protects the rest: failures come from any thread. */
static pthread_mutex_t report_lock = PTHREAD_MUTEX_INITIALIZER;
static const char *current;
static bool has_failed, skipped;
static unsigned passed_n, failed_n, skipped_n;

void report_begin(const char *check)
{
    pthread_mutex_lock(&report_lock);
    current = check;
    has_failed = skipped = false;
    pthread_mutex_unlock(&report_lock);
    if (options.verbose)
        printf("...    %s\n", check);
}

__attribute__((format(printf, 1, 0))) static void say_failure(
    const char *format, va_list args)
{
    printf("FAILED %s: %s: ", current, plugin ? plugin->name : options.path);
    vprintf(format, args);
    printf(" (--seed=%llu)\n", (unsigned long long)options.seed);
    fflush(stdout);
}

void report_failure(const char *format, ...)
{
    va_list args;

    pthread_mutex_lock(&report_lock);
    if (!has_failed) {
        has_failed = true;
        va_start(args, format);
        say_failure(format, args);
        va_end(args);
    }
    pthread_mutex_unlock(&report_lock);
}

void report_fatal(const char *format, ...)
{
    va_list args;

    pthread_mutex_lock(&report_lock);
    va_start(args, format);
    say_failure(format, args);
    va_end(args);
    printf("%u passed, %u failed, %u skipped\n", passed_n, failed_n + 1,
           skipped_n);
    fflush(stdout);
    _exit(1);
}

void report_skip(const char *reason)
{
    printf("skip   %s: %s\n", current, reason);
    skipped = true;
}

void report_end(void)
{
    if (skipped) {
        skipped_n++;
    } else if (has_failed) {
        failed_n++;
    } else {
        printf("ok     %s\n", current);
        passed_n++;
    }
    fflush(stdout);
}

bool report_has_failed(void)
{
    bool result;

    pthread_mutex_lock(&report_lock);
    result = has_failed;
    pthread_mutex_unlock(&report_lock);
    return result;
}

int report_finish(void)
{
    printf("%u passed, %u failed, %u skipped\n", passed_n, failed_n, skipped_n);
    return failed_n ? 1 : 0;
}
