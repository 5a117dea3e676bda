/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Gathering the list of exports.
 *
 * The layer adds to it from whatever thread it likes; the strings are copied
 * into one growing buffer, each behind its length.  Its end is a message to the
 * loop that asked, also if nobody had to be asked, so that the answer always
 * comes later.  What does not fit is left out, and said so once. */
#include "server/exports.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/log.h"
#include "base/text.h"
#include "loop/loop.h"
#include "server/layer.h"
#include "server/limits.h"
#include "wire/nbd.h"

/* The list is sent in one go: it fits into the output with its headers (a reply
 * header and the name's length for each, and the final one). */
#define LIST_BYTES                                                             \
    (LIMIT_HANDSHAKE_OUTPUT - (LIMIT_LISTED_EXPORTS + 1) * UINT64_C(24))

/* Made by exports_ask(), the asker's.  Until the message arrives the layer
 * writes to it, under the lock: it may use several threads. */
struct exports {
    struct abd_exports pub; /* what the layer sees */
    struct abd_loop *loop;
    void (*got)(struct exports *exports, void *arg);
    void *arg;
    struct loop_message message;
    bool under_way; /* loop thread only */

    pthread_mutex_t lock; /* protects what follows */
    bool done, no_memory;
    int error;
    unsigned n, left_out;
    char *bytes; /* for each: two lengths (uint32_t), name, description */
    uint64_t end, size;
};

static struct exports *exports_of(struct abd_exports *pub)
{
    return container_of(pub, struct exports, pub);
}

static int grow_locked(struct exports *exports, uint64_t more)
{
    uint64_t size = exports->size ? exports->size : 256;
    char *bytes;

    if (more <= exports->size - exports->end)
        return 0;
    if (more > LIST_BYTES - exports->end)
        return EOVERFLOW;
    while (size - exports->end < more)
        size *= 2;
    bytes = realloc(exports->bytes, size);
    if (!bytes)
        return ENOMEM;
    exports->bytes = bytes;
    exports->size = size;
    return 0;
}

static int add_locked(struct exports *exports, const char *name,
                      uint32_t name_length, const char *description,
                      uint32_t description_length)
{
    uint32_t lengths[2] = {name_length, description_length};
    char *to;
    int err;

    if (exports->n == LIMIT_LISTED_EXPORTS)
        return EOVERFLOW;
    err = grow_locked(exports, sizeof lengths + (uint64_t)name_length +
                                   description_length);
    if (err)
        return err;
    to = exports->bytes + exports->end;
    memcpy(to, lengths, sizeof lengths);
    to += sizeof lengths;
    memcpy(to, name, name_length);
    memcpy(to + name_length, description, description_length);
    exports->end += sizeof lengths + name_length + description_length;
    exports->n++;
    return 0;
}

static bool is_string(const char *text, size_t length)
{
    return length <= NBD_MAX_STRING && text_is_utf8(text, length);
}

__attribute__((visibility("default"))) void abd_add_export(
    struct abd_exports *exports, const char *name, const char *description)
{
    struct exports *list = exports_of(exports);
    const char *shown = description ? description : "";
    size_t name_length = strlen(name);
    size_t length = strlen(shown);
    char quoted[128];
    int err = 0;

    text_quote(name, name_length, quoted, sizeof quoted);
    if (!is_string(name, name_length)) {
        log_write(ABD_WARNING, exports->instance->name,
                  "export %s is not listed: its name must be UTF-8 of at most "
                  "%d bytes",
                  quoted, NBD_MAX_STRING);
        return;
    }
    if (!is_string(shown, length)) {
        log_write(ABD_WARNING, exports->instance->name,
                  "the description of export %s is not listed: it must be "
                  "UTF-8 of at most %d bytes",
                  quoted, NBD_MAX_STRING);
        length = 0;
    }
    pthread_mutex_lock(&list->lock);
    err =
        add_locked(list, name, (uint32_t)name_length, shown, (uint32_t)length);
    if (err == ENOMEM)
        list->no_memory = true;
    else if (err)
        list->left_out++;
    pthread_mutex_unlock(&list->lock);
}

static void on_done(struct loop_message *message)
{
    struct exports *exports = container_of(message, struct exports, message);

    assert(exports->under_way);
    exports->under_way = false;
    if (exports->left_out > 0)
        log_write(ABD_WARNING, exports->pub.instance->name,
                  "%u exports are not listed: a list has at most %d of them, "
                  "and %d bytes",
                  exports->left_out, LIMIT_LISTED_EXPORTS, (int)LIST_BYTES);
    exports->got(exports, exports->arg);
}

__attribute__((visibility("default"))) void abd_exports_done(
    struct abd_exports *exports, int error)
{
    struct exports *list = exports_of(exports);
    bool again;

    pthread_mutex_lock(&list->lock);
    again = list->done;
    list->done = true;
    list->error = error;
    pthread_mutex_unlock(&list->lock);
    if (again) {
        log_write(ABD_ERROR, exports->instance->name,
                  "abd_exports_done() was called twice for one list");
        abort();
    }
    loop_send(list->loop, &list->message);
}

/* A filter may list other names than what is below it. */
static struct layer *layer_that_lists(void)
{
    for (unsigned i = 0; i < chain.n; i++)
        if (chain.layers[i]->plugin->exports)
            return chain.layers[i];
    return NULL;
}

struct exports *exports_ask(const struct abd_client *client,
                            void (*got)(struct exports *exports, void *arg),
                            void *arg)
{
    struct layer *layer = layer_that_lists();
    struct exports *exports = calloc(1, sizeof *exports);

    if (!exports)
        return NULL;
    pthread_mutex_init(&exports->lock, NULL);
    exports->pub.client = client;
    exports->loop = abd_loop_current();
    exports->got = got;
    exports->arg = arg;
    exports->message.fn = on_done;
    exports->under_way = true;
    if (layer) {
        exports->pub.instance = &layer->instance;
        loop_set_busy_with(exports->loop, layer->instance.name);
        layer->plugin->exports(&exports->pub);
        loop_set_busy_with(exports->loop, NULL);
        return exports;
    }
    /* One disk under every name: the default one stands for all. */
    exports->pub.instance = &chain.layers[chain.n - 1]->instance;
    abd_add_export(&exports->pub, "", NULL);
    abd_exports_done(&exports->pub, 0);
    return exports;
}

void exports_free(struct exports *exports)
{
    if (!exports)
        return;
    assert(!exports->under_way);
    pthread_mutex_destroy(&exports->lock);
    free(exports->bytes);
    free(exports);
}

bool exports_are_under_way(const struct exports *exports)
{
    return exports && exports->under_way;
}

int exports_error(const struct exports *exports)
{
    return exports->no_memory ? ENOMEM : exports->error;
}

bool exports_next(const struct exports *exports, uint64_t *position,
                  struct listed_export *ret)
{
    const char *from;
    uint32_t lengths[2];

    if (*position == exports->end)
        return false;
    from = exports->bytes + *position;
    memcpy(lengths, from, sizeof lengths);
    from += sizeof lengths;
    *ret = (struct listed_export){
        .name = from,
        .name_length = lengths[0],
        .description = from + lengths[0],
        .description_length = lengths[1],
    };
    *position += sizeof lengths + (uint64_t)lengths[0] + lengths[1];
    return true;
}
