/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* abdkit-check: holds a plugin, or filters over one, to the contract.
 *
 * It is a host that is no server: it opens the disk and uses it as no client
 * could, at every border and in every order, and watches each rule of the
 * public headers (rules.h).  The main thread runs one scenario after the other
 * and waits; whatever touches the disk runs on loops. */
#include "tools/check/checks.h"
#include "tools/check/guard.h"
#include "tools/check/host.h"
#include "tools/check/options.h"
#include "tools/check/registered.h"
#include "tools/check/rules.h"

#include "base/log.h"
#include "base/parse.h"
#include "loop/host.h"
#include "loop/work.h"

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S UINT64_C(1000000000)

struct options options = {
    .operations = 2000,
    .timeout_ns = 30 * NS_PER_S,
    .held_ns = NS_PER_S / 10,
    .loops = 2,
    .depth = 32,
    .writes = true,
    .keeps = true,
};

static const char usage[] =
    "Usage: abdkit-check [OPTIONS] [FILTER.so ...] PLUGIN.so [KEY=VALUE ...]\n"
    "\n"
    "Uses the plugin's disk in every way that abdkit-plugin(3) allows, and\n"
    "says which rules it breaks.  WHAT IS ON THE DISK IS OVERWRITTEN, unless\n"
    "--writes=no is given.\n"
    "\n"
    "  --seed=N           repeats a run; printed by each\n"
    "  --operations=N     of each random scenario (2000)\n"
    "  --time=TIME        all of it again and again, for so long\n"
    "  --depth=N          requests at once, for each loop (32)\n"
    "  --loops=N          event loops (2)\n"
    "  --timeout=TIME     no request takes longer (30s)\n"
    "  --held=TIME        no callback holds a loop longer (100ms)\n"
    "  --writes=no        nothing is written\n"
    "  --keeps=no         the disk forgets what is written, and may\n"
    "  --errors=yes       operations may fail\n"
    "  --other=KEY=VALUE  a parameter of the second instance, which has the\n"
    "                     same as the first otherwise\n"
    "  --list             names the rules\n"
    "  -v, --verbose      more messages\n";

__attribute__((noreturn)) static void refuse(const char *option,
                                             const char *value, const char *why)
{
    fprintf(stderr, "abdkit-check: --%s=%s: %s\n", option, value, why);
    exit(2);
}

static uint64_t number(const char *option, uint64_t min, uint64_t max)
{
    const char *why = NULL;
    uint64_t n = 0;

    if (parse_number(optarg, max, &n, &why))
        refuse(option, optarg, why);
    if (n < min)
        refuse(option, optarg, "too small");
    return n;
}

static uint64_t delay(const char *option)
{
    const char *why = NULL;
    uint64_t ns = 0;

    if (parse_delay(optarg, &ns, &why))
        refuse(option, optarg, why);
    if (ns == 0)
        refuse(option, optarg, "too short");
    return ns;
}

static bool truth(const char *option)
{
    const char *why = NULL;
    bool value = false;

    if (parse_bool(optarg, &value, &why))
        refuse(option, optarg, why);
    return value;
}

static const struct option longs[] = {
    {"seed", required_argument, NULL, 's'},
    {"operations", required_argument, NULL, 'o'},
    {"time", required_argument, NULL, 'T'},
    {"depth", required_argument, NULL, 'd'},
    {"loops", required_argument, NULL, 'l'},
    {"timeout", required_argument, NULL, 't'},
    {"held", required_argument, NULL, 'H'},
    {"writes", required_argument, NULL, 'w'},
    {"keeps", required_argument, NULL, 'k'},
    {"errors", required_argument, NULL, 'e'},
    {"other", required_argument, NULL, 'O'},
    {"list", no_argument, NULL, 'L'},
    {"help", no_argument, NULL, 'h'},
    {"verbose", no_argument, NULL, 'v'},
    {NULL, 0, NULL, 0},
};

static void take_other(void)
{
    const char **grown =
        realloc(options.other, (options.other_n + 1) * sizeof *options.other);

    if (!grown)
        host_die("there is no memory left");
    options.other = grown;
    options.other[options.other_n++] = optarg;
}

static void take_option(int option)
{
    switch (option) {
    case 's':
        options.seed = number("seed", 0, UINT64_MAX);
        break;
    case 'o':
        options.operations = number("operations", 4, 10000000);
        break;
    case 'T':
        options.time_ns = delay("time");
        break;
    case 'd':
        options.depth = (unsigned)number("depth", 1, 4096);
        break;
    case 'l':
        options.loops = (unsigned)number("loops", 1, LOOPS_MAX);
        break;
    case 't':
        options.timeout_ns = delay("timeout");
        break;
    case 'H':
        options.held_ns = delay("held");
        break;
    case 'w':
        options.writes = truth("writes");
        break;
    case 'k':
        options.keeps = truth("keeps");
        break;
    case 'e':
        options.errors = truth("errors");
        break;
    case 'O':
        take_other();
        break;
    case 'v':
        options.verbose = true;
        break;
    case 'L':
        rules_list();
        exit(0);
    case 'h':
        fputs(usage, stdout);
        exit(0);
    default:
        fputs(usage, stderr);
        exit(2);
    }
}

/* Modules are those in front; what has a "=" or does not end in ".so" is the
 * first parameter. */
static void take_arguments(int argc, char **argv)
{
    int i = optind;

    while (i < argc && !strchr(argv[i], '=')) {
        size_t length = strlen(argv[i]);

        if (length < 3 || strcmp(argv[i] + length - 3, ".so") != 0)
            break;
        i++;
    }
    if (i == optind) {
        fputs(usage, stderr);
        exit(2);
    }
    options.modules = argv + optind;
    options.modules_n = (unsigned)(i - optind);
    options.parameters = argv + i;
    options.parameters_n = (unsigned)(argc - i);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void begin_other(struct stack *stack)
{
    unsigned n = options.parameters_n + options.other_n;
    const char **all = calloc(n + 1, sizeof *all);

    if (!all)
        host_die("there is no memory left");
    /* A parameter that is in both counts as the second says. */
    n = 0;
    for (unsigned i = 0; i < options.parameters_n; i++) {
        size_t key = strcspn(options.parameters[i], "=") + 1;
        bool replaced = false;

        for (unsigned k = 0; k < options.other_n; k++)
            replaced |=
                strncmp(options.parameters[i], options.other[k], key) == 0;
        if (!replaced)
            all[n++] = options.parameters[i];
    }
    for (unsigned i = 0; i < options.other_n; i++)
        all[n++] = options.other[i];
    stack_begin(stack, all, n);
    free(all);
}

int main(int argc, char **argv)
{
    static struct stack stack, other;
    uint64_t end_ns;
    int option;

    options.seed = now_ns() % 1000000000;
    while ((option = getopt_long(argc, argv, "+vh", longs, NULL)) != -1)
        take_option(option);
    take_arguments(argc, argv);
    host_remember_directory();
    log_open(LOG_TO_STDERR, "abdkit-check");
    log_set_verbose(options.verbose);
    printf("seed %" PRIu64 "\n", options.seed);
    fflush(stdout);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    guard_init();
    stack_load();
    registered_start();
    stack_try_nonsense();
    rules_scenario("start");
    stack_begin(&stack, (const char *const *)options.parameters,
                options.parameters_n);
    begin_other(&other);
    host_start(options.loops);
    stack_start(&stack);
    stack_start(&other);
    end_ns = now_ns() + options.time_ns;
    do {
        checks_run(&stack, &other);
    } while (now_ns() < end_ns && !rules_ever_broken() && !guard_is_short());
    rules_scenario("end");
    registered_check();
    stack_end(&stack);
    stack_end(&other);
    loops_stop();
    work_finish();
    free(options.other);
    return rules_finish();
}
