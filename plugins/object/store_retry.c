/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Trying again, and finding out what has happened.  See store_wrap.h.
 *
 *     TRYING -> ended
 *        |  UNKNOWN, BUSY, BROKEN: WAITING -> TRYING
 *        |  CREATE, and there is one: ASKING -> ours: OK, other: EXISTS,
 *        |                                      missing, unclear: WAITING
 *
 * The caller's call is passed down as it is, again and again; asking uses one
 * of ours. */
#include "store_wrap.h"

#include "base/json_read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_NS   UINT64_C(50000000)
#define LONGEST_NS UINT64_C(5000000000)
/* Enough of an object to know whose it is: JSON is read whole. */
#define ASK_MAX        (64 * 1024)
#define LOG_SESSION_AT 48
#define SESSION_SIZE   16

struct retry_store {
    struct store store;
    uint64_t retry_for_ns;
    uint32_t random;
};

/* A call under way. */
struct attempt {
    struct retry_store *retry;
    struct store_call *call;
    void (*done)(struct store_call *call); /* the caller's */
    void *arg;
    uint64_t began_ns, wait_ns;
    bool cancelled, waiting, asking;
    struct abd_timer timer;
    struct store_call ask;
    uint8_t *answer;
};

static void try(struct attempt *attempt);

static void end(struct attempt *attempt)
{
    struct store_call *call = attempt->call;

    call->done = attempt->done;
    call->arg = attempt->arg;
    call->attempt = NULL;
    free(attempt->answer);
    free(attempt);
    call->done(call);
}

static void cancelled(struct attempt *attempt)
{
    store_answer(attempt->call, STORE_CANCELLED, "it is not wanted any more");
    end(attempt);
}

static void on_time(void *arg)
{
    struct attempt *attempt = arg;

    attempt->waiting = false;
    if (attempt->cancelled)
        cancelled(attempt);
    else
        try(attempt);
}

/* Half of it is chance, so that those who failed together don't come again
 * together. */
static uint64_t next_wait(struct attempt *attempt)
{
    struct retry_store *retry = attempt->retry;
    uint64_t wait_ns = attempt->wait_ns;

    attempt->wait_ns = wait_ns * 2 < LONGEST_NS ? wait_ns * 2 : LONGEST_NS;
    retry->random = retry->random * 1664525 + 1013904223;
    return wait_ns / 2 + wait_ns / 2 * (retry->random >> 16) / 65536;
}

/* Not before so long. */
static void wait_and_try(struct attempt *attempt, uint64_t least_ns)
{
    struct store_call *call = attempt->call;
    uint64_t wait_ns = next_wait(attempt);
    uint64_t passed_ns = abd_loop_now_ns() - attempt->began_ns;

    if (wait_ns < least_ns)
        wait_ns = least_ns;
    if (attempt->cancelled) {
        cancelled(attempt);
        return;
    }
    if (attempt->retry->retry_for_ns < passed_ns ||
        attempt->retry->retry_for_ns - passed_ns < wait_ns) {
        end(attempt);
        return;
    }
    attempt->retry->store.counters.retries[call->verb]++;
    attempt->waiting = true;
    abd_timer_start(&attempt->timer, wait_ns, 0, on_time, attempt);
}

/* --- whose is it? --- */

enum owner { OURS, OTHERS, UNCLEAR };

static enum owner json_owner(const struct attempt *attempt)
{
    const struct store_call *ask = &attempt->ask;
    char hex[2 * SESSION_SIZE + 1];
    struct json_document document = {0};
    const struct json_value *session;
    struct json_fault fault;
    enum owner owner;
    int err =
        json_read((const char *)attempt->answer, ask->got, &document, &fault);

    if (err)
        return err == EINVAL ? OTHERS : UNCLEAR;
    for (unsigned i = 0; i < SESSION_SIZE; i++) {
        hex[2 * i] = "0123456789abcdef"[attempt->call->session[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[attempt->call->session[i] & 15];
    }
    hex[2 * SESSION_SIZE] = '\0';
    session = json_find(document.root, "session");
    owner = session && session->type == JSON_STRING &&
                    strcmp(session->text, hex) == 0
                ? OURS
                : OTHERS;
    json_document_finish(&document);
    return owner;
}

/* "Another's" makes a writer give up its log, so it must be certain: an answer
 * that was cut is none. */
static enum owner owner_of(const struct attempt *attempt)
{
    const struct store_call *ask = &attempt->ask;
    uint64_t whole = ask->size < ASK_MAX ? ask->size : ASK_MAX;

    if (ask->size != UINT64_MAX && ask->got < whole)
        return UNCLEAR;
    if (ask->got > 0 && attempt->answer[0] == '{')
        return json_owner(attempt);
    return ask->got >= LOG_SESSION_AT + SESSION_SIZE &&
                   memcmp(attempt->answer + LOG_SESSION_AT,
                          attempt->call->session, SESSION_SIZE) == 0
               ? OURS
               : OTHERS;
}

static void on_asked(struct store_call *ask)
{
    struct attempt *attempt = ask->arg;
    struct store_call *call = attempt->call;
    enum owner owner = ask->result == STORE_OK ? owner_of(attempt) : UNCLEAR;

    attempt->asking = false;
    if (owner == OURS) {
        call->result = STORE_OK;
        call->why[0] = '\0';
        end(attempt);
        return;
    }
    if (owner == OTHERS) {
        store_answer(call, STORE_EXISTS, "%s exists, and is another's",
                     call->name);
        end(attempt);
        return;
    }
    if (ask->result == STORE_MISSING)
        store_answer(call, STORE_UNKNOWN, "%s: it was there, and is not",
                     call->name);
    else
        store_answer(call, STORE_UNKNOWN, "%s exists, but whose is it? %.60s",
                     call->name,
                     ask->result == STORE_OK ? "The answer was cut" : ask->why);
    wait_and_try(attempt, ask->retry_after_ns);
}

static void ask_whose(struct attempt *attempt)
{
    struct store_call *ask = &attempt->ask;

    if (!attempt->answer)
        attempt->answer = malloc(ASK_MAX);
    if (!attempt->answer) {
        store_answer(attempt->call, STORE_UNKNOWN, "no memory");
        wait_and_try(attempt, 0);
        return;
    }
    memset(ask, 0, sizeof *ask);
    ask->verb = STORE_GET;
    ask->name = attempt->call->name;
    ask->length = ASK_MAX;
    ask->into = attempt->answer;
    ask->into_max = ASK_MAX;
    ask->size = UINT64_MAX;
    ask->done = on_asked;
    ask->arg = attempt;
    attempt->asking = true;
    store_start(attempt->retry->store.below, ask);
}

/* --- trying --- */

static void on_tried(struct store_call *call)
{
    struct attempt *attempt = call->arg;

    switch (call->result) {
    case STORE_EXISTS:
        /* Ours, perhaps, by an earlier try of this call (I2). */
        if (call->session && attempt->cancelled)
            cancelled(attempt);
        else if (call->session)
            ask_whose(attempt);
        else
            end(attempt);
        return;
    case STORE_UNKNOWN:
    case STORE_BUSY:
    case STORE_BROKEN:
    case STORE_NO_SPACE:
        wait_and_try(attempt, call->retry_after_ns);
        return;
    default:
        end(attempt);
    }
}

static void try(struct attempt *attempt)
{
    struct store_call *call = attempt->call;

    call->done = on_tried;
    call->arg = attempt;
    call->retry_after_ns = 0;
    store_start(attempt->retry->store.below, call);
}

static void retry_start(struct store *store, struct store_call *call)
{
    struct retry_store *retry = container_of(store, struct retry_store, store);
    struct attempt *attempt = calloc(1, sizeof *attempt);

    if (!attempt) {
        /* Once, then: that it did not end well is said as it is. */
        call->attempt = NULL;
        store_start(store->below, call);
        return;
    }
    store->counters.calls[call->verb]++;
    attempt->retry = retry;
    attempt->call = call;
    attempt->done = call->done;
    attempt->arg = call->arg;
    attempt->began_ns = abd_loop_now_ns();
    attempt->wait_ns = FIRST_NS;
    call->attempt = attempt;
    try(attempt);
}

static void retry_cancel(struct store *store, struct store_call *call)
{
    struct attempt *attempt = call->attempt;

    if (!attempt) { /* it went past us */
        store_cancel(store->below, call);
        return;
    }
    if (attempt->cancelled)
        return;
    attempt->cancelled = true;
    if (attempt->waiting) {
        /* Never from inside: a timer that is due now. */
        abd_timer_stop(&attempt->timer);
        abd_timer_start(&attempt->timer, 0, 0, on_time, attempt);
    } else {
        store_cancel(store->below, attempt->asking ? &attempt->ask : call);
    }
}

static void retry_destroy(struct store *store)
{
    free(container_of(store, struct retry_store, store));
}

static const struct store_class retry_class = {
    .name = "retry",
    .start = retry_start,
    .cancel = retry_cancel,
    .destroy = retry_destroy,
};

int store_retry(struct store *below, uint64_t retry_for_ns, struct store **ret)
{
    struct retry_store *retry = calloc(1, sizeof *retry);

    if (!retry)
        return ENOMEM;
    retry->store.class = &retry_class;
    retry->store.loop = below->loop;
    retry->store.below = below;
    retry->retry_for_ns = retry_for_ns;
    retry->random = (uint32_t)(uintptr_t)retry >> 4;
    *ret = &retry->store;
    return 0;
}
