/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* abdkit-check: the command line.  See kit.h. */
#include "tools/kit/kit.h"

#include "base/log.h"
#include "base/parse.h"
#include "loop/host.h"
#include "loop/work.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct kit_options options = {
    .operations = 4000,
    .timeout_ns = UINT64_C(30) * 1000000000,
    .loops = 2,
    .depth = 32,
    .may_write = true,
    .keeps = true,
};

static void usage(FILE *to)
{
    fputs("Usage: abdkit-check [OPTIONS] PLUGIN.so [KEY=VALUE ...]\n"
          "\n"
          "Uses the plugin's disk as no client could, and says which rules of\n"
          "abdkit-plugin(3) it breaks.  DATA ON THE DISK ARE OVERWRITTEN,\n"
          "unless --writes=no.\n"
          "\n"
          "  --seed=N        repeats a run; printed with every failure\n"
          "  --operations=N  of each random check (4000)\n"
          "  --depth=N       requests at once, for each loop (32)\n"
          "  --loops=N       event loops (2)\n"
          "  --timeout=TIME  how long one request may take (30s)\n"
          "  --writes=no     never writes\n"
          "  --keeps=no      the disk forgets what is written, and may\n"
          "  --slow=yes      callbacks may take long: under sanitizers\n"
          "  --list          names the checks\n"
          "  -v              more messages\n",
          to);
}

static void refuse(const char *option, const char *value, const char *why)
{
    fprintf(stderr, "abdkit-check: --%s=%s: %s\n", option, value, why);
    exit(2);
}

static uint64_t number(const char *option, const char *value, uint64_t min,
                       uint64_t max)
{
    const char *why = NULL;
    uint64_t n;

    if (parse_number(value, max, &n, &why))
        refuse(option, value, why);
    if (n < min)
        refuse(option, value, "too small");
    return n;
}

static const struct option longs[] = {
    {"seed", required_argument, NULL, 's'},
    {"operations", required_argument, NULL, 'o'},
    {"depth", required_argument, NULL, 'd'},
    {"loops", required_argument, NULL, 'l'},
    {"timeout", required_argument, NULL, 't'},
    {"writes", required_argument, NULL, 'w'},
    {"keeps", required_argument, NULL, 'k'},
    {"slow", required_argument, NULL, 'S'},
    {"list", no_argument, NULL, 'L'},
    {"help", no_argument, NULL, 'h'},
    {"verbose", no_argument, NULL, 'v'},
    {NULL, 0, NULL, 0},
};

static void take_option(int option)
{
    const char *why = NULL;

    switch (option) {
    case 's':
        options.seed = number("seed", optarg, 0, UINT64_MAX);
        break;
    case 'o':
        options.operations = number("operations", optarg, 1, UINT32_MAX);
        break;
    case 'd':
        options.depth = (unsigned)number("depth", optarg, 1, 65536);
        break;
    case 'l':
        options.loops = (unsigned)number("loops", optarg, 1, LOOPS_MAX);
        break;
    case 't':
        if (parse_delay(optarg, &options.timeout_ns, &why))
            refuse("timeout", optarg, why);
        break;
    case 'w':
        if (parse_bool(optarg, &options.may_write, &why))
            refuse("writes", optarg, why);
        break;
    case 'k':
        if (parse_bool(optarg, &options.keeps, &why))
            refuse("keeps", optarg, why);
        break;
    case 'S':
        if (parse_bool(optarg, &options.may_be_slow, &why))
            refuse("slow", optarg, why);
        break;
    case 'v':
        options.verbose = true;
        break;
    case 'L':
        checks_list();
        exit(0);
    case 'h':
        usage(stdout);
        exit(0);
    default:
        usage(stderr);
        exit(2);
    }
}

/* Memory of an ended request was touched; or any other crash in the plugin. */
static void on_fault(int number)
{
    (void)number;
    report_fatal("it touched memory that is not there: perhaps data or scratch "
                 "of a request that had ended");
}

static void on_slow(const char *name, uint64_t ns)
{
    if (options.may_be_slow || strcmp(name, "server") == 0)
        return; /* the kit itself, with its model */
    report_failure("%s held a loop for %llu ms", name,
                   (unsigned long long)(ns / 1000000));
}

int main(int argc, char **argv)
{
    int option, status;

    options.seed = (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
    while ((option = getopt_long(argc, argv, "+vh", longs, NULL)) != -1)
        take_option(option);
    if (optind == argc) {
        usage(stderr);
        return 2;
    }
    host_remember_directory();
    log_open(LOG_TO_STDERR, "abdkit-check");
    log_set_verbose(options.verbose);
    options.path = argv[optind];
    options.parameters = argv + optind + 1;
    options.parameters_n = (unsigned)(argc - optind - 1);
    printf("seed %llu\n", (unsigned long long)options.seed);
    report_begin("plugin");
    plugin_load();
    report_end();
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    loops_set_slow_report(on_slow);
    if (loops_create(options.loops) || loops_start())
        report_fatal("the kit can't start its loops");
    checks_run();
    status = report_finish();
    loops_stop();
    work_finish();
    return status;
}
