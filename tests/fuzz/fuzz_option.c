/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Feeds the parsers of NBD_OPT_INFO, NBD_OPT_GO and the two meta context
 * options, and that of the header in front.  Whatever is accepted must lie in
 * the data, account for all of it and keep the protocol's limits. */
#include "tests/fuzz/fuzz.h"

#include <assert.h>

#include "base/text.h"
#include "wire/option.h"

static void check_string(struct nbd_string string, const uint8_t *data,
                         size_t size)
{
    const uint8_t *start = (const uint8_t *)string.text;

    assert(start >= data && start <= data + size);
    assert(string.length <= (size_t)(data + size - start));
    assert(string.length <= NBD_MAX_STRING);
    assert(text_is_utf8(string.text, string.length));
}

static void feed_info(const uint8_t *data, size_t size)
{
    struct nbd_info_request request;

    if (nbd_info_request_parse(data, (uint32_t)size, &request) != NBD_PARSED)
        return;
    check_string(request.name, data, size);

    /* A length, the name, a count, and as many requests of two bytes. */
    size_t behind = size - 4 - request.name.length - 2;
    uint32_t known = (2u << NBD_INFO_BLOCK_SIZE) - 1;

    assert(behind % 2 == 0);
    assert((request.wanted & ~known) == 0);
    assert((size_t)__builtin_popcount(request.wanted) <= behind / 2);
}

static void feed_meta(const uint8_t *data, size_t size)
{
    struct nbd_meta_request request;

    if (nbd_meta_request_parse(data, (uint32_t)size, &request) != NBD_PARSED)
        return;
    check_string(request.name, data, size);
    for (uint32_t i = 0; i < request.queries; i++)
        check_string(nbd_meta_request_next(&request), data, size);
    assert(request.next == data + size);
}

static void feed_header(const uint8_t *data, size_t size)
{
    struct nbd_option_header header;

    if (size < NBD_OPTION_SIZE || !nbd_option_decode(data, &header))
        return;
    assert(nbd_option_name(header.option));
    if (header.length <= size - NBD_OPTION_SIZE) {
        feed_info(data + NBD_OPTION_SIZE, header.length);
        feed_meta(data + NBD_OPTION_SIZE, header.length);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    feed_header(data, size);
    feed_info(data, size);
    feed_meta(data, size);
    return 0;
}
