/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The JSON writer: commas, nesting, escapes, growth, and running out of memory
 * at each place where it could.  It is compiled into this file, so that its
 * realloc can be made to fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static unsigned reallocs, failing_realloc; /* the first one is 1; 0: none */

static void *counting_realloc(void *pointer, size_t size)
{
    if (++reallocs == failing_realloc)
        return NULL;
    return realloc(pointer, size);
}

#define realloc counting_realloc
#include "common/base/json.c"
#undef realloc

static void assert_finished(struct json *json, const char *expected)
{
    char *text = json_finish(json);

    assert_non_null(text);
    assert_string_equal(text, expected);
    free(text);
    /* What is left is ready for the next one. */
    assert_null(json->text);
    assert_int_equal(json->length, 0);
    assert_int_equal(json->size, 0);
    assert_false(json->failed);
    assert_false(json->comma);
}

static void nothing_gives_an_empty_text(void **state)
{
    struct json json = {0};

    (void)state;
    assert_finished(&json, "");
}

static void puts_commas_where_they_belong(void **state)
{
    struct json json = {0};

    (void)state;
    json_open_object(&json, NULL);
    json_open_object(&json, "empty");
    json_close_object(&json);
    json_open_array(&json, "list");
    json_number(&json, NULL, 0);
    json_number(&json, NULL, UINT64_MAX);
    json_open_array(&json, NULL);
    json_close_array(&json);
    json_open_object(&json, NULL);
    json_bool(&json, "yes", true);
    json_close_object(&json);
    json_bool(&json, NULL, false);
    json_close_array(&json);
    json_string(&json, "name", "disk");
    json_string(&json, "none", NULL);
    json_close_object(&json);
    assert_finished(&json, "{\"empty\":{},"
                           "\"list\":[0,18446744073709551615,[],{\"yes\":true},"
                           "false],"
                           "\"name\":\"disk\",\"none\":null}");
}

static void escapes_keys_and_values(void **state)
{
    struct json json = {0};

    (void)state;
    json_open_object(&json, NULL);
    json_string(&json, "a\"b", "\\ \" / \n \x01 \x1f \x7f");
    json_close_object(&json);
    assert_finished(&json, "{\"a\\\"b\":\"\\\\ \\\" / \\u000a \\u0001 \\u001f "
                           "\x7f\"}");
}

static void replaces_what_is_not_utf8(void **state)
{
    struct json json = {0};

    (void)state;
    json_open_array(&json, NULL);
    json_string(&json, NULL, "gr\xc3\xbc\xc3\x9f \xf0\x9f\x92\xbe");
    json_string(&json, NULL,
                "\xff"
                "a\xc3");
    json_string(&json, NULL, "\xed\xa0\x80");
    json_close_array(&json);
    assert_finished(&json, "[\"gr\xc3\xbc\xc3\x9f \xf0\x9f\x92\xbe\","
                           "\"\\ufffda\\ufffd\","
                           "\"\\ufffd\\ufffd\\ufffd\"]");
}

static void grows_over_any_length(void **state)
{
    static char value[100001];

    (void)state;
    memset(value, 'x', sizeof value - 1);
    for (size_t length = 0; length < 1100; length++) {
        struct json json = {0};
        char *text;

        value[length] = '\0';
        json_string(&json, NULL, value);
        text = json_finish(&json);
        assert_non_null(text);
        assert_int_equal(strlen(text), length + 2);
        assert_memory_equal(text + 1, value, length);
        free(text);
        value[length] = 'x';
    }

    struct json json = {0};

    json_string(&json, NULL, value);
    char *text = json_finish(&json);
    assert_non_null(text);
    assert_int_equal(strlen(text), sizeof value + 1);
    free(text);
}

static char *write_much(void)
{
    struct json json = {0};

    json_open_array(&json, NULL);
    for (unsigned i = 0; i < 1000; i++)
        json_string(&json, NULL, "0123456789");
    json_close_array(&json);
    return json_finish(&json);
}

static void reports_each_failed_allocation(void **state)
{
    unsigned needed;
    char *text;

    (void)state;
    reallocs = failing_realloc = 0;
    text = write_much();
    assert_non_null(text);
    free(text);
    needed = reallocs;
    assert_in_range(needed, 2, 20);
    for (unsigned i = 1; i <= needed; i++) {
        reallocs = 0;
        failing_realloc = i;
        assert_null(write_much());
        assert_int_equal(reallocs, i); /* after the failure, none is tried */
    }

    struct json json = {0};

    reallocs = 0;
    failing_realloc = 1;
    assert_null(json_finish(&json));
    failing_realloc = 0;
    assert_finished(&json, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_gives_an_empty_text),
        cmocka_unit_test(puts_commas_where_they_belong),
        cmocka_unit_test(escapes_keys_and_values),
        cmocka_unit_test(replaces_what_is_not_utf8),
        cmocka_unit_test(grows_over_any_length),
        cmocka_unit_test(reports_each_failed_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
