/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Parameters and debug flags: which layer each is for.
 *
 * A filter gets the keys that it lists, the outermost first; the plugin gets
 * all that is left, and may list what it knows.  Main thread. */
#include "server/chain.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/text.h"
#include "server/layer.h"
#include "server/suggest.h"

/* A list of words for a message; what does not fit is left out. */
struct words {
    char text[1024];
    size_t used;
};

static void words_add(struct words *words, const char *before, const char *word)
{
    size_t room = sizeof words->text - words->used;
    int n = snprintf(words->text + words->used, room, "%s%s", before, word);

    if (n < 0 || (size_t)n >= room)
        words->text[words->used] = '\0';
    else
        words->used += (size_t)n;
}

static const struct layer *the_plugin(void)
{
    return chain.layers[chain.n - 1];
}

/* The length of the key that the text begins with; 0: it is not KEY=VALUE.  A
 * key begins with a letter and goes on with letters, digits and "._-", so
 * "disk=1.img" has one and "./a=b" has none. */
static size_t key_length(const char *text)
{
    size_t n = 0;

    if (!isalpha((unsigned char)text[0]))
        return 0;
    while (isalnum((unsigned char)text[n]) ||
           (text[n] && strchr("._-", text[n])))
        n++;
    return text[n] == '=' ? n : 0;
}

static bool knows(const struct layer *layer, const char *key)
{
    const struct abd_parameter *parameter = layer->plugin->parameters;

    for (; parameter && parameter->name; parameter++)
        if (strcmp(parameter->name, key) == 0)
            return true;
    return false;
}

static int refuse_key(const char *key)
{
    struct words words = {.used = 0};
    struct suggestion suggestion = {.word = key};
    char quoted[256];

    for (unsigned i = 0; i < chain.n; i++) {
        const struct abd_plugin *plugin = chain.layers[i]->plugin;
        const struct abd_parameter *parameter = plugin->parameters;

        words_add(&words, i ? "; of " : "", plugin->name);
        words_add(&words, ":", "");
        if (!parameter || !parameter->name)
            words_add(&words, " ", "none");
        for (; parameter && parameter->name; parameter++) {
            words_add(&words, " ", parameter->name);
            suggest_consider(&suggestion, parameter->name);
        }
    }
    text_quote(key, strlen(key), quoted, sizeof quoted);
    log_write(ABD_ERROR, NULL,
              "parameter %s is not known%s%s%s; there are, of %s", quoted,
              suggestion.best ? ", did you mean " : "",
              suggestion.best ? suggestion.best : "",
              suggestion.best ? "?" : "", words.text);
    return EINVAL;
}

static int give(struct layer *layer, const char *key, const char *value)
{
    int (*config)(struct abd_instance *, const char *, const char *) =
        layer->plugin->config;
    unsigned before = log_errors();
    int err = config ? config(&layer->instance, key, value) : EINVAL;
    bool said = log_errors() > before;

    if (!config)
        log_write(ABD_ERROR, layer->instance.name,
                  "it takes no parameters, %s=%s was given", key, value);
    else if (err)
        log_write(ABD_ERROR, layer->instance.name,
                  "the parameter %s=%s was refused%s%s", key, value,
                  said ? "" : ": ", said ? "" : strerror(err));
    return err;
}

static int give_keyed(const char *key, const char *value)
{
    for (unsigned i = 0; i < chain.n; i++)
        if (knows(chain.layers[i], key))
            return give(chain.layers[i], key, value);
    /* Without a list the plugin looks at all keys itself. */
    if (the_plugin()->plugin->parameters || !the_plugin()->plugin->config)
        return refuse_key(key);
    return give(chain.layers[chain.n - 1], key, value);
}

static int no_memory(const char *text)
{
    log_write(ABD_ERROR, NULL, "%s: %s", text, strerror(ENOMEM));
    return ENOMEM;
}

int chain_configure(const char *parameter)
{
    const char *magic = the_plugin()->plugin->magic_key;
    size_t length = key_length(parameter);
    _cleanup_free_ char *key = NULL;
    char quoted[256];

    if (length) {
        key = strndup(parameter, length);
        return key ? give_keyed(key, parameter + length + 1)
                   : no_memory(parameter);
    }
    if (magic)
        return give(chain.layers[chain.n - 1], magic, parameter);
    log_write(ABD_ERROR, NULL,
              "%s is not KEY=VALUE, and the plugin %s takes no VALUE alone",
              text_quote(parameter, strlen(parameter), quoted, sizeof quoted),
              the_plugin()->plugin->name);
    return EINVAL;
}

static bool is_called(const struct layer *layer, const char *name)
{
    return strcmp(layer->plugin->name, name) == 0 ||
           strcmp(layer->instance.name, name) == 0;
}

/* Sets the flag in every layer of that name; false: none has it. */
static bool set_flag(const char *name, const char *flag, int value)
{
    bool found = false;

    for (unsigned i = 0; i < chain.n; i++) {
        const struct abd_debug_flag *known =
            chain.layers[i]->plugin->debug_flags;

        if (!is_called(chain.layers[i], name))
            continue;
        for (; known && known->name; known++)
            if (strcmp(known->name, flag) == 0) {
                *known->value = value;
                found = true;
            }
    }
    return found;
}

static int refuse_flag(const char *text)
{
    struct words words = {.used = 0};
    char quoted[256];

    words_add(&words, "", "server.requests");
    for (unsigned i = 0; i < chain.n; i++) {
        const struct abd_plugin *plugin = chain.layers[i]->plugin;
        const struct abd_debug_flag *known = plugin->debug_flags;

        for (; known && known->name; known++) {
            words_add(&words, ", ", plugin->name);
            words_add(&words, ".", known->name);
        }
    }
    log_write(ABD_ERROR, NULL, "debug flag %s is not known; there are: %s",
              text_quote(text, strlen(text), quoted, sizeof quoted),
              words.text);
    return EINVAL;
}

int chain_set_debug_flag(const char *text)
{
    _cleanup_free_ char *name = strdup(text);
    char *flag = name ? strchr(name, '.') : NULL;
    char *number = name ? strchr(name, '=') : NULL;
    uint64_t value = 0;
    const char *why = NULL;

    if (!name)
        return no_memory(text);
    /* options.c has refused what is not NAME.FLAG=N. */
    if (!flag || !number || number < flag ||
        parse_number(number + 1, INT_MAX, &value, &why))
        return EINVAL;
    *flag++ = '\0';
    *number = '\0';
    return set_flag(name, flag, (int)value) ? 0 : refuse_flag(text);
}
