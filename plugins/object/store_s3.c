/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* A bucket as a store: the life of its requests, its credentials and clock.
 *
 *     WAITING (for credentials) -> HASHING -> ASKING -> done()
 *
 * Credentials are read by the pool: at the beginning, shortly before they
 * expire, and when the store does not take them any more; requests wait
 * meanwhile.  A clock that is off is mended by the store's own Date. */
#include "store_s3.h"

#include "s3.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONNECT_NS UINT64_C(10000000000)
/* What expires sooner is renewed first. */
#define RENEW_BEFORE_S 120
/* Files are not read more often, whatever the store says. */
#define RENEW_LEAST_NS UINT64_C(1000000000)

static void proceed(struct s3_request *request);

static struct s3_store *s3_of(struct store *store)
{
    return container_of(store, struct s3_store, store);
}

/* --- a request's end --- */

static void say_done(void *arg)
{
    struct s3_request *request = arg;
    struct store_call *call = request->call;
    struct s3_store *s3 = request->s3;

    store_count_end(&s3->store, call);
    s3_text_free(request->document);
    explicit_bzero(request->token, sizeof request->token);
    free(request);
    call->state = NULL;
    call->done(call);
}

/* From inside of start() or cancel(). */
static void say_later(struct s3_request *request, enum store_result result,
                      const char *why)
{
    struct store_call *call = request->call;

    store_answer(call, result, "%.60s: %.90s", call->name, why);
    request->stage = S3_SAYING;
    abd_post(request->s3->store.loop, &call->task, say_done, request);
}

/* The store did not take the credentials that it was signed with.  With new
 * ones it may. */
static void say_renewed(struct s3_request *request)
{
    if (request->s3->changed_ns > request->began_ns)
        request->call->result = STORE_BUSY;
    say_done(request);
}

/* --- credentials --- */

static void run_load(void *arg)
{
    struct s3_store *s3 = arg;

    credentials_load(s3->place->profile, &s3->fresh, s3->load_why);
}

static bool is_same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool is_same(const struct credentials *a, const struct credentials *b)
{
    return is_same_text(a->access_key, b->access_key) &&
           is_same_text(a->secret_key, b->secret_key) &&
           is_same_text(a->session_token, b->session_token);
}

static void on_loaded(void *arg)
{
    struct s3_store *s3 = arg;
    struct list going;
    struct list *link;

    s3->loading = false;
    s3->loaded_ns = abd_loop_now_ns();
    /* What was good once may be so again: it is kept if there is no better. */
    if (s3->fresh.access_key) {
        if (!is_same(&s3->fresh, &s3->credentials))
            s3->changed_ns = s3->loaded_ns;
        credentials_finish(&s3->credentials);
        s3->credentials = s3->fresh;
    } else {
        credentials_finish(&s3->fresh);
    }
    memset(&s3->fresh, 0, sizeof s3->fresh);
    /* The last of them may be the one whose done() destroys us. */
    list_init(&going);
    list_append_all(&going, &s3->waiting);
    while ((link = list_take_first(&going))) {
        struct s3_request *request =
            container_of(link, struct s3_request, link);

        if (request->answered)
            say_renewed(request);
        else
            proceed(request);
    }
}

/* Were they read a moment ago? */
static bool is_fresh(const struct s3_store *s3)
{
    return s3->loaded_ns && abd_loop_now_ns() - s3->loaded_ns < RENEW_LEAST_NS;
}

/* The request waits until they have been read. */
static void wait_for_credentials(struct s3_request *request)
{
    struct s3_store *s3 = request->s3;

    if (!s3->loading) {
        s3->loading = true;
        abd_work_start(s3->store.loop, &s3->load, run_load, on_loaded, s3);
    }
    request->stage = S3_WAITING;
    list_append(&s3->waiting, &request->link);
}

/* Will they be good for this request? */
static bool is_expiring(const struct s3_store *s3)
{
    uint64_t expires_s = s3->credentials.expires_s;

    return expires_s && expires_s < (uint64_t)time(NULL) + RENEW_BEFORE_S;
}

/* --- a request's way --- */

static void on_answer(struct http_call *http)
{
    struct s3_request *request = http->arg;
    struct s3_store *s3 = request->s3;
    struct store_call *call = request->call;
    enum s3_advice advice = s3_answer_end(request);

    if (request->cancelled && call->result != STORE_OK)
        store_answer(call, STORE_CANCELLED, "%.60s: cancelled", call->name);
    else if (advice == S3_SKEW && request->date_s)
        s3->skew_s = request->date_s - (int64_t)time(NULL);
    else if (advice == S3_RENEW) {
        /* What is tried again anyway need not read files each time. */
        request->answered = true;
        if (!s3->loading && is_fresh(s3) && call->result == STORE_BUSY)
            say_renewed(request);
        else
            wait_for_credentials(request);
        return;
    }
    say_done(request);
}

static void ask(struct s3_request *request)
{
    int err;

    if (request->call->verb == STORE_CREATE && !request->hashed) {
        say_later(request, STORE_UNKNOWN, "no memory for its hash");
        return;
    }
    request->stage = S3_ASKING;
    request->began_ns = abd_loop_now_ns();
    s3_answer_begin(request);
    err = s3_request_build(request);
    if (err) {
        say_later(request, STORE_DENIED,
                  "the key, a token or the prefix is too long to be sent");
        return;
    }
    request->http.field = s3_answer_field;
    request->http.bytes = s3_answer_bytes;
    request->http.done = on_answer;
    request->http.arg = request;
    http_start(request->s3->http, &request->http);
}

static void on_hashed(void *arg)
{
    struct s3_request *request = arg;

    if (request->cancelled)
        say_later(request, STORE_CANCELLED, "cancelled");
    else
        ask(request);
}

/* As far as it can go now. */
static void proceed(struct s3_request *request)
{
    struct s3_store *s3 = request->s3;

    if (request->cancelled) {
        say_later(request, STORE_CANCELLED, "cancelled");
        return;
    }
    if (s3->loading || (!is_fresh(s3) && (!s3->loaded_ns || is_expiring(s3)))) {
        wait_for_credentials(request);
        return;
    }
    if (!s3->credentials.access_key) {
        say_later(request, STORE_DENIED, s3->load_why);
        return;
    }
    if (!request->hashed && s3_request_must_hash(request)) {
        request->stage = S3_HASHING;
        abd_work_start(s3->store.loop, &request->call->work, s3_request_hash,
                       on_hashed, request);
        return;
    }
    ask(request);
}

static void no_memory(void *arg)
{
    struct store_call *call = arg;

    call->done(call);
}

static void s3_start(struct store *store, struct store_call *call)
{
    struct s3_store *s3 = s3_of(store);
    struct s3_request *request = calloc(1, sizeof *request);

    store_count_begin(store, call);
    call->store = store;
    call->state = request;
    if (!request) {
        store_answer(call, STORE_UNKNOWN, "%.60s: no memory", call->name);
        store_count_end(store, call);
        abd_post(store->loop, &call->task, no_memory, call);
        return;
    }
    request->s3 = s3;
    request->call = call;
    proceed(request);
}

static void s3_cancel(struct store *store, struct store_call *call)
{
    struct s3_store *s3 = s3_of(store);
    struct s3_request *request = call->state;

    if (!request || request->cancelled)
        return;
    request->cancelled = true;
    if (request->stage == S3_ASKING)
        http_cancel(s3->http, &request->http);
}

/* --- a place --- */

static bool copy(char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return !from || *to;
}

void s3_place_free(struct s3_place *place)
{
    if (!place)
        return;
    free(place->profile);
    free(place->ca_file);
    free(place);
}

int s3_place_find(const struct store_s3_options *options, struct s3_place **ret,
                  char why[STORE_WHY_MAX])
{
    struct s3_place *place = calloc(1, sizeof *place);
    struct credentials found = {0};
    char long_why[CREDENTIALS_WHY_MAX] = "";
    const char *ca_file =
        options->ca_file ? options->ca_file : getenv("AWS_CA_BUNDLE");
    const char *region;
    int err, load_error;

    if (!place || !copy(&place->profile, options->profile) ||
        !copy(&place->ca_file, ca_file)) {
        s3_place_free(place);
        snprintf(why, STORE_WHY_MAX, "no memory");
        return ENOMEM;
    }
    place->requests = options->requests;
    place->stall_ns = options->stall_ns;
    load_error = credentials_load(options->profile, &found, long_why);
    region = options->region ? options->region : found.region;
    err = s3_address(options,
                     options->endpoint ? options->endpoint : found.endpoint,
                     region, &place->address, why);
    snprintf(place->region, sizeof place->region, "%s",
             region ? region : "us-east-1");
    if (!err && load_error) {
        snprintf(why, STORE_WHY_MAX, "%.*s", STORE_WHY_MAX - 1, long_why);
        err = load_error;
    }
    credentials_finish(&found);
    if (err)
        s3_place_free(place);
    else
        *ret = place;
    return err;
}

/* --- the store --- */

static void s3_destroy(struct store *store)
{
    struct s3_store *s3 = s3_of(store);

    if (s3->http)
        http_destroy(s3->http);
    credentials_finish(&s3->credentials);
    credentials_finish(&s3->fresh);
    sigv4_key_finish(&s3->key);
    free(s3);
}

static const struct store_class s3_class = {
    .name = "s3",
    .start = s3_start,
    .cancel = s3_cancel,
    .destroy = s3_destroy,
};

int store_s3(struct abd_loop *loop, const struct s3_place *place,
             struct store **ret, char why[STORE_WHY_MAX])
{
    struct s3_store *s3 = calloc(1, sizeof *s3);
    struct http_options options = {
        .ca_file = place->ca_file,
        .connections = place->requests,
        .buffers = STORE_S3_MEMORY,
        .connect_ns = CONNECT_NS,
        .stall_ns = place->stall_ns,
    };
    int err;

    if (!s3)
        return ENOMEM;
    s3->store.class = &s3_class;
    s3->store.loop = loop;
    s3->place = place;
    list_init(&s3->waiting);
    err = http_create(loop, &options, &s3->http, why);
    if (err) {
        s3_destroy(&s3->store);
        return err;
    }
    *ret = &s3->store;
    return 0;
}
