/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What all stores share.  See store.h. */
#include "store.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void store_destroy(struct store *store)
{
    while (store) {
        struct store *below = store->below;

        store->class->destroy(store);
        store = below;
    }
}

void store_answer(struct store_call *call, enum store_result result,
                  const char *format, ...)
{
    va_list args;

    call->result = result;
    va_start(args, format);
    vsnprintf(call->why, sizeof call->why, format, args);
    va_end(args);
}

/* --- a GET's bytes --- */

void store_begin_bytes(struct store_call *call)
{
    call->got = 0;
    call->place = 0;
    call->in_place = 0;
}

void *store_next_bytes(const struct store_call *call, size_t *ret_room)
{
    const struct iovec *place = &call->places[call->place];
    uint64_t room = call->length ? call->length : call->into_max;

    if (!call->places) {
        *ret_room = (size_t)(room - call->got);
        return *ret_room ? (uint8_t *)call->into + call->got : NULL;
    }
    if (call->place == call->places_n) {
        *ret_room = 0;
        return NULL;
    }
    *ret_room = place->iov_len - call->in_place;
    return (uint8_t *)place->iov_base + call->in_place;
}

void store_got_bytes(struct store_call *call, size_t n)
{
    call->got += n;
    if (!call->places)
        return;
    while (n > 0) {
        size_t left = call->places[call->place].iov_len - call->in_place;

        if (n < left) {
            call->in_place += n;
            return;
        }
        n -= left;
        call->place++;
        call->in_place = 0;
    }
}

bool store_put_bytes(struct store_call *call, const void *bytes, size_t n)
{
    const uint8_t *from = bytes;

    while (n > 0) {
        size_t room;
        void *to = store_next_bytes(call, &room);
        size_t some = n < room ? n : room;

        if (!to)
            return false;
        memcpy(to, from, some);
        store_got_bytes(call, some);
        from += some;
        n -= some;
    }
    return true;
}

uint8_t *store_byte_at(const struct store_call *call, uint64_t at)
{
    const struct iovec *place = call->places;

    if (!place)
        return (uint8_t *)call->into + at;
    for (; at >= place->iov_len; place++)
        at -= place->iov_len;
    return (uint8_t *)place->iov_base + at;
}

void store_count_begin(struct store *store, struct store_call *call)
{
    store->counters.calls[call->verb]++;
    call->began_ns = abd_loop_now_ns();
}

void store_count_end(struct store *store, struct store_call *call)
{
    struct store_counters *counters = &store->counters;

    switch (call->result) {
    case STORE_OK:
        if (call->verb == STORE_CREATE)
            counters->bytes_up += call->length;
        else if (call->verb == STORE_GET)
            counters->bytes_down += call->got;
        break;
    case STORE_EXISTS:
    case STORE_MISSING: /* an answer, too */
    case STORE_CANCELLED:
        break;
    default:
        counters->failures[call->verb]++;
    }
    histogram_add(&counters->latency[call->verb],
                  abd_loop_now_ns() - call->began_ns);
}

const char *store_result_name(enum store_result result)
{
    static const char *const names[] = {"ok",      "exists",   "missing",
                                        "unknown", "busy",     "denied",
                                        "broken",  "no space", "cancelled"};

    return names[result];
}
