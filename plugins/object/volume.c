/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A volume while it is open, and its end.  volume_open.c is its beginning. */
#include "volume.h"

#include "volume_open.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A pause of the loop after which the volume may be another's (P3). */
#define PAUSE_NS  UINT64_C(5000000000)
#define BREATH_NS UINT64_C(1000000000)
/* Between two looks while answers are held. */
#define SUSPICIOUS_NS UINT64_C(200000000)

uint32_t volume_epoch_of(const struct volume *volume, uint64_t seq)
{
    unsigned low = 0, high = volume->epochs_n;

    while (high - low > 1) {
        unsigned middle = low + (high - low) / 2;

        if (volume->epochs[middle].first_seq <= seq)
            low = middle;
        else
            high = middle;
    }
    return volume->epochs[low].epoch;
}

int volume_add_epoch(struct volume *volume, uint32_t epoch, uint64_t first_seq)
{
    unsigned n = volume->epochs_n;
    struct volume_epoch *epochs;

    /* An epoch without objects, but for its fence, leaves no trace. */
    if (n > 0 && volume->epochs[n - 1].first_seq == first_seq) {
        volume->epochs[n - 1].epoch = epoch;
        return 0;
    }
    epochs = realloc(volume->epochs, (n + 1) * sizeof *epochs);
    if (!epochs)
        return ENOMEM;
    volume->epochs = epochs;
    epochs[n] = (struct volume_epoch){epoch, first_seq};
    volume->epochs_n++;
    return 0;
}

static void trust(struct volume *volume)
{
    if (!volume->suspicious)
        return;
    volume->suspicious = false;
    if (volume->trusted)
        volume->trusted(volume, volume->arg);
}

/* --- the end, in whichever way --- */

static bool is_idle(const struct volume *volume)
{
    return volume->writer.calls == 0 && volume->reader.fetching_n == 0 &&
           !volume->watching;
}

static void on_idle_task(void *arg)
{
    struct volume *volume = arg;
    void (*closed)(struct volume *, int, void *) = volume->closed;

    if (!is_idle(volume) || !closed)
        return;
    volume->closed = NULL;
    if (volume->state == VOLUME_CLOSING)
        volume->state = VOLUME_CLOSED;
    closed(volume, volume->close_error, volume->closed_arg);
}

void volume_idle(struct volume *volume)
{
    if (!volume->closed || volume->idle_posted || !volume->stopped)
        return;
    volume->idle_posted = true;
    abd_post(volume->loop, &volume->idle_task, on_idle_task, volume);
}

static void stop(struct volume *volume)
{
    volume->stopped = true;
    abd_timer_stop(&volume->watch_timer);
    abd_timer_stop(&volume->breath_timer);
    if (volume->watching)
        store_cancel(volume->store, &volume->watch_call);
    reader_stop_ahead(&volume->reader);
    if (is_idle(volume))
        volume_idle(volume);
}

__attribute__((format(printf, 4, 0))) static void give_up(
    struct volume *volume, enum volume_state state, int error,
    const char *format, va_list args)
{
    if (volume->state == VOLUME_FENCED || volume->state == VOLUME_FAILED ||
        volume->state == VOLUME_CLOSED)
        return;
    vsnprintf(volume->why, sizeof volume->why, format, args);
    volume->state = state;
    volume->error = error;
    volume->close_error = error;
    writer_abandon(&volume->writer, error);
    reader_abandon(&volume->reader, error);
    trust(volume); /* what was held ends with the error */
    if (volume->ended)
        volume->ended(volume, volume->arg);
    if (volume->closed)
        stop(volume);
}

void volume_fence(struct volume *volume, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    give_up(volume, VOLUME_FENCED, EIO, format, args);
    va_end(args);
}

void volume_fail(struct volume *volume, int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    give_up(volume, VOLUME_FAILED, error, format, args);
    va_end(args);
}

static void on_closed(struct writer_wait *wait, int error)
{
    struct volume *volume = container_of(wait, struct volume, close_wait);

    if (error)
        volume->close_error = error;
    stop(volume);
}

/* Everything is committed: only then `close` is written, so that who finds it
 * knows that all before it was there (P4). */
static void write_close(struct volume *volume)
{
    int err;

    volume->close_wait.done = on_closed;
    err = writer_flush_always(&volume->writer, true, &volume->close_wait);
    if (err) {
        volume->close_error = err;
        stop(volume);
    }
}

static void on_last_flush(struct writer_wait *wait, int error)
{
    struct volume *volume = container_of(wait, struct volume, close_wait);

    if (!error) {
        write_close(volume);
        return;
    }
    volume->close_error = error;
    stop(volume);
}

void volume_close(struct volume *volume,
                  void (*closed)(struct volume *volume, int error, void *arg),
                  void *arg)
{
    volume->closed = closed;
    volume->closed_arg = arg;
    volume->close_wait.done = on_last_flush;
    if (volume->state != VOLUME_SERVING || volume->options.read_only) {
        stop(volume);
        return;
    }
    volume->state = VOLUME_CLOSING;
    if (writer_flush(&volume->writer, &volume->close_wait))
        write_close(volume);
}

void volume_finish(struct volume *volume)
{
    writer_finish(&volume->writer);
    reader_finish(&volume->reader);
    map_destroy(volume->map);
    free(volume->epochs);
    volume->map = NULL;
    volume->epochs = NULL;
}

/* --- watch=: does somebody claim the volume? --- */

static void watch_again(struct volume *volume);
static void look_for_claim(struct volume *volume);

static void on_claim_answered(struct writer_wait *wait, int error)
{
    struct volume *volume = container_of(wait, struct volume, watch_wait);

    if (volume->state != VOLUME_SERVING)
        return;
    /* An error here is the store's, which says nothing: on with holding. */
    if (!error)
        trust(volume); /* still ours: the claimer has died, or is slow */
    watch_again(volume);
}

static void on_watched(struct store_call *call)
{
    struct volume *volume = call->arg;

    volume->watching = false;
    if (volume->stopped || volume->state != VOLUME_SERVING) {
        volume_idle(volume);
        return;
    }
    if (volume->look_again) {
        look_for_claim(volume);
        return;
    }
    if (call->result == STORE_MISSING) {
        trust(volume);
    } else if (call->result == STORE_OK || call->result == STORE_BROKEN) {
        /* Who owns the log is found out by writing to it. */
        volume->suspicious = true;
        volume->watch_wait.done = on_claim_answered;
        if (writer_flush_always(&volume->writer, false, &volume->watch_wait) ==
            0)
            return;
    }
    watch_again(volume);
}

static void look_for_claim(struct volume *volume)
{
    struct store_call *call = &volume->watch_call;

    volume->look_again = false;
    name_epoch(volume->watch_name, volume->superblock.uuid, volume->epoch + 1);
    memset(call, 0, sizeof *call);
    call->verb = STORE_GET;
    call->name = volume->watch_name;
    call->length = 0;
    call->into = volume->watch_bytes;
    call->into_max = sizeof volume->watch_bytes;
    call->done = on_watched;
    call->arg = volume;
    volume->watching = true;
    store_start(volume->store, call);
}

static void on_watch_timer(void *arg)
{
    look_for_claim(arg);
}

static void watch_again(struct volume *volume)
{
    /* Who holds answers asks again soon. */
    uint64_t wait_ns = volume->options.watch_ns;

    if (volume->suspicious && wait_ns > SUSPICIOUS_NS)
        wait_ns = SUSPICIOUS_NS;
    abd_timer_start(&volume->watch_timer, wait_ns, 0, on_watch_timer, volume);
}

/* --- has the loop stood still? --- */

static uint64_t boot_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void volume_breathe(struct volume *volume)
{
    uint64_t now_ns = boot_ns();
    uint64_t pause_ns = now_ns - volume->breath_ns;

    volume->breath_ns = now_ns;
    if (pause_ns < PAUSE_NS || volume->state != VOLUME_SERVING ||
        volume->suspicious)
        return;
    volume->suspicious = true;
    if (volume->watching) {
        volume->look_again = true;
        return;
    }
    abd_timer_stop(&volume->watch_timer);
    look_for_claim(volume);
}

static void on_breath_timer(void *arg)
{
    volume_breathe(arg);
}

void volume_start_watching(struct volume *volume)
{
    volume->breath_ns = boot_ns();
    abd_timer_start(&volume->breath_timer, BREATH_NS, BREATH_NS,
                    on_breath_timer, volume);
    watch_again(volume);
}
