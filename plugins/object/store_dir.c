/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A directory as a store.  Every call is one work of the pool.
 *
 * An object comes into being by link(): the file is written beside its place
 * under a name of its own, made durable, and then gets its name, which fails if
 * it is taken.  So what has a name is whole, and nobody sees a part of it.
 * Temporary files of the dead are not listed.
 *
 * OK and EXISTS promise that the name is durable, too, and so is each folder
 * above it, whoever made it: another call, or another process, may have made a
 * folder and not have got to its fsync() yet. */
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
#include <sys/uio.h>
#include <unistd.h>

#define TEMPORARY ".tmp-"
#define NAME_ROOM (STORE_NAME_MAX + 1)
/* A writer creates in two or three folders; an older one is synced again. */
#define KNOWN 8
/* Of a GET, in one call. */
#define READ_PLACES 256

struct dir_store {
    struct store store;
    /* Set once. */
    int fd; /* the folder */
    char run[17];
    atomic_uint last; /* temporary file's number; relaxed: only unique */
    /* Loop only: folders that are durable, with all that are above them. */
    char known[KNOWN][NAME_ROOM];
    unsigned next_known;
};

/* A LIST under way: the least names so far.  It never grows beyond SLOTS,
 * however many there are. */
#define SLOTS (2 * (STORE_LIST_MAX + 1))
struct listed {
    char *name;
    uint64_t size;
};
struct listing {
    struct listed names[SLOTS];
    size_t n;
    bool more; /* greater ones were dropped */
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
    else if (err == ENOENT || err == ENOTDIR)
        result = STORE_MISSING;
    store_answer(call, result, "%s: %s", what, strerrordesc_np(err));
}

/* No way out of the folder, and nothing that LIST would not show.  A prefix may
 * be empty, or end with a slash. */
static bool is_name(const char *name, bool prefix)
{
    if (strlen(name) > STORE_NAME_MAX)
        return false;
    for (;;) {
        size_t length = strcspn(name, "/");

        if (name[0] == '.' || (length == 0 && !(prefix && !name[0])))
            return false;
        if (!name[length])
            return true;
        name += length + 1;
    }
}

/* --- CREATE --- */

/* Makes it the folder that it is in, "": the store's own. */
static void go_up(char *name)
{
    char *slash = strrchr(name, '/');

    *(slash ? slash : name) = '\0';
}

static void folder_of(const char *name, char folder[NAME_ROOM])
{
    snprintf(folder, NAME_ROOM, "%s", name);
    go_up(folder);
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

/* Makes the folder's own name durable, and the names of those above it. */
static int sync_above(const struct dir_store *dir, const char *folder)
{
    char above[NAME_ROOM];
    int err = 0;

    snprintf(above, sizeof above, "%s", folder);
    while (!err && above[0]) {
        go_up(above);
        err = sync_folder(dir, above);
    }
    return err;
}

/* Makes the folder, and those above it. */
static int make_folder(const struct dir_store *dir, const char *folder)
{
    char part[NAME_ROOM];

    snprintf(part, sizeof part, "%s", folder);
    for (char *at = part; at;) {
        char *slash = strchr(at, '/');

        if (slash)
            *slash = '\0';
        if (mkdirat(dir->fd, part, 0777) < 0 && errno != EEXIST)
            return errno;
        if (slash)
            *slash = '/';
        at = slash ? slash + 1 : NULL;
    }
    return 0;
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

/* *known: the folder is durable; not if it had to be made. */
static int open_temporary(const struct dir_store *dir, const char *temporary,
                          const char *folder, bool *known, int *ret_fd)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    int err;

    *ret_fd = openat(dir->fd, temporary, flags, 0666);
    if (*ret_fd < 0 && errno == ENOENT && folder[0]) {
        *known = false;
        err = make_folder(dir, folder);
        if (err)
            return err;
        *ret_fd = openat(dir->fd, temporary, flags, 0666);
    }
    return *ret_fd < 0 ? errno : 0;
}

/* There is no object yet, for sure. */
static void not_created(struct store_call *call, int err)
{
    answer_errno(call, call->name, err);
    /* A file is in the way, or the store itself has gone. */
    if (call->result == STORE_MISSING)
        call->result = STORE_DENIED;
}

static void create(struct dir_store *dir, struct store_call *call)
{
    char folder[NAME_ROOM], temporary[NAME_ROOM + 64];
    bool known = call->state;
    int fd, err, link_err = 0;

    folder_of(call->name, folder);
    snprintf(temporary, sizeof temporary, "%s%s" TEMPORARY "%s-%u", folder,
             folder[0] ? "/" : "", dir->run,
             atomic_fetch_add_explicit(&dir->last, 1, memory_order_relaxed));
    err = open_temporary(dir, temporary, folder, &known, &fd);
    if (err) {
        not_created(call, err);
        return;
    }
    err = write_all(fd, call);
    close(fd);
    if (!err && !known)
        err = sync_above(dir, folder);
    if (!err && linkat(dir->fd, temporary, dir->fd, call->name, 0) < 0)
        link_err = errno;
    unlinkat(dir->fd, temporary, 0);
    if (!err && link_err && link_err != EEXIST)
        err = link_err;
    if (err) {
        not_created(call, err);
        return;
    }
    /* From here on there is one, whatever else goes wrong. */
    err = sync_folder(dir, folder);
    if (err)
        store_answer(call, STORE_UNKNOWN, "%s: its folder: %s", call->name,
                     strerrordesc_np(err));
    else if (link_err)
        store_answer(call, STORE_EXISTS, "%s exists already", call->name);
    else
        call->result = STORE_OK;
}

/* On the loop: is the object's folder known to be durable? */
static bool is_known(const struct dir_store *dir, const char *name)
{
    char folder[NAME_ROOM];

    folder_of(name, folder);
    for (unsigned i = 0; folder[0] && i < KNOWN; i++)
        if (strcmp(dir->known[i], folder) == 0)
            return true;
    return !folder[0];
}

static void get_to_know(struct dir_store *dir, const char *name)
{
    if (is_known(dir, name))
        return;
    folder_of(name, dir->known[dir->next_known]);
    dir->next_known = (dir->next_known + 1) % KNOWN;
}

/* --- GET --- */

/* Where the next bytes go, up to so many. */
static unsigned next_places(const struct store_call *call, uint64_t length,
                            struct iovec places[READ_PLACES])
{
    struct store_call at = *call;
    unsigned n = 0;

    while (n < READ_PLACES && length > 0) {
        size_t room;
        void *to = store_next_bytes(&at, &room);

        if (room > length)
            room = (size_t)length;
        places[n++] = (struct iovec){to, room};
        store_got_bytes(&at, room);
        length -= room;
    }
    return n;
}

static int read_range(int fd, struct store_call *call, uint64_t length)
{
    struct iovec places[READ_PLACES];

    while (call->got < length) {
        unsigned count = next_places(call, length - call->got, places);
        ssize_t n =
            preadv(fd, places, (int)count, (off_t)(call->offset + call->got));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0) {
            store_answer(call, STORE_BROKEN,
                         "%s: it has become shorter than %" PRIu64 " bytes",
                         call->name, call->size);
            return 0;
        }
        store_got_bytes(call, (size_t)n);
    }
    return 0;
}

static void get(struct dir_store *dir, struct store_call *call)
{
    /* Not to wait for the other end of a pipe. */
    int fd = openat(dir->fd, call->name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    uint64_t room = call->length ? call->length : call->into_max;
    uint64_t length;
    struct stat stat;
    int err = 0;

    store_begin_bytes(call);
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
        if (length > room) {
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

    folder_of(call->name, folder);
    /* A folder is no object: there is none of that name. */
    if (unlinkat(dir->fd, call->name, 0) < 0 && errno != EISDIR)
        err = errno;
    if (!err || err == ENOENT)
        err = sync_folder(dir, folder);
    if (err && err != ENOENT && err != ENOTDIR)
        answer_errno(call, call->name, err);
    else
        call->result = STORE_OK;
}

/* --- LIST --- */

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct listed *)a)->name,
                  ((const struct listed *)b)->name);
}

/* Sorts them, and keeps as many as fit into the answer. */
static void cut(struct listing *listing)
{
    qsort(listing->names, listing->n, sizeof listing->names[0], compare);
    while (listing->n > STORE_LIST_MAX) {
        free(listing->names[--listing->n].name);
        listing->more = true;
    }
}

static int add_name(struct listing *listing, const char *name, uint64_t size)
{
    char *copy;

    /* Behind the last cut its greatest name stays where it is. */
    if (listing->more &&
        strcmp(name, listing->names[STORE_LIST_MAX - 1].name) > 0)
        return 0;
    copy = strdup(name);
    if (!copy)
        return ENOMEM;
    listing->names[listing->n++] = (struct listed){copy, size};
    if (listing->n == SLOTS)
        cut(listing);
    return 0;
}

/* Can anything that begins so be asked for? */
static bool is_on_the_way(const struct store_call *call, const char *folder)
{
    size_t n = strlen(folder), prefix_n = strlen(call->name);

    return strncmp(folder, call->name, n < prefix_n ? n : prefix_n) == 0;
}

static bool is_asked_for(const struct store_call *call, const char *name)
{
    return strncmp(name, call->name, strlen(call->name)) == 0 &&
           (!call->after || strcmp(name, call->after) > 0);
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
        err = errno == ENOENT || errno == ENOTDIR ? 0 : errno;
        if (fd >= 0)
            close(fd);
        return err;
    }
    while (!err && (errno = 0, entry = readdir(open))) {
        char name[NAME_ROOM];
        struct stat stat;
        int n = snprintf(name, sizeof name, "%s%s", folder, entry->d_name);

        if (entry->d_name[0] == '.' || n >= (int)sizeof name - 1 ||
            fstatat(fd, entry->d_name, &stat, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISDIR(stat.st_mode)) {
            strcat(name, "/");
            if (is_on_the_way(call, name))
                err = walk(dir, name, call, listing);
        } else if (is_asked_for(call, name)) {
            err = add_name(listing, name, (uint64_t)stat.st_size);
        }
    }
    if (!err && errno)
        err = errno; /* a part of a listing is none */
    closedir(open);
    return err;
}

static void list(struct dir_store *dir, struct store_call *call)
{
    struct listing *listing = calloc(1, sizeof *listing);
    char folder[NAME_ROOM];
    int err;

    call->state = listing;
    if (!listing) {
        answer_errno(call, call->name, ENOMEM);
        return;
    }
    /* The last whole folder of the prefix is enough. */
    folder_of(call->name, folder);
    if (folder[0])
        strcat(folder, "/");
    err = walk(dir, folder, call, listing);
    cut(listing);
    if (err)
        answer_errno(call, call->name, err);
    else
        call->result = STORE_OK;
}

/* On the loop, in order. */
static void tell_names(struct store_call *call)
{
    struct listing *listing = call->state;

    for (size_t i = 0; listing && i < listing->n; i++) {
        if (call->result == STORE_OK)
            call->found(call, listing->names[i].name, listing->names[i].size);
        free(listing->names[i].name);
    }
    call->more = listing && listing->more;
    free(listing);
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

    if (!is_name(call->name, call->verb == STORE_LIST)) {
        store_answer(call, STORE_BROKEN, "\"%s\" is no name of an object",
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

    if (call->verb == STORE_LIST)
        tell_names(call);
    if (call->verb == STORE_CREATE &&
        (call->result == STORE_OK || call->result == STORE_EXISTS))
        get_to_know(dir_of(store_of(call)), call->name);
    store_count_end(store_of(call), call);
    call->done(call);
}

static void dir_start(struct store *store, struct store_call *call)
{
    call->store = store;
    call->got = 0;
    call->size = UINT64_MAX;
    call->more = false;
    call->why[0] = '\0';
    /* Of a CREATE: not NULL: its folder is known to be durable. */
    call->state =
        call->verb == STORE_CREATE && is_known(dir_of(store), call->name)
            ? store
            : NULL;
    store_count_begin(store, call);
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
