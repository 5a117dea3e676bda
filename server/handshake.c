/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The handshake's state machine.
 *
 *     NEW -> FLAGS -> HEADER <-> DATA, DROP       (an option: header, data,
 *      |                ^        |                 answer, from the start)
 *      |                +- WAITING (for a disk, for the list of exports)
 *      +------------------^      |
 *                      ENTERING, LEAVING -> (over)
 *
 * handshake_run() goes on until it must wait: first it sends what there is to
 * be sent, then it does what the state says.  It is the only place where the
 * handshake ends, so whatever an option does, the struct is still there when it
 * returns.  On the connection's thread. */
#include "server/handshake.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "server/exports.h"
#include "server/handshake_reply.h"
#include "server/handshake_state.h"
#include "server/limits.h"
#include "server/option.h"
#include "server/option_export.h"
#include "server/settings.h"
#include "server/worker.h"

/* Receives of one turn, before others have theirs. */
#define RECEIVES 16
/* What is dropped is read in pieces of this. */
#define DROP_PIECE 4096

static void handshake_run(struct handshake *handshake);

void handshake_set_state(struct handshake *handshake,
                         enum handshake_state state)
{
#define BIT(name) (1U << HANDSHAKE_##name)
    static const uint32_t next[] = {
        [HANDSHAKE_NEW] = BIT(FLAGS) | BIT(WAITING) | BIT(FAILED),
        [HANDSHAKE_FLAGS] = BIT(HEADER) | BIT(FAILED),
        [HANDSHAKE_HEADER] = BIT(DATA) | BIT(DROP) | BIT(LEAVING) | BIT(FAILED),
        [HANDSHAKE_DATA] = BIT(HEADER) | BIT(WAITING) | BIT(ENTERING) |
                           BIT(LEAVING) | BIT(FAILED),
        [HANDSHAKE_DROP] = BIT(HEADER) | BIT(LEAVING) | BIT(FAILED),
        [HANDSHAKE_WAITING] =
            BIT(HEADER) | BIT(ENTERING) | BIT(LEAVING) | BIT(FAILED),
        [HANDSHAKE_ENTERING] = BIT(FAILED),
        [HANDSHAKE_LEAVING] = BIT(FAILED),
        [HANDSHAKE_FAILED] = 0,
    };
#undef BIT

    assert(next[handshake->state] & (1U << state));
    handshake->state = state;
    handshake->got = 0;
}

void handshake_fail(struct handshake *handshake, const char *format, ...)
{
    char text[512];
    va_list args;

    if (handshake->state == HANDSHAKE_FAILED)
        return;
    if (log_is_verbose()) {
        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        log_write(ABD_DEBUG, handshake->connection->address,
                  "handshake given up: %s", text);
    }
    handshake_set_state(handshake, HANDSHAKE_FAILED);
}

/* The client's clock: it stands still while the client waits for us. */

static void on_timeout(void *arg)
{
    struct handshake *handshake = arg;

    handshake->timer_start_ns = 0;
    handshake_fail(handshake, "the time for it is over");
    handshake_run(handshake);
}

static void clock_start(struct handshake *handshake)
{
    if (settings.handshake_timeout_ns == 0 && !handshake->draining)
        return;
    handshake->timer_start_ns = abd_loop_now_ns();
    abd_timer_start(&handshake->timer, handshake->time_left_ns, 0, on_timeout,
                    handshake);
}

static void clock_stop(struct handshake *handshake)
{
    uint64_t passed;

    if (handshake->timer_start_ns == 0)
        return;
    abd_timer_stop(&handshake->timer);
    passed = abd_loop_now_ns() - handshake->timer_start_ns;
    handshake->timer_start_ns = 0;
    handshake->time_left_ns -=
        passed < handshake->time_left_ns ? passed : handshake->time_left_ns;
}

/* The server is ending: what is under way may take this long. */
static void clock_shorten(struct handshake *handshake)
{
    if (settings.handshake_timeout_ns == 0 ||
        handshake->time_left_ns > LIMIT_LINGER_NS)
        handshake->time_left_ns = LIMIT_LINGER_NS;
}

/* Readiness. */

static void on_ready(void *arg, uint32_t ready)
{
    struct handshake *handshake = arg;

    /* Nothing is asked for then, so it is an error or the end of both
     * directions: nobody is there to hear what we wait for. */
    if (handshake->state == HANDSHAKE_WAITING && (ready & ABD_EVENT_ERROR))
        handshake_fail(handshake, "the client has gone");
    handshake_run(handshake);
}

static int watch_set(struct abd_watch *watch, uint32_t *events, int fd,
                     uint32_t wanted, struct handshake *handshake)
{
    int err = 0;

    if (*events == wanted)
        return 0;
    if (*events == 0)
        err = abd_watch_start(watch, fd, wanted, on_ready, handshake);
    else if (wanted == 0)
        abd_watch_stop(watch);
    else
        err = abd_watch_change(watch, wanted);
    if (!err)
        *events = wanted;
    return err;
}

/* One descriptor stays watched even if nothing is wanted of it, so that the
 * client's end is seen.  Of two, the end of one says nothing about the other.
 */
static int wait_for(struct handshake *handshake, uint32_t events)
{
    struct connection *connection = handshake->connection;
    const struct stream *stream = &connection->stream;
    int err;

    if (stream->in != stream->out) {
        err = watch_set(&connection->in_watch, &handshake->in_events,
                        stream->in, events & ABD_READABLE, handshake);
        if (err)
            return err;
        return watch_set(&connection->out_watch, &handshake->out_events,
                         stream->out, events & ABD_WRITABLE, handshake);
    }
    if (!handshake->watching) {
        err = abd_watch_start(&connection->in_watch, stream->in, events,
                              on_ready, handshake);
        handshake->watching = err == 0;
        return err;
    }
    return abd_watch_change(&connection->in_watch, events);
}

static void unwatch(struct handshake *handshake)
{
    abd_watch_stop(&handshake->connection->in_watch);
    abd_watch_stop(&handshake->connection->out_watch);
    handshake->in_events = handshake->out_events = 0;
    handshake->watching = false;
}

/* Receiving: never a byte more than the state wants. */

static int receive(struct handshake *handshake, struct iovec place)
{
    size_t got;
    int err = stream_receive(&handshake->connection->stream, &place, 1, &got);

    if (err)
        return err;
    if (got == 0)
        return ECONNRESET;
    handshake->got += (uint32_t)got;
    return 0;
}

static uint32_t wanted(const struct handshake *handshake)
{
    switch (handshake->state) {
    case HANDSHAKE_FLAGS:
        return 4;
    case HANDSHAKE_HEADER:
        return sizeof handshake->head;
    default:
        return handshake->length;
    }
}

/* 0: something has come; or an errno value, ECONNRESET for the end. */
static int receive_some(struct handshake *handshake)
{
    uint32_t left = wanted(handshake) - handshake->got;
    uint8_t dropped[DROP_PIECE];
    struct iovec place = {.iov_len = left};

    switch (handshake->state) {
    case HANDSHAKE_DATA:
        place.iov_base = handshake->data + handshake->got;
        break;
    case HANDSHAKE_DROP:
        place.iov_base = dropped;
        place.iov_len = left < sizeof dropped ? left : sizeof dropped;
        break;
    default:
        place.iov_base = handshake->head + handshake->got;
        break;
    }
    return receive(handshake, place);
}

/* Each of these has all the bytes that its state wants. */

static void take_flags(struct handshake *handshake)
{
    struct negotiated *negotiated = &handshake->connection->negotiated;
    uint32_t flags = load_be32(handshake->head);

    /* Each client flag has the bit of the handshake flag that offers it. */
    if (flags & ~(uint32_t)handshake->offered) {
        handshake_fail(handshake, "client flags 0x%" PRIx32 ", allowed: 0x%x",
                       flags, handshake->offered);
        return;
    }
    negotiated->fixed = flags & NBD_FLAG_C_FIXED_NEWSTYLE;
    negotiated->no_zeroes = flags & NBD_FLAG_C_NO_ZEROES;
    handshake_set_state(handshake, HANDSHAKE_HEADER);
}

static void take_header(struct handshake *handshake)
{
    struct nbd_option_header header;

    if (!nbd_option_decode(handshake->head, &header)) {
        handshake_fail(handshake, "wrong magic number in front of an option");
        return;
    }
    handshake->option = header.option;
    handshake->length = header.length;
    if (++handshake->options > LIMIT_OPTIONS) {
        handshake_fail(handshake, "more than %d options", LIMIT_OPTIONS);
        return;
    }
    if (header.length > LIMIT_OPTION_DROPPED) {
        handshake_fail(handshake, "%s with %" PRIu32 " bytes of data",
                       nbd_option_name(header.option), header.length);
        return;
    }
    if (header.length > LIMIT_OPTION) {
        handshake_set_state(handshake, HANDSHAKE_DROP);
        return;
    }
    if (header.length > 0) {
        handshake->data = malloc(header.length);
        if (!handshake->data) {
            handshake_fail(handshake, "out of memory");
            return;
        }
    }
    handshake_set_state(handshake, HANDSHAKE_DATA);
}

static void take_option(struct handshake *handshake)
{
    if (handshake->state == HANDSHAKE_DROP)
        option_answer_too_big(handshake);
    else
        option_answer(handshake);
    free(handshake->data);
    handshake->data = NULL;
    if (handshake->state == HANDSHAKE_DATA ||
        handshake->state == HANDSHAKE_DROP)
        handshake_set_state(handshake, HANDSHAKE_HEADER);
}

static void take(struct handshake *handshake)
{
    switch (handshake->state) {
    case HANDSHAKE_FLAGS:
        take_flags(handshake);
        break;
    case HANDSHAKE_HEADER:
        take_header(handshake);
        break;
    default:
        take_option(handshake);
        break;
    }
}

/* The end. */

/* Does anybody else still have a pointer to it? */
static bool is_under_way(const struct handshake *handshake)
{
    return option_export_is_under_way(handshake) ||
           exports_are_under_way(handshake->exports);
}

static void handshake_free(struct handshake *handshake)
{
    struct connection *connection = handshake->connection;

    assert(!is_under_way(handshake) && !handshake->disk);
    exports_free(handshake->exports);
    handshake_free_output(handshake);
    free(handshake->data);
    free(handshake->name);
    free(handshake->meta_name);
    free(handshake);
    connection->handshake = NULL;
}

void handshake_detach(struct handshake *handshake)
{
    clock_stop(handshake);
    unwatch(handshake);
}

static void enter_transmission(struct handshake *handshake)
{
    struct connection *connection = handshake->connection;

    handshake_detach(handshake);
    option_export_enter(handshake);
    handshake_free(handshake);
    connection_begin_transmission(connection);
}

/* True: handshake_run() has nothing more to do, now or ever. */
static bool ended_or_waits(struct handshake *handshake)
{
    switch (handshake->state) {
    case HANDSHAKE_ENTERING:
        enter_transmission(handshake);
        return true;
    case HANDSHAKE_LEAVING:
    case HANDSHAKE_FAILED:
        connection_close(handshake->connection);
        return true;
    case HANDSHAKE_WAITING:
        /* A file has no readiness; neither has it an end to be seen. */
        (void)wait_for(handshake, 0);
        return true;
    default:
        return false;
    }
}

/* The descriptor was not ready, or it is the others' turn.  True: come back
 * when it is. */
static bool wait_ready(struct handshake *handshake, uint32_t events)
{
    int err = wait_for(handshake, events);

    if (err && err != EPERM)
        handshake_fail(handshake, "cannot wait for the client: %s",
                       strerror(err));
    return err == 0;
}

static bool between_options(const struct handshake *handshake)
{
    return handshake->got == 0 && (handshake->state == HANDSHAKE_HEADER ||
                                   handshake->state == HANDSHAKE_FLAGS);
}

/* True: the client does not take what there is to be sent; wait for it. */
static bool send_output(struct handshake *handshake)
{
    int err;

    if (handshake->state == HANDSHAKE_FAILED)
        return false;
    err = handshake_flush(handshake);
    if (!err || (err == EAGAIN && wait_ready(handshake, ABD_WRITABLE)))
        return err != 0;
    handshake_fail(handshake, "sending: %s", strerror(err));
    return false;
}

/* True: the client has sent nothing more; wait for it. */
static bool receive_input(struct handshake *handshake)
{
    int err = receive_some(handshake);

    if (!err)
        return false;
    if (err == EAGAIN && handshake->draining && between_options(handshake)) {
        handshake_fail(handshake, "the server is shutting down");
        return false;
    }
    if (err == EAGAIN && wait_ready(handshake, ABD_READABLE))
        return true;
    handshake_fail(handshake, "receiving: %s", strerror(err));
    return false;
}

static void handshake_run(struct handshake *handshake)
{
    unsigned receives = 0;

    for (;;) {
        if (send_output(handshake) || ended_or_waits(handshake))
            return;
        if (handshake->got == wanted(handshake)) {
            take(handshake);
            continue;
        }
        if (receives++ == RECEIVES) {
            receives = 0;
            if (wait_ready(handshake, ABD_READABLE))
                return;
        }
        if (receive_input(handshake))
            return;
    }
}

void handshake_wait(struct handshake *handshake)
{
    clock_stop(handshake);
    handshake_set_state(handshake, HANDSHAKE_WAITING);
}

void handshake_resume(struct handshake *handshake, enum handshake_state state)
{
    /* It may have failed while it waited, or on its replies. */
    if (handshake->state == HANDSHAKE_WAITING)
        handshake_set_state(handshake, state);
    clock_start(handshake);
    handshake_run(handshake);
}

void handshake_abandon(struct handshake *handshake)
{
    struct connection *connection = handshake->connection;

    if (is_under_way(handshake))
        return;
    handshake_free(handshake);
    connection_check_end(connection);
}

static void greet(struct handshake *handshake)
{
    uint8_t *to = handshake_append(handshake, NBD_GREETING_SIZE);

    handshake->offered = (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES) &
                         settings.mask_handshake;
    if (!to)
        return;
    nbd_greeting_encode(handshake->offered, to);
    handshake_set_state(handshake, HANDSHAKE_FLAGS);
}

void handshake_begin(struct connection *connection)
{
    struct handshake *handshake = calloc(1, sizeof *handshake);

    if (!handshake) {
        log_write(ABD_ERROR, connection->address, "%s", strerror(ENOMEM));
        connection_close(connection);
        return;
    }
    connection->handshake = handshake;
    handshake->connection = connection;
    handshake->oldstyle = settings.oldstyle;
    handshake->draining = connection->worker->draining;
    handshake->time_left_ns = settings.handshake_timeout_ns;
    if (handshake->draining)
        clock_shorten(handshake);
    if (handshake->oldstyle)
        option_oldstyle(handshake);
    else
        greet(handshake);
    if (handshake->state == HANDSHAKE_FLAGS)
        clock_start(handshake);
    handshake_run(handshake);
}

void handshake_drain(struct connection *connection)
{
    struct handshake *handshake = connection->handshake;

    if (!handshake || handshake->draining)
        return;
    handshake->draining = true;
    clock_stop(handshake);
    clock_shorten(handshake);
    /* What it waits for comes, and is answered with ERR_SHUTDOWN then. */
    if (handshake->state == HANDSHAKE_WAITING)
        return;
    clock_start(handshake);
    handshake_run(handshake);
}

bool handshake_stop(struct connection *connection)
{
    struct handshake *handshake = connection->handshake;

    if (!handshake)
        return true;
    handshake_detach(handshake);
    option_export_forget(handshake);
    if (is_under_way(handshake)) {
        handshake->stopped = true;
        return false;
    }
    handshake_free(handshake);
    return true;
}
