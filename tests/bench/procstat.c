/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Reads /proc for the server that is being measured.
 *
 * CPU time comes from the process's CPU clock, because /proc counts it in
 * ticks of 10 ms, which is a tenth of what a short run uses. */
#include "tests/bench/procstat.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

/* Reads a small file of /proc as text; an empty text if there is none. */
static void read_text(char *text, size_t size, const char *path)
{
    FILE *file = fopen(path, "re");
    size_t length = 0;

    if (file) {
        length = fread(text, 1, size - 1, file);
        fclose(file);
    }
    text[length] = '\0';
}

static uint64_t field(const char *status, const char *name)
{
    const char *found = strstr(status, name);

    return found ? strtoull(found + strlen(name), NULL, 10) : 0;
}

/* Switches are counted per thread; and each thread may have children. */
static int add_threads(struct procstat *sum, pid_t pid,
                       int (*add_child)(struct procstat *, pid_t))
{
    char path[64], text[4096];
    struct dirent *entry;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    if (!tasks)
        return errno == ENOENT ? ESRCH : errno;
    while ((entry = readdir(tasks)) != NULL) {
        int tid = (int)strtol(entry->d_name, NULL, 10);
        if (tid <= 0)
            continue;
        sum->threads++;
        snprintf(path, sizeof path, "/proc/%d/task/%d/status", (int)pid, tid);
        read_text(text, sizeof text, path);
        sum->voluntary += field(text, "\nvoluntary_ctxt_switches:");
        sum->involuntary += field(text, "\nnonvoluntary_ctxt_switches:");
        snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, tid);
        read_text(text, sizeof text, path);
        char *next = text;
        for (long child; (child = strtol(next, &next, 10)) > 0;)
            add_child(sum, (pid_t)child);
    }
    closedir(tasks);
    return 0;
}

static void add_times(struct procstat *sum, pid_t pid)
{
    char path[64], text[1024];
    uint64_t user = 0, system = 0;
    uint64_t tick_ms = 1000 / (uint64_t)sysconf(_SC_CLK_TCK);

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    read_text(text, sizeof text, path);
    /* The name in the second field may contain anything: start behind it. */
    char *next = strrchr(text, ')');
    for (int i = 3; next && i <= 15; i++) {
        next = strchr(next + 1, ' ');
        if (next && i == 14)
            user = strtoull(next, NULL, 10);
        if (next && i == 15)
            system = strtoull(next, NULL, 10);
    }
    sum->user_ms += user * tick_ms;
    sum->system_ms += system * tick_ms;
}

static int add_process(struct procstat *sum, pid_t pid)
{
    char path[64], text[4096];
    struct timespec used;
    clockid_t clock;

    int err = clock_getcpuclockid(pid, &clock);
    if (!err && clock_gettime(clock, &used) < 0)
        err = errno;
    if (err)
        return ESRCH;
    sum->cpu_ns += (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
    sum->processes++;
    add_times(sum, pid);
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    read_text(text, sizeof text, path);
    sum->rss_kib += field(text, "\nVmRSS:");
    sum->peak_kib += field(text, "\nVmHWM:");
    return add_threads(sum, pid, add_process);
}

int procstat_read(struct procstat *ret, pid_t pid)
{
    struct procstat sum = {0};

    int err = add_process(&sum, pid);
    if (!err)
        *ret = sum;
    return err;
}
