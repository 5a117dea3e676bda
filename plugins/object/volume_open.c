/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Finding a volume and claiming it: up to the point where its log is ours, but
 * for what volume_replay.c does.
 *
 *     volume -> (create) -> highest epoch -> claim -> claim again: must fail
 *            -> replay
 *
 * With take-over=no the log is replayed first, and claimed only if it ends with
 * `close`; read-only it is not claimed at all.  Nothing that a listing says is
 * believed: it tells where to begin (I8). */
#include "volume_open.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* --- the end of opening --- */

static void on_ended(void *arg)
{
    struct opening *opening = arg;
    struct volume *volume = opening->volume;
    void (*opened)(struct volume *, int, void *) = opening->opened;
    void *opened_arg = opening->arg;
    int error = opening->error;

    free(opening->text);
    free(opening->buffer);
    replay_free(opening);
    free(opening);
    volume->opening = NULL;
    opened(volume, error, opened_arg);
}

/* Everything that is under way has to come back first. */
void opening_idle(struct opening *opening)
{
    if (opening->ended && opening->calls == 0 && !opening->end_posted) {
        opening->end_posted = true;
        abd_post(opening->volume->loop, &opening->task, on_ended, opening);
    }
}

static void end(struct opening *opening, int error)
{
    opening->ended = true;
    opening->error = error;
    opening_idle(opening);
}

void opening_fail(struct opening *opening, int error, const char *format, ...)
{
    struct volume *volume = opening->volume;
    va_list args;

    if (opening->ended)
        return;
    va_start(args, format);
    vsnprintf(volume->why, sizeof volume->why, format, args);
    va_end(args);
    volume->state = VOLUME_FAILED;
    volume->error = volume->close_error = error;
    end(opening, error);
}

void opening_serve(struct opening *opening)
{
    struct volume *volume = opening->volume;

    volume->state = VOLUME_SERVING;
    if (!volume->options.read_only)
        volume_start_watching(volume);
    end(opening, 0);
}

int opening_error(enum store_result result)
{
    switch (result) {
    case STORE_OK:
        return 0;
    case STORE_EXISTS:
        return EEXIST;
    case STORE_MISSING:
        return ENOENT;
    case STORE_DENIED:
        return EACCES;
    case STORE_NO_SPACE:
        return ENOSPC;
    default:
        return EIO;
    }
}

/* --- calls of the store, one at a time (but for the replay's) --- */

static void on_call(struct store_call *call)
{
    struct opening *opening = call->arg;

    opening->calls--;
    if (opening->ended)
        opening_idle(opening);
    else
        opening->next(opening);
}

static struct store_call *begin_call(struct opening *opening,
                                     enum store_verb verb,
                                     void (*next)(struct opening *opening))
{
    struct store_call *call = &opening->call;

    memset(call, 0, sizeof *call);
    call->verb = verb;
    call->name = opening->name;
    call->done = on_call;
    call->arg = opening;
    opening->next = next;
    opening->calls++;
    return call;
}

static void get(struct opening *opening, void (*next)(struct opening *opening))
{
    struct store_call *call = begin_call(opening, STORE_GET, next);

    call->into = opening->buffer;
    call->into_max = JSON_MAX;
    store_start(opening->volume->store, call);
}

/* Creates opening->name with opening->text. */
static void create(struct opening *opening, const uint8_t *session,
                   void (*next)(struct opening *opening))
{
    struct store_call *call = begin_call(opening, STORE_CREATE, next);

    opening->body = (struct iovec){opening->text,
                                   opening->text ? strlen(opening->text) : 0};
    call->body = &opening->body;
    call->body_n = 1;
    call->length = opening->body.iov_len;
    call->session = session;
    store_start(opening->volume->store, call);
}

/* --- FIND: the superblock --- */

static void find_epoch(struct opening *opening);
static void get_superblock(struct opening *opening);

static void on_superblock_created(struct opening *opening)
{
    const struct store_call *call = &opening->call;

    free(opening->text);
    opening->text = NULL;
    if (call->result != STORE_OK && call->result != STORE_EXISTS) {
        opening_fail(opening, opening_error(call->result), "volume: %s",
                     call->why);
        return;
    }
    /* Whosever it is: it is read. */
    opening->created = true;
    get_superblock(opening);
}

static void create_superblock(struct opening *opening)
{
    struct volume *volume = opening->volume;
    struct superblock superblock = {
        .size = volume->options.size,
        .object_size = volume->options.object_size,
    };

    if (getrandom(superblock.uuid, UUID_SIZE, 0) != UUID_SIZE) {
        opening_fail(opening, EIO, "getrandom: %s", strerror(errno));
        return;
    }
    opening->text = superblock_encode(&superblock);
    if (!opening->text) {
        opening_fail(opening, ENOMEM, "no memory");
        return;
    }
    create(opening, NULL, on_superblock_created);
}

static void on_superblock(struct opening *opening)
{
    struct volume *volume = opening->volume;
    const struct store_call *call = &opening->call;
    const char *fault;

    if (call->result == STORE_MISSING && volume->options.create &&
        !opening->created) {
        create_superblock(opening);
        return;
    }
    if (call->result == STORE_MISSING) {
        opening_fail(opening, ENOENT, "there is no volume");
        return;
    }
    if (call->result != STORE_OK) {
        opening_fail(opening, opening_error(call->result), "volume: %s",
                     call->why);
        return;
    }
    if (volume->options.create_only && !opening->created) {
        opening_fail(opening, EEXIST, "there is a volume already");
        return;
    }
    fault = superblock_decode((const char *)opening->buffer, call->got,
                              &volume->superblock);
    if (fault && ++opening->tries < OPENING_TRIES) {
        get_superblock(opening); /* it may have been damaged on its way (P4) */
        return;
    }
    if (fault) {
        opening_fail(opening, EINVAL, "volume: %s", fault);
        return;
    }
    find_epoch(opening);
}

static void get_superblock(struct opening *opening)
{
    name_volume(opening->name);
    get(opening, on_superblock);
}

/* --- FIND: the highest epoch; they are dense --- */

static void claim(struct opening *opening);

static void purpose_known(struct opening *opening)
{
    struct volume *volume = opening->volume;

    if (volume->options.read_only || !volume->options.take_over)
        replay_begin(opening);
    else
        claim(opening);
}

/* Somebody has begun to delete it: nothing else can be done any more. */
static void on_newest_claim(struct opening *opening)
{
    struct store_call *call = &opening->call;
    struct claim newest;
    const char *fault = NULL;

    if (call->result == STORE_OK)
        fault = claim_decode((const char *)opening->buffer, call->got, &newest);
    if (call->result != STORE_OK) {
        opening_fail(opening, opening_error(call->result), "%s: %s",
                     opening->name, call->why);
    } else if (fault && ++opening->tries < OPENING_TRIES) {
        get(opening, on_newest_claim); /* damaged on its way, perhaps */
    } else if (fault) {
        opening_fail(opening, EIO, "%s: %s", opening->name, fault);
    } else if (newest.purpose == CLAIM_DELETE &&
               opening->volume->options.purpose != CLAIM_DELETE) {
        opening_fail(opening, EPERM, "the volume is being deleted");
    } else {
        purpose_known(opening);
    }
}

static void epoch_found(struct opening *opening)
{
    if (opening->epoch == 0) {
        purpose_known(opening);
        return;
    }
    opening->tries = 0;
    name_epoch(opening->name, opening->volume->superblock.uuid, opening->epoch);
    get(opening, on_newest_claim);
}

static void probe_epoch(struct opening *opening);

/* From one that exists: steps that double, then halve. */
static void on_epoch(struct opening *opening)
{
    const struct store_call *call = &opening->call;

    if (call->result == STORE_OK) {
        opening->epoch += opening->step;
        if (!opening->halving)
            opening->step *= 2;
    } else if (call->result == STORE_MISSING) {
        opening->halving = true;
    } else {
        opening_fail(opening, opening_error(call->result), "%s: %s",
                     opening->name, call->why);
        return;
    }
    if (opening->halving && opening->step == 1 &&
        call->result == STORE_MISSING) {
        epoch_found(opening);
        return;
    }
    if (opening->halving && opening->step > 1)
        opening->step /= 2;
    probe_epoch(opening);
}

static void probe_epoch(struct opening *opening)
{
    if (opening->epoch > UINT32_MAX - opening->step) {
        opening_fail(opening, EINVAL, "epochs have come to their end");
        return;
    }
    name_epoch(opening->name, opening->volume->superblock.uuid,
               opening->epoch + opening->step);
    get(opening, on_epoch);
}

static void on_listed_name(struct store_call *call, const char *name,
                           uint64_t size)
{
    struct opening *opening = call->found_arg;
    uint32_t epoch;

    (void)size;
    if (name_parse_epoch(name, opening->volume->superblock.uuid, &epoch) &&
        epoch > opening->hint)
        opening->hint = epoch;
    snprintf(opening->after, sizeof opening->after, "%s", name);
}

static void list_epochs(struct opening *opening);

static void on_hint(struct opening *opening)
{
    const struct store_call *call = &opening->call;

    if (opening->epoch == 0 && call->result == STORE_OK)
        opening->epoch = opening->hint;
    opening->step = 1;
    opening->halving = false;
    probe_epoch(opening);
}

static void on_listed(struct opening *opening)
{
    if (opening->call.result == STORE_OK && opening->call.more) {
        list_epochs(opening);
        return;
    }
    /* What it said last must be there, else one begins at the beginning. */
    if (opening->call.result != STORE_OK || opening->hint == 0)
        opening->hint = 0;
    opening->epoch = 0;
    if (opening->hint == 0) {
        opening->call.result = STORE_MISSING;
        on_hint(opening);
        return;
    }
    name_epoch(opening->name, opening->volume->superblock.uuid, opening->hint);
    get(opening, on_hint);
}

static void list_epochs(struct opening *opening)
{
    struct store_call *call = begin_call(opening, STORE_LIST, on_listed);
    char uuid[2 * UUID_SIZE + 1];

    uuid_print(opening->volume->superblock.uuid, uuid);
    snprintf(opening->name, sizeof opening->name, "%s/epoch/", uuid);
    snprintf(opening->list_after, sizeof opening->list_after, "%s",
             opening->after);
    call->after = opening->list_after[0] ? opening->list_after : NULL;
    call->found = on_listed_name;
    call->found_arg = opening;
    store_start(opening->volume->store, call);
}

static void find_epoch(struct opening *opening)
{
    opening->hint = 0;
    list_epochs(opening);
}

/* --- CLAIM --- */

static void read_boot_id(char *to, size_t size)
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");

    if (!file || !fgets(to, (int)size, file))
        to[0] = '\0';
    to[strcspn(to, "\n")] = '\0';
    if (file)
        fclose(file);
}

static char *claim_text(const struct opening *opening,
                        const uint8_t session[UUID_SIZE])
{
    struct claim mine = {.epoch = opening->epoch + 1,
                         .purpose = opening->volume->options.purpose,
                         .pid = (uint64_t)getpid(),
                         .time_ms = (uint64_t)time(NULL) * 1000};
    struct utsname host;

    memcpy(mine.session, session, UUID_SIZE);
    if (uname(&host) == 0)
        snprintf(mine.host, sizeof mine.host, "%s", host.nodename);
    read_boot_id(mine.boot_id, sizeof mine.boot_id);
    snprintf(mine.program, sizeof mine.program, "abdkit");
    return claim_encode(&mine);
}

/* The store was asked to create the claim once more, for another session: it
 * must have refused, or nothing keeps writers apart. */
static void on_claimed_twice(struct opening *opening)
{
    const struct store_call *call = &opening->call;

    if (call->result == STORE_OK) {
        opening_fail(opening, ENOTSUP,
                     "the store creates what exists already: writers could "
                     "not be kept apart");
        return;
    }
    if (call->result != STORE_EXISTS) {
        opening_fail(opening, opening_error(call->result), "%s: %s",
                     opening->name, call->why);
        return;
    }
    free(opening->text);
    opening->text = NULL;
    opening->volume->epoch = opening->epoch + 1;
    replay_begin(opening);
}

static void on_claimed(struct opening *opening)
{
    const struct store_call *call = &opening->call;

    free(opening->text);
    opening->text = NULL;
    if (call->result == STORE_EXISTS) {
        opening->epoch++;
        claim(opening);
        return;
    }
    if (call->result != STORE_OK) {
        opening_fail(opening, opening_error(call->result), "%s: %s",
                     opening->name, call->why);
        return;
    }
    if (getrandom(opening->other, UUID_SIZE, 0) != UUID_SIZE ||
        !(opening->text = claim_text(opening, opening->other))) {
        opening_fail(opening, ENOMEM, "no memory");
        return;
    }
    create(opening, opening->other, on_claimed_twice);
}

static void claim(struct opening *opening)
{
    struct volume *volume = opening->volume;

    volume->state = VOLUME_CLAIMING;
    if (getrandom(volume->session, UUID_SIZE, 0) != UUID_SIZE ||
        !(opening->text = claim_text(opening, volume->session))) {
        opening_fail(opening, ENOMEM, "no memory");
        return;
    }
    name_epoch(opening->name, volume->superblock.uuid, opening->epoch + 1);
    create(opening, volume->session, on_claimed);
}

void opening_claim(struct opening *opening)
{
    claim(opening);
}

/* --- the beginning --- */

void volume_open(struct volume *volume, struct abd_loop *loop,
                 struct store *store, const struct volume_options *options,
                 void (*opened)(struct volume *volume, int error, void *arg),
                 void *arg)
{
    struct opening *opening = calloc(1, sizeof *opening);
    int err = 0;

    *volume = (struct volume){.loop = loop,
                              .store = store,
                              .options = *options,
                              .state = VOLUME_FINDING,
                              .error = EIO,
                              .ended = volume->ended,
                              .trusted = volume->trusted,
                              .trouble = volume->trouble,
                              .arg = volume->arg};
    volume->map = map_create();
    err = reader_init(&volume->reader, volume, options->cache_memory,
                      options->readahead);
    if (!err)
        err = writer_init(&volume->writer, volume, options->write_memory);
    if (!volume->map || !opening)
        err = ENOMEM;
    if (opening)
        opening->buffer = malloc(JSON_MAX);
    if (!opening || err || !opening->buffer) {
        if (opening)
            free(opening->buffer);
        free(opening);
        snprintf(volume->why, sizeof volume->why,
                 "no memory, or less than %llu MiB of --memory are free",
                 (unsigned long long)(options->write_memory >> 20));
        opened(volume, ENOMEM, arg);
        return;
    }
    volume->opening = opening;
    opening->volume = volume;
    opening->opened = opened;
    opening->arg = arg;
    get_superblock(opening);
}
