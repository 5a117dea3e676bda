/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Files that exist while the server runs: written whole, removed at the end,
 * but never what somebody else has put in their place.  Each case runs in a
 * process of its own, since the list is for a whole process. */
#include "server/leftovers.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "captured.h"

static char folder[] = "/tmp/test-leftovers-XXXXXX";
static char pidfile[64], other[64], sub[64];

static bool exists(const char *path)
{
    struct stat info;

    return lstat(path, &info) == 0;
}

static bool holds(const char *path, long number)
{
    FILE *file = fopen(path, "r");
    long found = -1;

    if (!file)
        return false;
    if (fscanf(file, "%ld\n", &found) != 1)
        found = -1;
    fclose(file);
    return found == number;
}

static void make(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);

    if (fd < 0)
        abort();
    close(fd);
}

/* Runs the case in a child; true: it returned true. */
static bool in_child(bool (*run)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(run() ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(pidfile, sizeof pidfile, "%s/pid", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    snprintf(sub, sizeof sub, "%s/sub", folder);
    return 0;
}

/* Fails if anything is left, drafts of the pidfile, too. */
static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static bool write_and_remove(void)
{
    char inside[80];
    bool good;

    snprintf(inside, sizeof inside, "%s/socket", sub);
    mkdir(sub, 0700);
    leftovers_add(sub, true);
    make(inside);
    leftovers_add(inside, false);
    good = leftovers_write_pidfile(pidfile) == 0 && holds(pidfile, getpid());
    leftovers_remove();
    return good && !exists(pidfile) && !exists(sub);
}

static void what_was_made_is_removed(void **state)
{
    (void)state;
    assert_true(in_child(write_and_remove));
    assert_false(exists(pidfile));
}

static bool replace_old_file(void)
{
    bool good;

    make(pidfile);
    good = leftovers_write_pidfile(pidfile) == 0 && holds(pidfile, getpid());
    leftovers_remove();
    return good && !exists(pidfile);
}

static void an_old_pidfile_is_replaced(void **state)
{
    (void)state;
    assert_true(in_child(replace_old_file));
}

static bool keep_what_is_not_ours(void)
{
    bool good = leftovers_write_pidfile(pidfile) == 0;

    make(other);
    leftovers_remove();
    good = good && !exists(pidfile) && exists(other);
    leftovers_add(other, false);
    /* Another server has taken the place: a new file, while the old one still
     * has its inode. */
    rename(other, pidfile);
    make(other);
    leftovers_remove();
    return good && exists(other);
}

static void what_somebody_else_made_stays(void **state)
{
    (void)state;
    assert_true(in_child(keep_what_is_not_ours));
    assert_int_equal(unlink(other), 0);
    assert_int_equal(unlink(pidfile), 0);
}

static bool write_to_fifo(void)
{
    char text[32] = "";
    bool good;
    int fd;

    mkfifo(other, 0600);
    fd = open(other, O_RDWR);
    good = leftovers_write_pidfile(other) == 0 &&
           read(fd, text, sizeof text - 1) > 0 && atol(text) == getpid();
    leftovers_remove();
    return good && exists(other);
}

static void special_files_are_written_in_place(void **state)
{
    (void)state;
    assert_true(in_child(write_to_fifo));
    assert_int_equal(unlink(other), 0);
}

static bool fail_to_write(void)
{
    struct capture capture;
    char path[80];
    int err;

    snprintf(path, sizeof path, "%s/missing/pid", folder);
    capture_start(&capture);
    err = leftovers_write_pidfile(path);
    return strstr(capture_end(&capture), path) && err == ENOENT;
}

static void a_failure_names_the_path(void **state)
{
    (void)state;
    assert_true(in_child(fail_to_write));
}

/* With a caretaker, in a folder that only root can change. */

static bool give_up_privileges(void)
{
    make(other);
    leftovers_add(other, false);
    if (leftovers_keep_privileges(pidfile))
        return false;
    return geteuid() != 0 || setuid(65534) == 0;
}

static bool use_caretaker(void)
{
    bool good;

    if (exists(pidfile) || !give_up_privileges())
        return false;
    good = leftovers_write_pidfile(pidfile) == 0;
    /* Only root may look at it. */
    raise(SIGSTOP);
    leftovers_remove();
    return good;
}

static void privileges_outlive_the_server_where_needed(void **state)
{
    int status;
    pid_t pid = fork();

    (void)state;
    if (pid == 0)
        _exit(use_caretaker() ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
    assert_true(holds(pidfile, pid));
    assert_true(exists(other));
    assert_int_equal(kill(pid, SIGCONT), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    /* It has waited for the caretaker. */
    assert_false(exists(other));
    assert_false(exists(pidfile));
}

static bool caretaker_fails(void)
{
    struct capture capture;
    char path[80];
    int err;

    snprintf(path, sizeof path, "%s/missing/pid", folder);
    if (leftovers_keep_privileges(path))
        return false;
    capture_start(&capture);
    err = leftovers_write_pidfile(path);
    if (!strstr(capture_end(&capture), path) || err != ENOENT)
        return false;
    leftovers_remove();
    return true;
}

static void the_caretakers_failures_are_told(void **state)
{
    (void)state;
    assert_true(in_child(caretaker_fails));
}

static void a_killed_server_leaves_nothing_to_its_caretaker(void **state)
{
    int status;
    pid_t pid;

    (void)state;
    /* The caretaker becomes our child when its parent is gone. */
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    pid = fork();
    if (pid == 0) {
        if (give_up_privileges() && leftovers_write_pidfile(pidfile) == 0)
            raise(SIGKILL);
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_true(wait(&status) > 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_false(exists(other));
    assert_false(exists(pidfile));
}

int main(void)
{
#define CASE(name)                                                             \
    cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        CASE(what_was_made_is_removed),
        CASE(an_old_pidfile_is_replaced),
        CASE(what_somebody_else_made_stays),
        CASE(special_files_are_written_in_place),
        CASE(a_failure_names_the_path),
        CASE(privileges_outlive_the_server_where_needed),
        CASE(the_caretakers_failures_are_told),
        CASE(a_killed_server_leaves_nothing_to_its_caretaker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
