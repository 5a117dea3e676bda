/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* What came back, against what must be there. */
#include "tools/check/load.h"
#include "tools/check/options.h"
#include "tools/check/rules.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *what(const struct operation *operation)
{
    return guard_describe(operation->request->record);
}

static const char *who(const struct operation *operation)
{
    return atomic_load(&operation->request->record->who);
}

static void verify_read(struct operation *operation)
{
    struct load *load = operation->load;
    const uint8_t *bytes = operation->request->loan.pieces
                               ? operation->bytes
                               : operation->request->data;
    uint64_t wrong;

    if (load->plan->overlaps)
        return;
    rules_try(RULE_DATA);
    wrong =
        model_check(load->model, operation->offset, operation->length, bytes);
    if (wrong != UINT64_MAX)
        rules_break(
            load->plan->rule ? load->plan->rule : RULE_DATA, who(operation),
            "byte %" PRIu64 " is not what it must be, in %s%s", wrong,
            what(operation), operation->request->loan.pieces ? " (lent)" : "");
}

static void verify_extents(struct operation *operation)
{
    const struct request *request = operation->request;
    struct load *load = operation->load;
    uint64_t at = operation->offset;

    for (unsigned i = 0; i < request->extents_n && !load->plan->overlaps; i++) {
        uint64_t length = request->extents[i].length;
        uint64_t left = operation->offset + operation->length - at;
        uint64_t data;

        rules_try(RULE_EXTENTS_ZERO);
        length = length < left ? length : left;
        data = request->extents[i].flags & ABD_EXTENT_ZERO
                   ? model_find_data(load->model, at, length)
                   : UINT64_MAX;
        if (data != UINT64_MAX) {
            rules_break(RULE_EXTENTS_ZERO, who(operation),
                        "byte %" PRIu64 " is said to be zero, but has data: "
                        "extent %u of %s",
                        data, i, what(operation));
            return;
        }
        at += length;
    }
}

static void verify_success(struct operation *operation)
{
    struct model *model = operation->load->model;

    if (operation->op == ABD_OP_READ)
        verify_read(operation);
    else if (operation->op == ABD_OP_EXTENTS)
        verify_extents(operation);
    else if (operation->op == ABD_OP_ZERO && operation->flags & ABD_REQ_FAST)
        rules_try(RULE_FAST_ZERO);
    if (!op_writes(operation->op))
        return;
    if (operation->op == ABD_OP_TRIM || !options.keeps)
        model_forget(model, operation->offset, operation->length);
    else
        model_write(model, operation->offset, operation->length,
                    operation->data);
}

static void verify_error(struct operation *operation)
{
    int error = operation->request->error;
    bool is_refused = operation->op == ABD_OP_ZERO && error == ENOTSUP;
    bool is_cancelled = atomic_load(&operation->request->record->is_cancelled);

    if (is_refused && operation->flags & ABD_REQ_FAST)
        rules_try(RULE_FAST_ZERO);
    if (op_writes(operation->op))
        model_forget(operation->load->model, operation->offset,
                     operation->length);
    if (!is_cancelled && !is_refused && !options.errors && error > 0 &&
        error < 4096)
        rules_break(RULE_SUCCEEDS, who(operation),
                    "%s ended with error %d (%s)", what(operation), error,
                    strerrordesc_np(error));
}

void verify(struct operation *operation)
{
    /* What comes after a failure may be its consequence. */
    if (rules_broken())
        return;
    rules_try(RULE_SUCCEEDS);
    if (operation->request->error)
        verify_error(operation);
    else
        verify_success(operation);
}

/* --- loans --- */

void verify_lent(struct operation *operation)
{
    operation->bytes = calloc(3, operation->length);
    if (!operation->bytes)
        host_die("there is no memory left");
    operation->maybe = operation->bytes + operation->length;
    operation->mask = operation->maybe + operation->length;
    request_gather(operation->request, operation->bytes);
}

static bool is_all(const uint8_t *bytes, uint8_t value, uint64_t length)
{
    return bytes[0] == value && memcmp(bytes, bytes + 1, length - 1) == 0;
}

/* data NULL: zeroes, or nobody knows. */
static void note(struct operation *loan, uint64_t at, uint64_t length,
                 const uint8_t *data, bool is_known)
{
    uint8_t *mask = loan->mask + at;
    uint8_t *maybe = loan->maybe + at;

    if (!is_known) {
        memset(mask, 2, length);
    } else if (is_all(mask, 0, length)) {
        memset(mask, 1, length);
        if (data)
            memcpy(maybe, data, length);
        else
            memset(maybe, 0, length);
    } else if (!is_all(mask, 2, length)) {
        for (uint64_t i = 0; i < length; i++) {
            uint8_t byte = data ? data[i] : 0;

            if (mask[i] == 1 && maybe[i] != byte)
                mask[i] = 2;
            else if (mask[i] == 0)
                mask[i] = 1;
            maybe[i] = byte;
        }
    }
}

void verify_note_write(struct load *load, const struct operation *operation)
{
    if (!op_writes(operation->op))
        return;
    list_for_each (link, &load->held) {
        struct operation *loan = container_of(link, struct operation, link);
        uint64_t begin =
            operation->offset > loan->offset ? operation->offset : loan->offset;
        uint64_t end = operation->offset + operation->length;

        if (end > loan->offset + loan->length)
            end = loan->offset + loan->length;
        if (begin < end)
            note(loan, begin - loan->offset, end - begin,
                 operation->data ? operation->data + (begin - operation->offset)
                                 : NULL,
                 operation->op != ABD_OP_TRIM && options.keeps);
    }
}

/* Each byte is as it was when it was lent, or as it was written since. */
void verify_still_lent(struct operation *operation)
{
    uint8_t *now = malloc(operation->length);

    if (!now)
        host_die("there is no memory left");
    rules_try(RULE_LENT_STAYS);
    if (request_gather(operation->request, now) && !rules_broken() &&
        !operation->load->plan->overlaps &&
        memcmp(now, operation->bytes, operation->length) != 0) {
        for (uint64_t i = 0; i < operation->length; i++) {
            if (now[i] == operation->bytes[i] || operation->mask[i] == 2 ||
                (operation->mask[i] == 1 && now[i] == operation->maybe[i]))
                continue;
            rules_break(RULE_LENT_STAYS, operation->request->loan.who,
                        "byte %" PRIu64 " of what was lent for %s changed "
                        "before release(), to what nobody had written",
                        i, what(operation));
            break;
        }
    }
    free(now);
}
