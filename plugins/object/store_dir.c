/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A directory as a store.  Every call is one work of the pool.
 *
 * An object comes into being by link(): the file is written beside its place
 * under a name of its own, made durable, and then gets its name, which fails if
 * it is taken.  So what has a name is whole, and nobody sees a part of it.
 * Temporary files of the dead are not listed. */
#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEMPORARY ".tmp-"
#define NAME_ROOM (STORE_NAME_MAX + 1)

struct dir_store {
    struct store store;
    int fd; /* the folder */
    char run[17];
    atomic_uint last; /* temporary file's number */
};

/* A LIST under way: what was found, sorted. */
struct listing {
    char **names;
    uint64_t *sizes;
    size_t n, size;
};

static struct dir_store *dir_of(struct store *store)
{
    return container_of(store, struct dir_store, store);
}

static void answer_errno(struct store_call *call, const char *what, int err)
{
    enum store_result result = STORE_UNKNOWN;

    if (err == ENOSPC || err == EDQUOT || err == EFBIG)
        result = STORE_NO_SPACE;
    else if (err == EACCES || err == EPERM || err == EROFS)
        result = STORE_DENIED;
    else if (err == ENOENT)
        result = STORE_MISSING;
    store_answer(call, result, "%s: %s", what, strerrordesc_np(err));
}

/* No way out of the folder. */
static bool is_name(const char *name)
{
    return name[0] && name[0] != '/' && strlen(name) <= STORE_NAME_MAX &&
           !strstr(name, "..");
}

/* --- CREATE --- */

/* The folder of the name, with its slash cut off; false: the store's own. */
static bool folder_of(const char *name, char folder[NAME_ROOM])
{
    char *slash;

    snprintf(folder, NAME_ROOM, "%s", name);
    slash = strrchr(folder, '/');
    if (!slash)
        return false;
    *slash = '\0';
    return true;
}

static int sync_folder(const struct dir_store *dir, const char *folder)
{
    int fd = openat(dir->fd, folder[0] ? folder : ".",
                    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int err = 0;

    if (fd < 0)
        return errno;
    if (fsync(fd) < 0)
        err = errno;
    close(fd);
    return err;
}

/* Makes the folder and those above it, each durable in its own. */
static int make_folder(const struct dir_store *dir, const char *folder)
{
    char above[NAME_ROOM];
    bool has_above = folder_of(folder, above);
    int err;

    if (mkdirat(dir->fd, folder, 0777) == 0)
        return sync_folder(dir, has_above ? above : "");
    if (errno == EEXIST)
        return 0;
    if (errno != ENOENT || !has_above)
        return errno;
    err = make_folder(dir, above);
    if (err)
        return err;
    if (mkdirat(dir->fd, folder, 0777) < 0 && errno != EEXIST)
        return errno;
    return sync_folder(dir, above);
}

static int write_all(int fd, const struct store_call *call)
{
    for (unsigned i = 0; i < call->body_n; i++) {
        const char *at = call->body[i].iov_base;
        size_t left = call->body[i].iov_len;

        while (left > 0) {
            ssize_t n = write(fd, at, left);

            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return errno;
            at += n;
            left -= (size_t)n;
        }
    }
    return fdatasync(fd) < 0 ? errno : 0;
}

static int open_temporary(const struct dir_store *dir, const char *temporary,
                          const char *folder)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    int fd = openat(dir->fd, temporary, flags, 0666);

    if (fd < 0 && errno == ENOENT && folder[0]) {
        int err = make_folder(dir, folder);

        if (err) {
            errno = err;
            return -1;
        }
        fd = openat(dir->fd, temporary, flags, 0666);
    }
    return fd;
}

static void create(struct dir_store *dir, struct store_call *call)
{
    char folder[NAME_ROOM], temporary[NAME_ROOM + 64];
    bool has_folder = folder_of(call->name, folder);
    int fd, err;

    snprintf(temporary, sizeof temporary, "%s%s" TEMPORARY "%s-%u",
             has_folder ? folder : "", has_folder ? "/" : "", dir->run,
             atomic_fetch_add(&dir->last, 1));
    if (!has_folder)
        folder[0] = '\0';
    fd = open_temporary(dir, temporary, folder);
    if (fd < 0) {
        answer_errno(call, call->name, errno);
        if (call->result == STORE_MISSING)
            call->result = STORE_DENIED; /* the store itself has gone */
        return;
    }
    err = write_all(fd, call);
    close(fd);
    if (!err && linkat(dir->fd, temporary, dir->fd, call->name, 0) < 0)
        err = errno;
    unlinkat(dir->fd, temporary, 0);
    if (!err)
        err = sync_folder(dir, folder);
    if (err == EEXIST)
        store_answer(call, STORE_EXISTS, "%s exists already", call->name);
    else if (err)
        answer_errno(call, call->name, err);
    else
        call->result = STORE_OK;
}

/* --- GET --- */

static int read_range(int fd, struct store_call *call, uint64_t length)
{
    while (call->got < length) {
        ssize_t n =
            pread(fd, (char *)call->into + call->got, length - call->got,
                  (off_t)(call->offset + call->got));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            return 0; /* it has become shorter */
        call->got += (uint64_t)n;
    }
    return 0;
}

static void get(struct dir_store *dir, struct store_call *call)
{
    int fd = openat(dir->fd, call->name, O_RDONLY | O_CLOEXEC);
    uint64_t length;
    struct stat stat;
    int err = 0;

    if (fd < 0 || fstat(fd, &stat) < 0) {
        answer_errno(call, call->name, errno);
        if (fd >= 0)
            close(fd);
        return;
    }
    call->size = (uint64_t)stat.st_size;
    if (!S_ISREG(stat.st_mode)) {
        store_answer(call, STORE_BROKEN, "%s is no file", call->name);
    } else if (call->offset > call->size ||
               (call->offset == call->size && call->size > 0)) {
        store_answer(call, STORE_BROKEN,
                     "%s: a range behind its end of %" PRIu64 " bytes",
                     call->name, call->size);
    } else {
        length = call->size - call->offset;
        if (call->length && length > call->length)
            length = call->length;
        if (length > call->into_max) {
            store_answer(call, STORE_BROKEN,
                         "%s is too long: %" PRIu64 " bytes", call->name,
                         call->size);
        } else {
            call->result = STORE_OK;
            err = read_range(fd, call, length);
        }
    }
    close(fd);
    if (err)
        answer_errno(call, call->name, err);
}

/* --- DELETE --- */

static void delete (struct dir_store *dir, struct store_call *call)
{
    char folder[NAME_ROOM];
    int err = 0;

    if (!folder_of(call->name, folder))
        folder[0] = '\0';
    if (unlinkat(dir->fd, call->name, 0) < 0 && errno != ENOENT)
        err = errno;
    else
        err = sync_folder(dir, folder);
    if (err && err != ENOENT)
        answer_errno(call, call->name, err);
    else
        call->result = STORE_OK;
}

/* --- LIST --- */

static bool add_name(struct listing *listing, const char *name, uint64_t size)
{
    if (listing->n == listing->size) {
        size_t more = listing->size ? listing->size * 2 : 64;
        char **names = realloc(listing->names, more * sizeof(char *));
        uint64_t *sizes;

        if (!names)
            return false;
        listing->names = names;
        sizes = realloc(listing->sizes, more * sizeof(uint64_t));
        if (!sizes)
            return false;
        listing->sizes = sizes;
        listing->size = more;
    }
    listing->names[listing->n] = strdup(name);
    listing->sizes[listing->n] = size;
    return listing->names[listing->n] && ++listing->n;
}

/* Everything below the folder; its name with the slash, "": the store's. */
static int walk(const struct dir_store *dir, const char *folder,
                const struct store_call *call, struct listing *listing)
{
    int fd = openat(dir->fd, folder[0] ? folder : ".",
                    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *open = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    int err = 0;

    if (!open) {
        err = errno == ENOENT ? 0 : errno;
        if (fd >= 0)
            close(fd);
        return err;
    }
    while (!err && (entry = readdir(open))) {
        char name[NAME_ROOM];
        struct stat stat;
        int n = snprintf(name, sizeof name, "%s%s", folder, entry->d_name);

        if (entry->d_name[0] == '.' || n >= (int)sizeof name - 1 ||
            fstatat(fd, entry->d_name, &stat, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISDIR(stat.st_mode)) {
            strcat(name, "/");
            err = walk(dir, name, call, listing);
        } else if (strncmp(name, call->name, strlen(call->name)) == 0 &&
                   (!call->after || strcmp(name, call->after) > 0) &&
                   !add_name(listing, name, (uint64_t)stat.st_size)) {
            err = ENOMEM;
        }
    }
    closedir(open);
    return err;
}

static void list(struct dir_store *dir, struct store_call *call)
{
    struct listing *listing = calloc(1, sizeof *listing);
    char folder[NAME_ROOM];
    char *slash;
    int err;

    call->state = listing;
    if (!listing) {
        answer_errno(call, call->name, ENOMEM);
        return;
    }
    /* The last whole folder of the prefix is enough. */
    snprintf(folder, sizeof folder, "%s", call->name);
    slash = strrchr(folder, '/');
    folder[slash ? slash + 1 - folder : 0] = '\0';
    err = walk(dir, folder, call, listing);
    if (err)
        answer_errno(call, call->name, err);
    else
        call->result = STORE_OK;
}

static int compare(const void *a, const void *b, void *arg)
{
    char **names = arg;

    return strcmp(names[*(const size_t *)a], names[*(const size_t *)b]);
}

/* On the loop, in order. */
static void tell_names(struct store_call *call)
{
    struct listing *listing = call->state;
    size_t n = listing ? listing->n : 0;
    size_t *order = calloc(n + 1, sizeof *order);

    if (!order)
        answer_errno(call, call->name, ENOMEM);
    for (size_t i = 0; order && i < n; i++)
        order[i] = i;
    if (order && call->result == STORE_OK) {
        qsort_r(order, n, sizeof *order, compare, listing->names);
        for (size_t i = 0; i < n && i < STORE_LIST_MAX; i++)
            call->found(call, listing->names[order[i]],
                        listing->sizes[order[i]]);
        call->more = n > STORE_LIST_MAX;
    }
    for (size_t i = 0; i < n; i++)
        free(listing->names[i]);
    if (listing) {
        free(listing->names);
        free(listing->sizes);
    }
    free(listing);
    free(order);
}

/* --- calls --- */

static struct store *store_of(const struct store_call *call)
{
    return call->store;
}

static void run(void *arg)
{
    struct store_call *call = arg;
    struct dir_store *dir = dir_of(store_of(call));

    if (!is_name(call->name) && call->verb != STORE_LIST) {
        store_answer(call, STORE_BROKEN, "%s is no name of an object",
                     call->name);
        return;
    }
    switch (call->verb) {
    case STORE_CREATE:
        create(dir, call);
        break;
    case STORE_GET:
        get(dir, call);
        break;
    case STORE_LIST:
        list(dir, call);
        break;
    case STORE_DELETE:
        delete (dir, call);
        break;
    }
}

static void on_done(void *arg)
{
    struct store_call *call = arg;
    struct store_counters *counters = &store_of(call)->counters;

    if (call->verb == STORE_LIST)
        tell_names(call);
    if (call->result == STORE_OK && call->verb == STORE_CREATE)
        counters->bytes_up += call->length;
    counters->bytes_down += call->got;
    if (call->result != STORE_OK)
        counters->failures[call->verb]++;
    call->done(call);
}

static void dir_start(struct store *store, struct store_call *call)
{
    call->store = store;
    call->got = 0;
    call->size = UINT64_MAX;
    call->more = false;
    call->why[0] = '\0';
    call->state = NULL;
    store->counters.calls[call->verb]++;
    abd_work_start(store->loop, &call->work, run, on_done, call);
}

/* It ends soon enough by itself. */
static void dir_cancel(struct store *store, struct store_call *call)
{
    (void)store;
    (void)call;
}

static void dir_destroy(struct store *store)
{
    struct dir_store *dir = dir_of(store);

    close(dir->fd);
    free(dir);
}

static const struct store_class dir_class = {
    .name = "dir",
    .start = dir_start,
    .cancel = dir_cancel,
    .destroy = dir_destroy,
};

int store_dir(struct abd_loop *loop, const char *path, struct store **ret,
              char why[STORE_WHY_MAX])
{
    struct dir_store *dir = calloc(1, sizeof *dir);
    uint64_t run;

    if (!dir || getrandom(&run, sizeof run, 0) != sizeof run) {
        free(dir);
        return ENOMEM;
    }
    snprintf(dir->run, sizeof dir->run, "%016" PRIx64, run);
    dir->store.class = &dir_class;
    dir->store.loop = loop;
    dir->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->fd < 0) {
        int err = errno;

        snprintf(why, STORE_WHY_MAX, "%s", strerrordesc_np(err));
        free(dir);
        return err;
    }
    *ret = &dir->store;
    return 0;
}
