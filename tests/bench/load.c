/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* abd-load: a load generator for NBD servers.
 *
 * This file is the command line and the report; run.c measures, pump.c is the
 * hot path.  The exit status is 0 only if every request was answered without
 * an error and all data were right.  One thread. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "tests/bench/run.h"

#define MAX_REQUEST     (UINT64_C(64) * 1024 * 1024)
#define MAX_DEPTH       65536
#define MAX_CONNECTIONS 100000

enum choice {
    CHOICE_OP = 256,
    CHOICE_SIZE,
    CHOICE_DEPTH,
    CHOICE_CONNECTIONS,
    CHOICE_PATTERN,
    CHOICE_TIME,
    CHOICE_WARMUP,
    CHOICE_COUNT,
    CHOICE_RATE_LIMIT,
    CHOICE_LATENCY,
    CHOICE_VERIFY,
    CHOICE_PID,
    CHOICE_JSON,
    CHOICE_STRUCTURED,
    CHOICE_EXTENDED,
    CHOICE_EXPORT,
    CHOICE_SEND_BUFFER,
    CHOICE_SEED,
    CHOICE_CPU,
    CHOICE_IDLE,
    CHOICE_WRITER,
    CHOICE_DEAF,
    CHOICE_MIXED_FAIRNESS,
    CHOICE_HELP,
};

static const struct option long_options[] = {
    {"op", required_argument, NULL, CHOICE_OP},
    {"size", required_argument, NULL, CHOICE_SIZE},
    {"depth", required_argument, NULL, CHOICE_DEPTH},
    {"connections", required_argument, NULL, CHOICE_CONNECTIONS},
    {"pattern", required_argument, NULL, CHOICE_PATTERN},
    {"time", required_argument, NULL, CHOICE_TIME},
    {"warmup", required_argument, NULL, CHOICE_WARMUP},
    {"count", required_argument, NULL, CHOICE_COUNT},
    {"rate-limit", required_argument, NULL, CHOICE_RATE_LIMIT},
    {"latency", no_argument, NULL, CHOICE_LATENCY},
    {"verify", no_argument, NULL, CHOICE_VERIFY},
    {"pid", required_argument, NULL, CHOICE_PID},
    {"json", no_argument, NULL, CHOICE_JSON},
    {"structured", no_argument, NULL, CHOICE_STRUCTURED},
    {"extended", no_argument, NULL, CHOICE_EXTENDED},
    {"export", required_argument, NULL, CHOICE_EXPORT},
    {"sndbuf", required_argument, NULL, CHOICE_SEND_BUFFER},
    {"seed", required_argument, NULL, CHOICE_SEED},
    {"cpu", required_argument, NULL, CHOICE_CPU},
    {"idle", required_argument, NULL, CHOICE_IDLE},
    {"writer", no_argument, NULL, CHOICE_WRITER},
    {"deaf", no_argument, NULL, CHOICE_DEAF},
    {"mixed-fairness", no_argument, NULL, CHOICE_MIXED_FAIRNESS},
    {"help", no_argument, NULL, CHOICE_HELP},
    {0},
};

static const char help[] =
    "abd-load [options] URI|SOCKET\n"
    "  --export=NAME          instead of the URI's\n"
    "  --op=read|write|mixed:PERCENT_WRITES|zero|trim|flush\n"
    "  --size=BYTES           of a request (4k)\n"
    "  --depth=N              requests in flight per connection (128)\n"
    "  --connections=N        (1)\n"
    "  --pattern=random|seq\n"
    "  --time=SECONDS         measured time (3, or none with --count)\n"
    "  --count=N              requests, all connections together\n"
    "  --warmup=SECONDS       load before the measured time\n"
    "  --rate-limit=N         requests a second, all together\n"
    "  --structured, --extended  reply style\n"
    "  --verify               data are their own offset; check what is read\n"
    "  --latency              percentiles\n"
    "  --pid=PID              the server: CPU, memory, threads from /proc\n"
    "  --cpu=N                run on this CPU only\n"
    "  --sndbuf=BYTES         SO_SNDBUF of the connections\n"
    "  --seed=N               of the random offsets\n"
    "  --idle=N               N clients do one request each, then rest\n"
    "  --writer               one connection writes 1 MiB requests at depth "
    "64\n"
    "  --deaf                 one connection never reads its replies\n"
    "  --mixed-fairness       64 connections with both of these\n"
    "  --json                 the report as JSON\n";

/* What the command line says beyond the measurement itself. */
struct command_line {
    struct run_options run;
    const char *export_name;
    bool json, latency;
};

static _Noreturn void usage(const char *option, const char *value,
                            const char *why)
{
    fprintf(stderr, "abd-load: %s%s%s: %s\n", option, value ? "=" : "",
            value ? value : "", why);
    exit(2);
}

static const char *name_of(int choice)
{
    for (const struct option *o = long_options; o->name; o++) {
        if (o->val == choice)
            return o->name;
    }
    return "";
}

static uint64_t number(int choice, uint64_t min, uint64_t max)
{
    const char *why;
    uint64_t value;
    char range[80];

    if (parse_number(optarg, max, &value, &why) != 0 || value < min) {
        snprintf(range, sizeof range,
                 "expected a number from %" PRIu64 " to %" PRIu64, min, max);
        usage(name_of(choice), optarg, range);
    }
    return value;
}

static uint64_t size_value(int choice, uint64_t max)
{
    const char *why;
    uint64_t value;

    if (parse_size(optarg, &value, &why) != 0)
        usage(name_of(choice), optarg, why);
    if (value == 0 || value > max)
        usage(name_of(choice), optarg, "out of range");
    return value;
}

static uint64_t delay_value(int choice)
{
    const char *why;
    uint64_t value;

    if (parse_delay(optarg, &value, &why) != 0)
        usage(name_of(choice), optarg, why);
    return value;
}

static void parse_op(struct pump_profile *profile)
{
    static const char *const names[] = {
        [PUMP_READ] = "read", [PUMP_WRITE] = "write", [PUMP_ZERO] = "zero",
        [PUMP_TRIM] = "trim", [PUMP_FLUSH] = "flush",
    };

    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        if (names[i] && strcmp(optarg, names[i]) == 0) {
            profile->op = (enum pump_op)i;
            return;
        }
    }
    const char *why;
    uint64_t percent;
    if (strncmp(optarg, "mixed:", 6) != 0 ||
        parse_number(optarg + 6, 100, &percent, &why) != 0)
        usage("op", optarg,
              "expected read, write, mixed:PERCENT, zero, trim or flush");
    profile->op = PUMP_MIXED;
    profile->write_percent = (unsigned)percent;
}

static void pin(uint64_t cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        usage("cpu", optarg, strerrordesc_np(errno));
}

/* Options of the load itself; false: not one of them. */
static bool parse_load_option(int choice, struct run_options *run)
{
    switch (choice) {
    case CHOICE_OP:
        parse_op(&run->profile);
        return true;
    case CHOICE_SIZE:
        run->profile.size = (unsigned)size_value(choice, MAX_REQUEST);
        return true;
    case CHOICE_DEPTH:
        run->profile.depth = (unsigned)number(choice, 1, MAX_DEPTH);
        return true;
    case CHOICE_CONNECTIONS:
        run->connections = (unsigned)number(choice, 1, MAX_CONNECTIONS);
        return true;
    case CHOICE_TIME:
        run->time_ns = delay_value(choice);
        return true;
    case CHOICE_WARMUP:
        run->warmup_ns = delay_value(choice);
        return true;
    case CHOICE_COUNT:
        run->count = number(choice, 1, UINT64_MAX / 2);
        return true;
    case CHOICE_RATE_LIMIT:
        run->rate_limit = number(choice, 1, 1000000000);
        return true;
    case CHOICE_SEND_BUFFER:
        run->send_buffer = size_value(choice, 1 << 30);
        return true;
    case CHOICE_SEED:
        run->seed = number(choice, 0, UINT64_MAX);
        return true;
    case CHOICE_PATTERN:
        run->sequential = strcmp(optarg, "seq") == 0;
        if (!run->sequential && strcmp(optarg, "random") != 0)
            usage("pattern", optarg, "expected random or seq");
        return true;
    default:
        return false;
    }
}

static void parse_option(int choice, struct command_line *line)
{
    struct run_options *run = &line->run;

    switch (choice) {
    case CHOICE_LATENCY:
        line->latency = true;
        break;
    case CHOICE_VERIFY:
        run->verify = true;
        break;
    case CHOICE_PID:
        run->server = (pid_t)number(choice, 1, INT32_MAX);
        break;
    case CHOICE_JSON:
        line->json = true;
        break;
    case CHOICE_STRUCTURED:
        run->style = REPLY_STRUCTURED;
        break;
    case CHOICE_EXTENDED:
        run->style = REPLY_EXTENDED;
        break;
    case CHOICE_EXPORT:
        line->export_name = optarg;
        break;
    case CHOICE_CPU:
        pin(number(choice, 0, CPU_SETSIZE - 1));
        break;
    case CHOICE_IDLE:
        run->idle = (unsigned)number(choice, 1, MAX_CONNECTIONS);
        break;
    case CHOICE_WRITER:
        run->heavy_writer = true;
        break;
    case CHOICE_DEAF:
        run->deaf = true;
        break;
    case CHOICE_MIXED_FAIRNESS:
        run->heavy_writer = run->deaf = true;
        run->connections = 64;
        break;
    case CHOICE_HELP:
        fputs(help, stdout);
        exit(0);
    default:
        if (!parse_load_option(choice, run))
            exit(2); /* getopt_long has said why */
    }
}

static void check(struct run_options *run)
{
    enum pump_op op = run->profile.op;

    if (run->connections <= (unsigned)run->heavy_writer + run->deaf)
        usage("connections", NULL, "no ordinary one is left");
    if (run->verify && (op == PUMP_ZERO || op == PUMP_TRIM ||
                        run->heavy_writer || run->profile.size % 8 != 0))
        usage("verify", NULL,
              "not with zero, trim, --writer or sizes that 8 doesn't divide");
    if (!run->time_ns && !run->count)
        run->time_ns = 3 * UINT64_C(1000000000);
    if (run->count && run->warmup_ns)
        usage("warmup", NULL, "not with --count");
}

static double per(double total, double n)
{
    return n > 0 ? total / n : 0;
}

/* One line of the report, or one member of the JSON object. */
static void figure(bool json, const char *name, double value, int decimals)
{
    if (json)
        printf(", \"%s\": %.*f", name, decimals, value);
    else
        printf("%-26s %.*f\n", name, decimals, value);
}

static void print_server(const struct run_result *r, bool json)
{
    const struct procstat *before = &r->before, *after = &r->after;
    double n = (double)(r->all.completed + r->writer.completed);
    double cpu_us = (double)(after->cpu_ns - before->cpu_ns) / 1e3;

    figure(json, "server_cpu_seconds", cpu_us / 1e6, 6);
    figure(json, "server_us_per_request", per(cpu_us, n), 3);
    figure(json, "server_user_ms", (double)(after->user_ms - before->user_ms),
           0);
    figure(json, "server_system_ms",
           (double)(after->system_ms - before->system_ms), 0);
    figure(json, "server_processes", (double)after->processes, 0);
    figure(json, "server_threads", (double)after->threads, 0);
    figure(json, "server_threads_before", (double)before->threads, 0);
    figure(json, "server_rss_before_kib", (double)before->rss_kib, 0);
    figure(json, "server_rss_kib", (double)after->rss_kib, 0);
    figure(json, "server_peak_rss_kib", (double)after->peak_kib, 0);
    /* Threads that have ended took their switches with them. */
    figure(json, "server_voluntary_switches",
           (double)after->voluntary - (double)before->voluntary, 0);
    figure(json, "server_involuntary_switches",
           (double)after->involuntary - (double)before->involuntary, 0);
}

static void print_latency(const struct latency *latency, bool json)
{
    static const struct {
        const char *name;
        double part;
    } parts[] = {{"latency_p50_us", 0.5},
                 {"latency_p90_us", 0.9},
                 {"latency_p99_us", 0.99},
                 {"latency_p99.9_us", 0.999}};

    figure(json, "latency_mean_us",
           per((double)latency->sum_ns / 1e3, (double)latency->total), 2);
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++)
        figure(json, parts[i].name,
               (double)latency_percentile(latency, parts[i].part) / 1e3, 2);
    figure(json, "latency_max_us", (double)latency->max_ns / 1e3, 2);
}

static void print_report(const struct command_line *line,
                         const struct run_result *r)
{
    double n = (double)r->all.completed;
    bool json = line->json;

    if (json)
        printf("{\"requests\": %" PRIu64, r->all.completed);
    else
        figure(json, "requests", n, 0);
    figure(json, "errors", (double)r->all.errors, 0);
    figure(json, "mismatches", (double)r->all.mismatches, 0);
    figure(json, "seconds", r->seconds, 4);
    figure(json, "rate", per(n, r->seconds), 1);
    figure(json, "mib_per_second",
           per((double)r->all.bytes / 1048576, r->seconds), 2);
    figure(json, "client_us_per_request",
           per((double)r->client_cpu_ns / 1e3, n + (double)r->writer.completed),
           3);
    figure(json, "slowest_rate", per((double)r->slowest, r->seconds), 1);
    figure(json, "fastest_rate", per((double)r->fastest, r->seconds), 1);
    if (line->run.heavy_writer)
        figure(json, "writer_mib_per_second",
               per((double)r->writer.bytes / 1048576, r->seconds), 2);
    if (line->run.server)
        print_server(r, json);
    if (line->latency)
        print_latency(&r->latency, json);
    if (json)
        puts("}");
}

int main(int argc, char **argv)
{
    static struct run_result result; /* its histogram is large for a stack */
    struct command_line line = {
        .run = {.profile = {.size = 4096, .depth = 128},
                .connections = 1,
                .seed = 1},
    };
    const char *why;
    int choice;

    signal(SIGPIPE, SIG_IGN);
    while ((choice = getopt_long(argc, argv, "", long_options, NULL)) != -1)
        parse_option(choice, &line);
    if (argc - optind != 1) {
        fprintf(stderr, "abd-load: expected one URI or socket; see --help\n");
        return 2;
    }
    check(&line.run);
    int err = target_parse(&line.run.target, argv[optind], &why);
    if (!err && line.export_name) {
        free(line.run.target.export_name);
        line.run.target.export_name = strdup(line.export_name);
    }
    if (err || !line.run.target.export_name) {
        fprintf(stderr, "abd-load: %s: %s\n", argv[optind], why);
        return 2;
    }
    err = run_measure(&line.run, &result);
    target_finish(&line.run.target);
    if (err)
        return 1;
    print_report(&line, &result);
    return result.all.errors || result.all.mismatches ? 1 : 0;
}
