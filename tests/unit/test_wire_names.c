/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The names and numbers of the protocol, written here a second time from the
 * specification, and which error a client is told for an errno value. */
#include "wire/nbd.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct named {
    uint32_t number;
    const char *name;
};

typedef const char *name_function(uint32_t number);

/* Each of the names, and "unknown" for all other small numbers (with the high
 * bits of base) and some large ones. */
static void assert_names(name_function *name_of, const struct named *names,
                         uint32_t base)
{
    const struct named *next = names;

    for (uint32_t i = 0; i < 300; i++) {
        const char *expected = "unknown";

        if (next->name && next->number == base + i)
            expected = next++->name;
        assert_string_equal(name_of(base + i), expected);
    }
    assert_null(next->name); /* all were seen */
    assert_string_equal(name_of(0x7fffffff), "unknown");
    assert_string_equal(name_of(UINT32_MAX), "unknown");
    assert_string_equal(name_of(names[0].number | 0x10000), "unknown");
}

static void options_have_names(void **state)
{
    static const struct named names[] = {
        {1, "NBD_OPT_EXPORT_NAME"},
        {2, "NBD_OPT_ABORT"},
        {3, "NBD_OPT_LIST"},
        {5, "NBD_OPT_STARTTLS"},
        {6, "NBD_OPT_INFO"},
        {7, "NBD_OPT_GO"},
        {8, "NBD_OPT_STRUCTURED_REPLY"},
        {9, "NBD_OPT_LIST_META_CONTEXT"},
        {10, "NBD_OPT_SET_META_CONTEXT"},
        {11, "NBD_OPT_EXTENDED_HEADERS"},
        {0, NULL},
    };

    (void)state;
    assert_names(nbd_option_name, names, 0);
}

static void option_replies_have_names(void **state)
{
    static const struct named good[] = {
        {1, "NBD_REP_ACK"},  {2, "NBD_REP_SERVER"},
        {3, "NBD_REP_INFO"}, {4, "NBD_REP_META_CONTEXT"},
        {0, NULL},
    };
    static const struct named errors[] = {
        {0x80000001, "NBD_REP_ERR_UNSUP"},
        {0x80000002, "NBD_REP_ERR_POLICY"},
        {0x80000003, "NBD_REP_ERR_INVALID"},
        {0x80000004, "NBD_REP_ERR_PLATFORM"},
        {0x80000005, "NBD_REP_ERR_TLS_REQD"},
        {0x80000006, "NBD_REP_ERR_UNKNOWN"},
        {0x80000007, "NBD_REP_ERR_SHUTDOWN"},
        {0x80000008, "NBD_REP_ERR_BLOCK_SIZE_REQD"},
        {0x80000009, "NBD_REP_ERR_TOO_BIG"},
        {0x8000000a, "NBD_REP_ERR_EXT_HEADER_REQD"},
        {0, NULL},
    };

    (void)state;
    assert_names(nbd_rep_name, good, 0);
    assert_names(nbd_rep_name, errors, 0x80000000);
}

static void commands_have_names(void **state)
{
    static const struct named names[] = {
        {0, "NBD_CMD_READ"},         {1, "NBD_CMD_WRITE"},
        {2, "NBD_CMD_DISC"},         {3, "NBD_CMD_FLUSH"},
        {4, "NBD_CMD_TRIM"},         {5, "NBD_CMD_CACHE"},
        {6, "NBD_CMD_WRITE_ZEROES"}, {7, "NBD_CMD_BLOCK_STATUS"},
        {8, "NBD_CMD_RESIZE"},       {0, NULL},
    };

    (void)state;
    assert_names(nbd_command_name, names, 0);
}

static void reply_types_have_names(void **state)
{
    static const struct named good[] = {
        {0, "NBD_REPLY_TYPE_NONE"},
        {1, "NBD_REPLY_TYPE_OFFSET_DATA"},
        {2, "NBD_REPLY_TYPE_OFFSET_HOLE"},
        {5, "NBD_REPLY_TYPE_BLOCK_STATUS"},
        {6, "NBD_REPLY_TYPE_BLOCK_STATUS_EXT"},
        {0, NULL},
    };
    static const struct named errors[] = {
        {0x8001, "NBD_REPLY_TYPE_ERROR"},
        {0x8002, "NBD_REPLY_TYPE_ERROR_OFFSET"},
        {0, NULL},
    };

    (void)state;
    assert_names(nbd_reply_type_name, good, 0);
    assert_names(nbd_reply_type_name, errors, 0x8000);
}

static void errors_have_names(void **state)
{
    static const struct named names[] = {
        {1, "NBD_EPERM"},    {5, "NBD_EIO"},         {12, "NBD_ENOMEM"},
        {22, "NBD_EINVAL"},  {28, "NBD_ENOSPC"},     {75, "NBD_EOVERFLOW"},
        {95, "NBD_ENOTSUP"}, {108, "NBD_ESHUTDOWN"}, {0, NULL},
    };

    (void)state;
    assert_names(nbd_error_name, names, 0);
}

static void each_errno_becomes_an_error_of_the_protocol(void **state)
{
    (void)state;
    assert_int_equal(nbd_error_from_errno(EPERM), 1);
    assert_int_equal(nbd_error_from_errno(EACCES), 1);
    assert_int_equal(nbd_error_from_errno(EROFS), 1);
    assert_int_equal(nbd_error_from_errno(EIO), 5);
    assert_int_equal(nbd_error_from_errno(ETIMEDOUT), 5);
    assert_int_equal(nbd_error_from_errno(ENOMEM), 12);
    assert_int_equal(nbd_error_from_errno(EINVAL), 22);
    assert_int_equal(nbd_error_from_errno(ENOSPC), 28);
    assert_int_equal(nbd_error_from_errno(EDQUOT), 28);
    assert_int_equal(nbd_error_from_errno(EFBIG), 28);
    assert_int_equal(nbd_error_from_errno(EOVERFLOW), 75);
    assert_int_equal(nbd_error_from_errno(EOPNOTSUPP), 95);
    assert_int_equal(nbd_error_from_errno(ESHUTDOWN), 108);
}

static void nothing_becomes_success_or_an_unknown_error(void **state)
{
    (void)state;
    for (int err = -200; err < 1000; err++)
        assert_string_not_equal(nbd_error_name(nbd_error_from_errno(err)),
                                "unknown");
    assert_int_equal(nbd_error_from_errno(0), 5);
    assert_int_equal(nbd_error_from_errno(-EINVAL), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_have_names),
        cmocka_unit_test(option_replies_have_names),
        cmocka_unit_test(commands_have_names),
        cmocka_unit_test(reply_types_have_names),
        cmocka_unit_test(errors_have_names),
        cmocka_unit_test(each_errno_becomes_an_error_of_the_protocol),
        cmocka_unit_test(nothing_becomes_success_or_an_unknown_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
