/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* --run: the command is a child of the server, watched by a pidfd.
 *
 * Its variables are assignments in front of it, as with nbdkit: the shell that
 * runs it knows them, programs that it starts do not unless it says "export".
 * Main thread. */
#include "server/captive.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

extern char **environ;

/* NAME='VALUE', with each ' of the value written as '\''. */
static void assign(FILE *script, const char *name, const char *value)
{
    fprintf(script, "%s='", name);
    for (; *value; value++)
        if (*value == '\'')
            fputs("'\\''", script);
        else
            fputc(*value, script);
    fputs("'\n", script);
}

/* The caller's to free; NULL: no memory. */
static char *make_script(const char *command,
                         const struct captive_variables *variables)
{
    char *text = NULL;
    size_t length = 0;
    FILE *script = open_memstream(&text, &length);
    char port[16] = "";

    if (!script)
        return NULL;
    if (variables->port)
        snprintf(port, sizeof port, "%u", variables->port);
    assign(script, "uri", variables->uri);
    assign(script, "nbd", variables->uri);
    assign(script, "unixsocket", variables->unix_path);
    assign(script, "port", port);
    assign(script, "exportname", variables->export_name);
    /* As nbdkit without TLS: not set, even if the environment has one. */
    fputs("unset tls\n", script);
    fputs(command, script);
    if (fclose(script) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* With signals as a program expects them; the server blocks some and ignores
 * some. */
static int spawn(const char *script, pid_t *ret)
{
    char *const argv[] = {(char[]){"/bin/sh"}, (char[]){"-c"}, (char *)script,
                          NULL};
    posix_spawnattr_t attributes;
    sigset_t none, ignored;
    int err = posix_spawnattr_init(&attributes);

    if (err)
        return err;
    sigemptyset(&none);
    sigemptyset(&ignored);
    sigaddset(&ignored, SIGHUP);
    sigaddset(&ignored, SIGPIPE);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &ignored);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    err = posix_spawn(ret, "/bin/sh", NULL, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    return err;
}

int captive_start(const char *command,
                  const struct captive_variables *variables,
                  struct captive *ret)
{
    _cleanup_free_ char *script = make_script(command, variables);
    struct captive captive = {.pidfd = -1};
    int err = script ? spawn(script, &captive.pid) : ENOMEM;

    if (!err) {
        captive.pidfd = pidfd_open(captive.pid, 0);
        err = captive.pidfd < 0 ? errno : 0;
    }
    if (err) {
        log_write(ABD_ERROR, NULL, "--run: %s", strerror(err));
        return err;
    }
    *ret = captive;
    return 0;
}

void captive_terminate(const struct captive *captive)
{
    if (captive->pidfd >= 0)
        pidfd_send_signal(captive->pidfd, SIGTERM, NULL, 0);
}

int captive_finish(struct captive *captive, int milliseconds)
{
    struct pollfd fd = {.fd = captive->pidfd, .events = POLLIN};
    siginfo_t info = {0};

    if (poll(&fd, 1, milliseconds) <= 0)
        return -1;
    if (waitid(P_PIDFD, (id_t)captive->pidfd, &info, WEXITED) < 0)
        return EXIT_FAILURE;
    close(captive->pidfd);
    captive->pidfd = -1;
    if (info.si_code == CLD_EXITED)
        return info.si_status;
    log_write(ABD_ERROR, NULL, "--run: the command was ended by signal %d (%s)",
              info.si_status, strsignal(info.si_status));
    return 128 + info.si_status;
}
