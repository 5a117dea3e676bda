/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Who the process is.  The libc changes the identity of all threads of a
 * process, those of plugins' ready(), too.  Main thread. */
#include "server/privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/parse.h"

/* (uid_t)-1 means "no change" to the kernel. */
#define ID_MAX (UINT32_MAX - 1)

static int fail(const char *what, const char *whom, int err)
{
    log_write(ABD_ERROR, NULL, "%s %s: %s", what, whom, strerror(err));
    return err;
}

static int find_user(const char *user, struct identity *identity)
{
    const struct passwd *entry;
    const char *why = NULL;
    uint64_t number = 0;

    errno = 0;
    entry = getpwnam(user);
    if (entry) {
        identity->uid = entry->pw_uid;
        identity->name = user;
        return 0;
    }
    if (parse_number(user, ID_MAX, &number, &why) == 0) {
        identity->uid = (uid_t)number;
        entry = getpwuid(identity->uid);
        identity->name = entry ? strdup(entry->pw_name) : NULL;
        return 0;
    }
    log_write(ABD_ERROR, NULL, "-u %s: there is no user of that name or number",
              user);
    return ENOENT;
}

static int find_group(const char *group, struct identity *identity)
{
    const struct group *entry;
    const char *why = NULL;
    uint64_t number = 0;

    entry = getgrnam(group);
    if (entry) {
        identity->gid = entry->gr_gid;
        return 0;
    }
    if (parse_number(group, ID_MAX, &number, &why) == 0) {
        identity->gid = (gid_t)number;
        return 0;
    }
    log_write(ABD_ERROR, NULL,
              "-g %s: there is no group of that name or number", group);
    return ENOENT;
}

int privileges_find(const char *user, const char *group, struct identity *ret)
{
    int err = 0;

    *ret = (struct identity){.uid = (uid_t)-1, .gid = (gid_t)-1};
    if (user)
        err = find_user(user, ret);
    if (!err && group)
        err = find_group(group, ret);
    return err;
}

/* The groups besides the main one: those of the user, or none. */
static int set_groups(const struct identity *identity)
{
    gid_t gid = identity->gid == (gid_t)-1 ? getegid() : identity->gid;

    if (identity->gid == (gid_t)-1 && identity->name)
        return initgroups(identity->name, gid) < 0 ? errno : 0;
    return setgroups(1, &gid) < 0 ? errno : 0;
}

int privileges_drop(const struct identity *identity)
{
    bool changes = identity->uid != (uid_t)-1 || identity->gid != (gid_t)-1;
    int err = changes ? set_groups(identity) : 0;

    if (err)
        return fail("changing", "the groups", err);
    if (identity->gid != (gid_t)-1 &&
        setresgid(identity->gid, identity->gid, identity->gid) < 0)
        return fail("changing", "to the group of -g", errno);
    if (identity->uid != (uid_t)-1 &&
        setresuid(identity->uid, identity->uid, identity->uid) < 0)
        return fail("changing", "to the user of -u", errno);
    return 0;
}

int privileges_lock_memory(void)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};

    /* What is mapped after privileges were given up counts against it. */
    if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0)
        log_write(ABD_DEBUG, NULL, "RLIMIT_MEMLOCK: %s", strerror(errno));
    if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
        return fail("--swap:", "locking the memory (ulimit -l, or be root)",
                    errno);
    return 0;
}

int privileges_exit_with_parent(pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
        return fail("--exit-with-parent:", "prctl", errno);
    if (getppid() == parent)
        return 0;
    log_write(ABD_ERROR, NULL, "--exit-with-parent: the parent has ended");
    return ESRCH;
}
