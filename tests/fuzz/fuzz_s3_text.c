/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Feeds what S3, or who answers for it, may say: listings, errors, results of
 * deleting.  The first byte says in how large steps; the result must be that of
 * all at once. */
#include "tests/fuzz/fuzz.h"

#include "plugins/object/s3_text.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct outcome {
    int err;
    uint64_t keys, sizes, letters;
    enum s3_document document;
    char code[S3_CODE_MAX], message[S3_MESSAGE_MAX];
};

static void on_key(void *arg, const char *key, uint64_t size)
{
    struct outcome *outcome = arg;

    assert(strlen(key) <= S3_KEY_MAX);
    outcome->keys++;
    outcome->sizes += size;
    for (; *key; key++)
        outcome->letters = outcome->letters * 31 + (unsigned char)*key;
}

static void on_failed(void *arg, const char *key, const char *code,
                      const char *message)
{
    assert(strlen(code) < S3_CODE_MAX && strlen(message) < S3_MESSAGE_MAX);
    on_key(arg, key, code[0] != '\0');
}

static struct outcome read_text(const uint8_t *data, size_t size, size_t step)
{
    struct outcome outcome = {0};
    struct s3_text_events events = {on_key, on_failed, &outcome};
    struct s3_text *text = s3_text_new(&events);

    assert(text);
    for (size_t at = 0; at < size && !outcome.err; at += step)
        outcome.err =
            s3_text_feed(text, data + at, size - at < step ? size - at : step);
    if (!outcome.err)
        outcome.err = s3_text_end(text);
    assert(!outcome.err == !s3_text_why(text)[0]);
    outcome.document = s3_text_document(text);
    strcpy(outcome.code, s3_text_code(text));
    strcpy(outcome.message, s3_text_message(text));
    if (!outcome.err && outcome.document == S3_ERROR)
        assert(outcome.code[0]);
    if (s3_text_next(text))
        assert(strlen(s3_text_next(text)) < S3_TOKEN_MAX);
    s3_text_free(text);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole, parts;

    if (size < 1)
        return 0;
    whole = read_text(data + 1, size - 1, size);
    parts = read_text(data + 1, size - 1, (size_t)data[0] % 64 + 1);
    assert(!whole.err == !parts.err);
    if (!whole.err) {
        assert(whole.document == parts.document && whole.keys == parts.keys &&
               whole.sizes == parts.sizes && whole.letters == parts.letters);
        assert(strcmp(whole.code, parts.code) == 0);
        assert(strcmp(whole.message, parts.message) == 0);
    }
    return 0;
}
