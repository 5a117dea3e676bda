/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The program: what is done in which order, from the command line to the exit
 * status.
 *
 *     parse, background, load, create, config, ready     privileged, no loops
 *     bind, drop privileges                              nothing served yet
 *     server, start, listen, pidfile, release            clients can connect
 *     wait, drain, destroy, remove                       the end
 *
 * The main thread does nothing else than that; meanwhile it sleeps in poll().
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "loop/host.h"
#include "loop/work.h"
#include "server/background.h"
#include "server/captive.h"
#include "server/chain.h"
#include "server/dump.h"
#include "server/leftovers.h"
#include "server/listener.h"
#include "server/module.h"
#include "server/open_files.h"
#include "server/options.h"
#include "server/privileges.h"
#include "server/server.h"
#include "server/settings.h"
#include "server/sockets.h"
#include "server/status.h"
#include "server/uri.h"
#include "server/usage.h"

/* How long a command of --run may take to end once it has been asked to. */
#define COMMAND_END_MS 2000

struct program {
    struct options options;
    struct identity identity;
    struct sockets sockets;
    struct captive captive;
    pid_t parent;              /* who it was at the start */
    int signal_fd;             /* SIGTERM, SIGINT, SIGQUIT */
    int single_in, single_out; /* -s */
    int status_fd;             /* --status; -1: none */
    const char *uri;           /* NULL: none */
};

/* Signals. */

/* For the handler, set before it is installed. */
static pthread_t main_thread;

static void set_handlers(void (*handler)(int number))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};

    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGQUIT, &action, NULL);
}

static void fill_ending_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGQUIT);
}

/* A plugin may have started a thread that does not block it. */
static void pass_to_main(int number)
{
    pthread_kill(main_thread, number);
}

/* Before there are threads, so that they block what ends the server, and only
 * signal_fd tells of it.  Until now (a plugin may ask for a password) such a
 * signal has ended the process at once. */
static int take_signals(struct program *program)
{
    sigset_t ending;

    main_thread = pthread_self();
    set_handlers(pass_to_main);
    fill_ending_signals(&ending);
    if (sigprocmask(SIG_BLOCK, &ending, NULL) < 0)
        return errno;
    program->signal_fd = signalfd(-1, &ending, SFD_CLOEXEC | SFD_NONBLOCK);
    return program->signal_fd < 0 ? errno : 0;
}

static void end_at_once(int number)
{
    (void)number;
    leftovers_remove();
    _exit(EXIT_FAILURE);
}

/* The rest is plugins' destroy(): from now on a signal ends it. */
static void release_signals(void)
{
    sigset_t ending;

    set_handlers(end_at_once);
    fill_ending_signals(&ending);
    sigprocmask(SIG_UNBLOCK, &ending, NULL);
}

/* The layers. */

static int load_layers(const struct options *options)
{
    int err = 0;

    module_set_path(MODULE_PLUGIN, options->plugin_path.at);
    module_set_path(MODULE_FILTER, options->filter_path.at);
    for (unsigned i = 0; i < options->filters.n && !err; i++)
        err = chain_load_filter(options->filters.at[i]);
    if (!err && options->plugin)
        err = chain_load_plugin(options->plugin);
    return err;
}

static int configure_layers(const struct options *options)
{
    int err = chain_complete();

    for (unsigned i = 0; i < options->debug_flags.n && !err; i++)
        err = chain_set_debug_flag(options->debug_flags.at[i]);
    if (!err)
        err = chain_create();
    for (unsigned i = 0; i < options->parameters.n && !err; i++)
        err = chain_configure(options->parameters.at[i]);
    return err;
}

/* Everything that needs privileges, or may fail for the user's sake. */
static int prepare(struct program *program)
{
    const struct options *options = &program->options;
    int err =
        privileges_find(options->user, options->group, &program->identity);

    if (!err)
        err = load_layers(options);
    if (!err)
        err = configure_layers(options);
    if (!err && options->swap)
        err = privileges_lock_memory();
    if (!err)
        err = take_signals(program);
    if (!err)
        err = chain_ready();
    if (!err)
        err = open_files_raise();
    if (!err && settings.status_path)
        err = sockets_listen_unix(settings.status_path, &program->identity,
                                  &program->status_fd);
    if (!err && !options->single)
        err = sockets_open(options, &program->identity, &program->sockets);
    if (!err && (options->user || options->group))
        err = leftovers_keep_privileges(options->pidfile);
    if (!err)
        err = privileges_drop(&program->identity);
    if (!err && options->exit_with_parent)
        err = privileges_exit_with_parent(program->parent);
    return err;
}

/* Clients. */

static int listen_for_clients(struct program *program)
{
    for (unsigned i = 0; i < program->sockets.n; i++) {
        int err = listener_add(program->sockets.fds[i]);

        if (err) {
            log_write(ABD_ERROR, NULL, "listening: %s", strerror(err));
            return err;
        }
    }
    return 0;
}

static int make_uri(struct program *program)
{
    const struct options *options = &program->options;
    const struct sockets *sockets = &program->sockets;

    program->uri = uri_make(&(struct uri_parts){
        .unix_path = sockets->unix_path,
        .host = options->ip_address,
        .tcp_port = options->tcp ? sockets->port : 0,
        .vsock_port = sockets->port,
        .export_name = settings.export_name,
    });
    if (!program->uri)
        log_write(ABD_ERROR, NULL, "URI: %s", strerror(ENOMEM));
    return program->uri ? 0 : ENOMEM;
}

static int start_command(struct program *program)
{
    const struct sockets *sockets = &program->sockets;

    return captive_start(
        program->options.run,
        &(struct captive_variables){
            .uri = program->uri,
            .unix_path = sockets->unix_path ? sockets->unix_path : "",
            .export_name = settings.export_name,
            .port = sockets->port,
        },
        &program->captive);
}

/* Messages went to the terminal until now; then to where they shall. */
static enum log_destination choose_log(const struct options *options)
{
    enum log_destination destination = options->log;

    if (!options->log_given)
        destination = options->foreground ? LOG_TO_STDERR : LOG_TO_SYSLOG;
    if (destination != LOG_TO_STDERR)
        log_open(destination, "abdkit");
    return destination;
}

static int serve_single(struct program *program)
{
    int err = server_serve(program->single_in, program->single_out);

    if (err)
        log_write(ABD_ERROR, NULL, "serving stdin and stdout: %s",
                  strerror(err));
    return err;
}

/* The loops run: whatever can fail comes before the first client is accepted.
 * The sockets are listening, so that clients may already connect. */
static int open_doors(struct program *program)
{
    const struct options *options = &program->options;
    enum log_destination log;
    int err = chain_start();

    if (!err)
        err = status_start(program->status_fd);
    if (!err)
        err = listen_for_clients(program);
    if (!err && program->sockets.n && !options->activated)
        err = make_uri(program);
    if (!err && options->pidfile)
        err = leftovers_write_pidfile(options->pidfile);
    if (!err && options->print_uri && printf("%s\n", program->uri) >= 0)
        fflush(stdout);
    if (!err && options->run)
        err = start_command(program);
    if (err)
        return err;
    log = choose_log(options);
    if (options->single)
        return serve_single(program);
    listeners_start();
    if (background_release(log == LOG_TO_STDERR))
        return 0;
    log_write(ABD_ERROR, NULL, "whoever started the server has been ended");
    return ECANCELED;
}

/* The end. */

/* Returns when the server is to end. */
static void wait_for_end(struct program *program)
{
    struct pollfd fds[] = {
        {.fd = program->signal_fd, .events = POLLIN},
        {.fd = server_event_fd(), .events = POLLIN},
        {.fd = program->captive.pidfd, .events = POLLIN},
    };
    struct signalfd_siginfo info;

    for (;;) {
        struct server_events events = {.shutdown = false};

        if (poll(fds, 3, -1) < 0 && errno != EINTR)
            return;
        if (fds[1].revents)
            events = server_take_events();
        if (fds[0].revents &&
            read(program->signal_fd, &info, sizeof info) == sizeof info)
            return;
        if (fds[2].revents || events.shutdown ||
            (events.last_left && program->options.single))
            return;
    }
}

static bool is_readable(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};

    return poll(&one, 1, 0) > 0;
}

/* Ends the command, too, if it goes on.  Returns the exit status. */
static int finish_command(struct program *program, int status)
{
    int of_command;

    if (program->captive.pidfd < 0)
        return status;
    of_command = captive_finish(&program->captive, COMMAND_END_MS);
    if (of_command < 0)
        log_write(ABD_WARNING, NULL,
                  "--run: the command goes on, without its disk");
    return of_command > 0 ? of_command : status;
}

/* Drains and takes everything down.  Returns the exit status, or does not
 * return: requests are then still with a plugin, whose code must not find the
 * process half gone. */
static int finish(struct program *program, int status)
{
    bool drained;

    if (program->captive.pidfd >= 0 && !is_readable(program->captive.pidfd))
        captive_terminate(&program->captive);
    drained = server_drain(program->signal_fd);
    status_stop();
    if (!drained) {
        leftovers_remove();
        /* After a second signal nothing is waited for. */
        if (!is_readable(program->signal_fd))
            finish_command(program, EXIT_FAILURE);
        _exit(EXIT_FAILURE);
    }
    release_signals();
    chain_destroy();
    work_finish();
    leftovers_remove();
    return finish_command(program, status);
}

static int serve(struct program *program)
{
    int err = program->options.foreground ? 0 : background_enter();

    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    if (!err && program->options.single)
        err = background_take_stdio(&program->single_in, &program->single_out);
    if (!err)
        err = prepare(program);
    work_set_threads(settings.work_threads);
    if (!err) {
        err = server_create();
        if (err && program->options.swap)
            log_write(ABD_ERROR, NULL,
                      "--swap: all of it must be locked; the limit of locked "
                      "memory may be too low (ulimit -l, or be root)");
    }
    if (err) {
        chain_destroy();
        leftovers_remove();
        return EXIT_FAILURE;
    }
    err = open_doors(program);
    if (!err)
        wait_for_end(program);
    return finish(program, err ? EXIT_FAILURE : EXIT_SUCCESS);
}

/* Other things than serving. */

static int tell_about_layers(const struct options *options)
{
    int err = load_layers(options);

    if (!err && options->action == ACTION_DUMP_PLUGIN) {
        err = chain_complete();
        if (!err)
            err = chain_create();
        if (!err)
            dump_plugin();
        chain_destroy();
    } else if (!err && options->action == ACTION_HELP) {
        dump_layer_parameters();
    } else if (!err) {
        dump_layer_versions();
    }
    return err || fflush(stdout) != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int act(struct program *program)
{
    const struct options *options = &program->options;

    switch (options->action) {
    case ACTION_SERVE:
        return serve(program);
    case ACTION_HELP:
        usage_print();
        return tell_about_layers(options);
    case ACTION_VERSION:
        dump_version();
        return tell_about_layers(options);
    case ACTION_DUMP_PLUGIN:
        return tell_about_layers(options);
    case ACTION_DUMP_CONFIG:
        dump_config();
        break;
    case ACTION_SHORT_OPTIONS:
        options_print_short();
        break;
    case ACTION_LONG_OPTIONS:
        options_print_long();
        break;
    case ACTION_STATUS_OF:
        return status_of(options->status_of);
    }
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    /* Static, since it lasts as long as the process, main() or not. */
    static struct program program = {.captive = {.pidfd = -1}, .status_fd = -1};
    int err = background_fill_stdio();

    program.parent = getppid();
    log_open(LOG_TO_STDERR, "abdkit");
    if (!err)
        err = host_remember_directory();
    if (err) {
        log_write(ABD_ERROR, NULL, "starting: %s", strerror(err));
        return EXIT_FAILURE;
    }
    if (options_parse(argc, argv, &program.options))
        return EXIT_FAILURE;
    return act(&program);
}
