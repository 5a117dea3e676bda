/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* http.h by libcurl, whose sockets and timer are watched by the loop.
 *
 * A slot is an easy handle, and runs one call at a time; it is kept for the
 * next one, which saves most of its setting up.  Calls beyond the slots wait in
 * a queue of ours.
 *
 *     queued -> running -> ended -> done()
 *
 * libcurl calls us back from inside of curl_multi_socket_action() only, and
 * there we never call done(), as it may start and cancel others: what has ended
 * is taken from libcurl's messages afterwards.
 *
 * Its traps: by default each connection loads all certificates anew (4 MB
 * each); a store of them is shared only if no folder of them (CAPATH) is set.
 * A body over 1 MiB would wait for "100 Continue", a round trip more. */
#include "http.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What one connection's buffer may be.  That for sending is there only while
 * something is sent, and large bodies are few. */
#define BUFFER_LEAST (16L * 1024)
#define BUFFER_MOST  (256L * 1024)

struct http {
    struct abd_loop *loop;
    struct http_options options;
    char *ca_file;
    long buffer;
    CURLM *multi;
    CURLSH *share; /* TLS sessions: later connections are made faster */
    struct abd_timer timer;
    struct list queue; /* http_call: wait for a slot */
    struct list idle;  /* http_slot */
    struct list ended; /* http_call: done() is to be called */
    struct list socks; /* struct sock */
    unsigned slots;
    bool inside; /* of libcurl, or of look() */
    bool *gone;  /* look()'s: a done() has destroyed us */
    struct abd_timer later;
};

/* A socket that libcurl wants to be watched. */
struct sock {
    struct list link;
    struct http *http;
    curl_socket_t fd;
    struct abd_watch watch;
};

struct http_slot {
    struct list link; /* in http->idle */
    struct http *http;
    CURL *easy;
    struct http_call *call; /* NULL: idle */
    struct curl_slist *headers;
    /* Where the body goes on. */
    unsigned piece;
    size_t in_piece;
    struct abd_timer stall;
    uint64_t moved_ns; /* when the last byte moved */
    bool refused;
    char text[CURL_ERROR_SIZE];
};

static void look(struct http *http);

/* --- the loop's side --- */

/* After anything that may have ended calls. */
static void on_later(void *arg)
{
    look(arg);
}

static void look_later(struct http *http)
{
    abd_timer_stop(&http->later);
    abd_timer_start(&http->later, 0, 0, on_later, http);
}

static void act(struct http *http, curl_socket_t fd, int events)
{
    int running;

    http->inside = true;
    curl_multi_socket_action(http->multi, fd, events, &running);
    http->inside = false;
    look(http);
}

static void on_socket(void *arg, uint32_t ready)
{
    struct sock *sock = arg;
    int events = 0;

    if (ready & ABD_READABLE)
        events |= CURL_CSELECT_IN;
    if (ready & ABD_WRITABLE)
        events |= CURL_CSELECT_OUT;
    if (ready & ABD_EVENT_ERROR)
        events |= CURL_CSELECT_ERR;
    act(sock->http, sock->fd, events);
}

static void sock_free(struct sock *sock)
{
    abd_watch_stop(&sock->watch);
    list_remove(&sock->link);
    free(sock);
}

static int watch_socket(struct http *http, curl_socket_t fd, uint32_t events)
{
    struct sock *sock = calloc(1, sizeof *sock);

    if (!sock)
        return -1;
    sock->http = http;
    sock->fd = fd;
    list_append(&http->socks, &sock->link);
    if (abd_watch_start(&sock->watch, fd, events, on_socket, sock) != 0 ||
        curl_multi_assign(http->multi, fd, sock) != CURLM_OK) {
        sock_free(sock);
        return -1;
    }
    return 0;
}

/* libcurl: what is to be watched has changed. */
static int on_want(CURL *easy, curl_socket_t fd, int what, void *arg,
                   void *socket_arg)
{
    struct http *http = arg;
    struct sock *sock = socket_arg;
    uint32_t events = 0;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (sock)
            sock_free(sock);
        return 0;
    }
    if (what & CURL_POLL_IN)
        events |= ABD_READABLE;
    if (what & CURL_POLL_OUT)
        events |= ABD_WRITABLE;
    if (!sock)
        return watch_socket(http, fd, events);
    return abd_watch_change(&sock->watch, events) == 0 ? 0 : -1;
}

static void on_timer(void *arg)
{
    act(arg, CURL_SOCKET_TIMEOUT, 0);
}

/* libcurl: call back in so many ms; -1: not at all. */
static int on_timer_wanted(CURLM *multi, long ms, void *arg)
{
    struct http *http = arg;

    (void)multi;
    abd_timer_stop(&http->timer);
    if (ms >= 0)
        abd_timer_start(&http->timer, (uint64_t)ms * 1000000, 0, on_timer,
                        http);
    return 0;
}

/* --- a call --- */

static size_t on_bytes(char *bytes, size_t size, size_t n, void *arg)
{
    struct http_slot *slot = arg;

    slot->moved_ns = abd_loop_now_ns();
    if (!slot->call->bytes(slot->call, bytes, size * n)) {
        slot->refused = true;
        return 0; /* ends it */
    }
    return size * n;
}

static size_t on_body(char *to, size_t size, size_t n, void *arg)
{
    struct http_slot *slot = arg;
    const struct http_call *call = slot->call;
    size_t room = size * n, got = 0;

    slot->moved_ns = abd_loop_now_ns();
    while (got < room && slot->piece < call->body_n) {
        const struct iovec *piece = &call->body[slot->piece];
        size_t left = piece->iov_len - slot->in_piece;
        size_t some = left < room - got ? left : room - got;

        memcpy(to + got, (const char *)piece->iov_base + slot->in_piece, some);
        got += some;
        slot->in_piece += some;
        if (slot->in_piece == piece->iov_len) {
            slot->piece++;
            slot->in_piece = 0;
        }
    }
    slot->call->sent += got;
    return got;
}

/* libcurl begins anew, on another connection. */
static int on_rewind(void *arg, curl_off_t offset, int origin)
{
    struct http_slot *slot = arg;

    if (offset != 0 || origin != SEEK_SET)
        return CURL_SEEKFUNC_CANTSEEK;
    slot->piece = 0;
    slot->in_piece = 0;
    return CURL_SEEKFUNC_OK;
}

/* One line of the answer's head: "Name: value\r\n", the status line, or the
 * empty one. */
static size_t on_field(char *line, size_t size, size_t n, void *arg)
{
    struct http_slot *slot = arg;
    struct http_call *call = slot->call;
    size_t length = size * n, name;
    char text[512];
    long status = 0;
    char *value;

    slot->moved_ns = abd_loop_now_ns();
    while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
        length--;
    /* What is longer nobody here wants. */
    if (length >= sizeof text || !call->field)
        return size * n;
    memcpy(text, line, length);
    text[length] = '\0';
    name = strcspn(text, ":");
    if (name == length || memchr(text, '\0', length))
        return size * n;
    curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &status);
    call->status = (int)status;
    text[name] = '\0';
    value = text + name + 1;
    value += strspn(value, " \t");
    call->field(call, text, value);
    return size * n;
}

static void on_stall(void *arg);

static void watch_stall(struct http_slot *slot, uint64_t delay_ns)
{
    abd_timer_start(&slot->stall, delay_ns, 0, on_stall, slot);
}

static enum http_failure failure_of(const struct http_slot *slot, CURLcode code)
{
    if (slot->refused)
        return HTTP_REFUSED;
    switch (code) {
    case CURLE_OK:
        return HTTP_NONE;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return HTTP_UNREACHED;
    default:
        return HTTP_LOST;
    }
}

/* The slot is free again, its call is among the ended ones. */
static void leave_slot(struct http_slot *slot)
{
    struct http *http = slot->http;
    struct http_call *call = slot->call;
    curl_off_t length = -1;
    long status = 0;

    abd_timer_stop(&slot->stall);
    curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(slot->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    call->status = (int)status;
    call->content_length = length < 0 ? UINT64_MAX : (uint64_t)length;
    curl_multi_remove_handle(http->multi, slot->easy);
    curl_slist_free_all(slot->headers);
    slot->headers = NULL;
    slot->call = NULL;
    call->slot = NULL;
    list_append(&http->ended, &call->link);
    list_append(&http->idle, &slot->link);
}

static void end(struct http_slot *slot, enum http_failure failure,
                const char *why)
{
    struct http_call *call = slot->call;

    call->failure = failure;
    snprintf(call->why, sizeof call->why, "%s", why);
    leave_slot(slot);
}

static void on_stall(void *arg)
{
    struct http_slot *slot = arg;
    struct http *http = slot->http;
    uint64_t still_ns = abd_loop_now_ns() - slot->moved_ns;
    char why[HTTP_WHY_MAX];

    if (still_ns < http->options.stall_ns) {
        watch_stall(slot, http->options.stall_ns - still_ns);
        return;
    }
    snprintf(why, sizeof why, "not a byte moved for %.1f s",
             (double)still_ns / 1e9);
    end(slot, HTTP_STALLED, why);
    look(http);
}

static void prepare_once(struct http_slot *slot)
{
    struct http *http = slot->http;
    CURL *easy = slot->easy;

    curl_easy_setopt(easy, CURLOPT_PRIVATE, slot);
    curl_easy_setopt(easy, CURLOPT_SHARE, http->share);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, http->buffer);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     (long)(http->options.connect_ns / 1000000));
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    if (http->ca_file)
        curl_easy_setopt(easy, CURLOPT_CAINFO, http->ca_file);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, slot->text);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, slot);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_field);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, slot);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_READDATA, slot);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_rewind);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, slot);
}

static int add_header(struct http_slot *slot, const char *text)
{
    struct curl_slist *more = curl_slist_append(slot->headers, text);

    if (!more)
        return ENOMEM;
    slot->headers = more;
    return 0;
}

static int prepare(struct http_slot *slot)
{
    const struct http_call *call = slot->call;
    bool upload = strcmp(call->method, "PUT") == 0;
    CURL *easy = slot->easy;
    int err = add_header(slot, "Expect:");

    for (unsigned i = 0; i < call->headers_n && !err; i++)
        err = add_header(slot, call->headers[i]);
    if (err)
        return err;
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, slot->headers);
    /* A method of before must not shine through. */
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, NULL);
    if (upload) {
        curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE,
                         call->length < (uint64_t)BUFFER_MOST ? BUFFER_LEAST
                                                              : BUFFER_MOST);
        curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE,
                         (curl_off_t)call->length);
    } else {
        curl_easy_setopt(easy, CURLOPT_UPLOAD, 0L);
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
        if (strcmp(call->method, "GET") != 0)
            curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->method);
    }
    return curl_easy_setopt(easy, CURLOPT_URL, call->url) == CURLE_OK ? 0
                                                                      : ENOMEM;
}

/* The call has the slot from here on, whatever comes. */
static void run(struct http_slot *slot, struct http_call *call)
{
    struct http *http = slot->http;

    slot->call = call;
    call->slot = slot;
    slot->piece = 0;
    slot->in_piece = 0;
    slot->refused = false;
    slot->text[0] = '\0';
    slot->moved_ns = abd_loop_now_ns();
    if (prepare(slot) != 0 ||
        curl_multi_add_handle(http->multi, slot->easy) != CURLM_OK) {
        end(slot, HTTP_UNREACHED, "no memory for the request");
        look_later(http);
        return;
    }
    watch_stall(slot, http->options.stall_ns);
}

static struct http_slot *slot_new(struct http *http)
{
    struct http_slot *slot = calloc(1, sizeof *slot);

    if (!slot)
        return NULL;
    slot->http = http;
    slot->easy = curl_easy_init();
    if (!slot->easy) {
        free(slot);
        return NULL;
    }
    prepare_once(slot);
    http->slots++;
    return slot;
}

static void slot_free(struct http_slot *slot)
{
    curl_easy_cleanup(slot->easy);
    free(slot);
}

/* One that is free; NULL: all of them are busy. */
static struct http_slot *find_slot(struct http *http)
{
    struct http_slot *slot = list_first(&http->idle, struct http_slot, link);

    if (slot)
        list_remove(&slot->link);
    else if (http->slots < http->options.connections)
        slot = slot_new(http);
    return slot;
}

/* --- all calls --- */

static void take_messages(struct http *http)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(http->multi, &left))) {
        struct http_slot *slot = NULL;
        CURLcode code = message->data.result;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &slot);
        end(slot, failure_of(slot, code),
            code == CURLE_OK ? ""
            : slot->text[0]  ? slot->text
                             : curl_easy_strerror(code));
    }
}

static void begin_queued(struct http *http)
{
    while (!list_is_empty(&http->queue)) {
        struct http_slot *slot = find_slot(http);
        struct http_call *call;

        if (!slot)
            return;
        call =
            container_of(list_take_first(&http->queue), struct http_call, link);
        run(slot, call);
    }
}

/* Says who has ended, and gives their slots to others.  Not from inside.  The
 * last of all calls may be the one whose done() destroys us. */
static void look(struct http *http)
{
    bool gone = false;
    struct list *link;

    take_messages(http);
    begin_queued(http);
    http->inside = true;
    http->gone = &gone;
    while ((link = list_take_first(&http->ended))) {
        struct http_call *call = container_of(link, struct http_call, link);

        call->done(call);
        if (gone)
            return;
    }
    http->gone = NULL;
    http->inside = false;
    begin_queued(http);
}

void http_start(struct http *http, struct http_call *call)
{
    call->failure = HTTP_NONE;
    call->status = 0;
    call->sent = 0;
    call->content_length = UINT64_MAX;
    call->why[0] = '\0';
    call->slot = NULL;
    list_append(&http->queue, &call->link);
    if (!http->inside)
        begin_queued(http);
    /* With not even one slot there is no memory, and nobody to come back. */
    if (!http->slots) {
        list_remove(&call->link);
        call->failure = HTTP_UNREACHED;
        snprintf(call->why, sizeof call->why, "no memory for a connection");
        list_append(&http->ended, &call->link);
        look_later(http);
    }
}

void http_cancel(struct http *http, struct http_call *call)
{
    if (call->slot) {
        end(call->slot, HTTP_CANCELLED, "cancelled");
    } else if (call->failure == HTTP_NONE && call->status == 0) {
        list_remove(&call->link);
        call->failure = HTTP_CANCELLED;
        snprintf(call->why, sizeof call->why, "cancelled");
        list_append(&http->ended, &call->link);
    }
    look_later(http);
}

/* --- all of it --- */

static CURLcode global_result;
static void init_global(void)
{
    global_result = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static long buffer_for(const struct http_options *options)
{
    uint64_t each = options->buffers / options->connections;

    if (each < (uint64_t)BUFFER_LEAST)
        return BUFFER_LEAST;
    return each > (uint64_t)BUFFER_MOST ? BUFFER_MOST : (long)each;
}

static bool set_multi(struct http *http)
{
    CURLM *multi = http->multi;

    return curl_share_setopt(http->share, CURLSHOPT_SHARE,
                             CURL_LOCK_DATA_SSL_SESSION) == CURLSHE_OK &&
           !curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_want) &&
           !curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, http) &&
           !curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer_wanted) &&
           !curl_multi_setopt(multi, CURLMOPT_TIMERDATA, http) &&
           !curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS,
                              (long)http->options.connections);
}

int http_create(struct abd_loop *loop, const struct http_options *options,
                struct http **ret, char why[HTTP_WHY_MAX])
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct http *http = calloc(1, sizeof *http);

    pthread_once(&once, init_global);
    if (!http || global_result != CURLE_OK) {
        free(http);
        snprintf(why, HTTP_WHY_MAX, "libcurl does not start");
        return ENOMEM;
    }
    http->loop = loop;
    http->options = *options;
    http->buffer = buffer_for(options);
    list_init(&http->queue);
    list_init(&http->idle);
    list_init(&http->ended);
    list_init(&http->socks);
    http->ca_file = options->ca_file ? strdup(options->ca_file) : NULL;
    http->multi = curl_multi_init();
    http->share = curl_share_init();
    if ((options->ca_file && !http->ca_file) || !http->multi || !http->share ||
        !set_multi(http)) {
        http_destroy(http);
        snprintf(why, HTTP_WHY_MAX, "no memory for HTTP");
        return ENOMEM;
    }
    *ret = http;
    return 0;
}

void http_destroy(struct http *http)
{
    struct list *link;

    if (http->gone)
        *http->gone = true;
    while ((link = list_take_first(&http->idle)))
        slot_free(container_of(link, struct http_slot, link));
    /* The share outlives the connections that use it. */
    if (http->multi)
        curl_multi_cleanup(http->multi);
    if (http->share)
        curl_share_cleanup(http->share);
    while ((link = list_take_first(&http->socks)))
        sock_free(container_of(link, struct sock, link));
    abd_timer_stop(&http->timer);
    abd_timer_stop(&http->later);
    free(http->ca_file);
    free(http);
}
