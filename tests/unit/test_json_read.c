/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The JSON reader: every kind of value, every kind of fault and where it is
 * said to be, texts cut at every byte, what the writer writes, and no memory.
 * It is compiled into this file, so that its allocations can be made to fail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static unsigned allocations, failing_allocation; /* the first is 1; 0: none */

static void *counting_malloc(size_t size)
{
    return ++allocations == failing_allocation ? NULL : malloc(size);
}

static void *counting_calloc(size_t n, size_t size)
{
    return ++allocations == failing_allocation ? NULL : calloc(n, size);
}

#define malloc counting_malloc
#define calloc counting_calloc
#include "common/base/json_read.c"
#undef malloc
#undef calloc

#include "base/json.h"

/* From memory of exactly its size, so that sanitizers see what is read past
 * its end. */
static int read_exactly(const char *text, size_t length,
                        struct json_document *ret, struct json_fault *fault)
{
    char *copy = test_malloc(length ? length : 1);
    int err;

    memcpy(copy, text, length);
    err = json_read(copy, length, ret, fault);
    test_free(copy);
    return err;
}

static struct json_document read_good(const char *text)
{
    struct json_document document;
    struct json_fault fault = {0, NULL};
    int err = read_exactly(text, strlen(text), &document, &fault);

    if (err)
        fail_msg("%s: byte %zu: %s", text, fault.at, fault.why);
    return document;
}

static void assert_bad_bytes(const char *text, size_t length, size_t at,
                             const char *why)
{
    struct json_document document = {.root = NULL};
    struct json_fault fault = {SIZE_MAX, NULL};

    assert_int_equal(read_exactly(text, length, &document, &fault), EINVAL);
    assert_string_equal(fault.why, why);
    assert_int_equal(fault.at, at);
    assert_null(document.root);
}

static void assert_bad(const char *text, size_t at, const char *why)
{
    assert_bad_bytes(text, strlen(text), at, why);
}

static void reads_every_kind_of_value(void **state)
{
    struct json_document document =
        read_good(" {\"a\" : [ null,true , false,7, \"x\" ,[],{ }],\t\"b\":\n"
                  "{\"c\":\r1}} ");
    const struct json_value *value = json_find(document.root, "a");

    (void)state;
    assert_int_equal(document.root->type, JSON_OBJECT);
    assert_null(document.root->key);
    assert_int_equal(value->type, JSON_ARRAY);
    value = value->first;
    assert_int_equal(value->type, JSON_NULL);
    assert_null(value->key);
    value = value->next;
    assert_int_equal(value->type, JSON_BOOL);
    assert_true(value->truth);
    value = value->next;
    assert_int_equal(value->type, JSON_BOOL);
    assert_false(value->truth);
    value = value->next;
    assert_int_equal(value->type, JSON_NUMBER);
    assert_int_equal(value->number, 7);
    assert_string_equal(value->text, "7");
    value = value->next;
    assert_string_equal(value->text, "x");
    value = value->next;
    assert_int_equal(value->type, JSON_ARRAY);
    assert_null(value->first);
    value = value->next;
    assert_int_equal(value->type, JSON_OBJECT);
    assert_null(value->first);
    assert_null(value->next);
    value = json_find(json_find(document.root, "b"), "c");
    assert_int_equal(value->number, 1);
    json_document_finish(&document);
}

static void finds_the_first_of_a_name_in_objects_only(void **state)
{
    struct json_document document = read_good("{\"a\":1,\"a\":2,\"\":[3]}");

    (void)state;
    assert_int_equal(json_find(document.root, "a")->number, 1);
    assert_null(json_find(document.root, "b"));
    assert_null(json_find(json_find(document.root, ""), "a"));
    assert_null(json_find(json_find(document.root, "a"), "a"));
    assert_null(json_find(NULL, "a"));
    json_document_finish(&document);
    assert_null(document.root);
    json_document_finish(&document);
}

static void knows_which_numbers_are_whole(void **state)
{
    static const struct {
        const char *text;
        bool whole;
        uint64_t number;
    } cases[] = {
        {"0", true, 0},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"184467440737095516150", false, 0},
        {"-1", false, 0},
        {"-0", false, 0},
        {"1.5", false, 0},
        {"10e2", false, 0},
        {"0.25E-10", false, 0},
        {"1e+5", false, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char array[64];
        struct json_document document;

        snprintf(array, sizeof array, "[%s,%s]", cases[i].text, cases[i].text);
        document = read_good(array);
        for (const struct json_value *value = document.root->first; value;
             value = value->next) {
            assert_int_equal(value->type, JSON_NUMBER);
            assert_string_equal(value->text, cases[i].text);
            assert_int_equal(value->whole, cases[i].whole);
            if (cases[i].whole)
                assert_true(value->number == cases[i].number);
        }
        json_document_finish(&document);
    }
}

static void unescapes_strings(void **state)
{
    static const struct {
        const char *text, *meant;
    } cases[] = {
        {"\"\"", ""},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"\\u0041\\u00e4\\u20aC\\u007f\"", "A\303\244\342\202\254\177"},
        {"\"\\ud83d\\ude00!\"", "\360\237\230\200!"},
        {"\"\\uDBFF\\uDFFF\"", "\364\217\277\277"},
        {"\"\303\274ber \360\237\230\200\"", "\303\274ber \360\237\230\200"},
        {"\"[{,:}]\"", "[{,:}]"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct json_document document = read_good(cases[i].text);

        assert_int_equal(document.root->type, JSON_STRING);
        assert_string_equal(document.root->text, cases[i].meant);
        json_document_finish(&document);
    }
}

static void refuses_bad_strings(void **state)
{
    (void)state;
    assert_bad("\"a\\x\"", 3, "an escape that JSON does not have");
    assert_bad_bytes("\"\\\0\"", 4, 2, "an escape that JSON does not have");
    assert_bad("\"\\u12g4\"", 5, "\\u needs four hexadecimal digits");
    assert_bad("\"\\u0000\"", 3, "a NUL in a string");
    assert_bad_bytes("\"a\0b\"", 5, 2, "a control character in a string");
    assert_bad("\"\\udc00\"", 3, "half a surrogate pair");
    assert_bad("\"\\ud800x\"", 7, "half a surrogate pair");
    assert_bad("\"\\ud800\\n\"", 8, "half a surrogate pair");
    assert_bad("\"\\ud800\\u0041\"", 3, "half a surrogate pair");
    assert_bad("\"\\ud800\\ud800\"", 3, "half a surrogate pair");
    assert_bad("\"a\nb\"", 2, "a control character in a string");
    assert_bad("\"\377\"", 1, "bytes that are not UTF-8");
    assert_bad("\"\300\200\"", 1, "bytes that are not UTF-8");
    assert_bad("\"\355\240\200\"", 1, "bytes that are not UTF-8");
}

static void refuses_bad_numbers(void **state)
{
    (void)state;
    assert_bad("01", 1, "a number that begins with 0");
    assert_bad("[-]", 2, "a digit was expected");
    assert_bad("[1.]", 3, "a digit was expected");
    assert_bad("[1e]", 3, "a digit was expected");
    assert_bad("[1e+-2]", 4, "a digit was expected");
    assert_bad("+1", 0, "a value was expected");
    assert_bad(".5", 0, "a value was expected");
    assert_bad("1x", 1, "something stands behind the value");
}

static void refuses_what_is_out_of_place(void **state)
{
    (void)state;
    assert_bad("1 2", 2, "something stands behind the value");
    assert_bad_bytes("1\0", 2, 1, "something stands behind the value");
    assert_bad("[1,]", 3, "a value was expected");
    assert_bad("[,1]", 1, "a value was expected");
    assert_bad("[1 2]", 3, "a comma or a closing bracket was expected");
    assert_bad("[1}", 2, "a comma or a closing bracket was expected");
    assert_bad("{\"a\":1]", 6, "a comma or a closing bracket was expected");
    assert_bad("{\"a\" 1}", 5, "a colon was expected");
    assert_bad("{a:1}", 1, "a string was expected");
    assert_bad("{\"a\":1,}", 7, "a string was expected");
    assert_bad("nulL", 3, "a value was expected");
    assert_bad("True", 0, "a value was expected");
    assert_bad("'a'", 0, "a value was expected");
    assert_bad("\357\273\277[]", 0, "a value was expected");
    assert_bad("[] // end", 3, "something stands behind the value");
}

/* Each prefix of a text is one that ends too early. */
static void says_so_when_the_text_ends_too_early(void **state)
{
    static const char text[] =
        "{\"\\u0041\\ud83d\\ude00\303\244\":[true,false,null,-1.5e+7,{}],"
        "\"b\":\"\\n\"}";

    (void)state;
    for (size_t length = 0; length < sizeof text - 1; length++) {
        struct json_document document = {.root = NULL};
        struct json_fault fault = {SIZE_MAX, NULL};

        assert_int_equal(read_exactly(text, length, &document, &fault), EINVAL);
        /* Half a character is reported as such. */
        if (strcmp(fault.why, "bytes that are not UTF-8") == 0) {
            assert_int_equal(fault.at, length - 1);
            assert_int_equal((unsigned char)text[length - 1], 0303);
            continue;
        }
        assert_string_equal(fault.why, "the text ends too early");
        assert_int_equal(fault.at, length);
    }

    struct json_document document = read_good(text);

    assert_string_equal(document.root->first->key, "A\360\237\230\200\303\244");
    json_document_finish(&document);
}

static void bounds_nesting(void **state)
{
    char text[4 * JSON_READ_DEPTH];
    struct json_document document;
    unsigned depth = 0;

    (void)state;
    memset(text, '[', JSON_READ_DEPTH);
    memset(text + JSON_READ_DEPTH, ']', JSON_READ_DEPTH);
    text[2 * JSON_READ_DEPTH] = '\0';
    document = read_good(text);
    for (const struct json_value *value = document.root; value;
         value = value->first)
        depth++;
    assert_int_equal(depth, JSON_READ_DEPTH);
    json_document_finish(&document);
    memset(text, '[', JSON_READ_DEPTH + 1);
    assert_bad(text, JSON_READ_DEPTH, "nested too deeply");
    /* Side by side is not nested. */
    memset(text, 0, sizeof text);
    strcpy(text, "[");
    for (unsigned i = 0; i < JSON_READ_DEPTH; i++)
        strcat(text, "[],");
    strcat(text, "[]]");
    document = read_good(text);
    json_document_finish(&document);
}

static void reads_what_the_writer_writes(void **state)
{
    static const char name[] = "tab\t quote\" back\\ bell\a \303\274";
    struct json json = {0};
    struct json_document document;
    char *text;

    (void)state;
    json_open_object(&json, NULL);
    json_string(&json, name, name);
    json_number(&json, "most", UINT64_MAX);
    json_open_array(&json, "bools");
    json_bool(&json, NULL, true);
    json_bool(&json, NULL, false);
    json_close_array(&json);
    json_string(&json, "nothing", NULL);
    json_close_object(&json);
    text = json_finish(&json);
    document = read_good(text);
    free(text);
    assert_string_equal(json_find(document.root, name)->text, name);
    assert_true(json_find(document.root, "most")->number == UINT64_MAX);
    assert_true(json_find(document.root, "bools")->first->truth);
    assert_int_equal(json_find(document.root, "nothing")->type, JSON_NULL);
    json_document_finish(&document);
}

static void survives_having_no_memory(void **state)
{
    struct json_document document = {.root = NULL};
    struct json_fault fault;

    (void)state;
    for (unsigned n = 1; n <= 2; n++) {
        allocations = 0;
        failing_allocation = n;
        assert_int_equal(json_read("[1]", 3, &document, &fault), ENOMEM);
        assert_int_equal(allocations, 2);
    }
    allocations = 0;
    failing_allocation = 3;
    assert_int_equal(json_read("[1]", 3, &document, &fault), 0);
    assert_int_equal(allocations, 2);
    failing_allocation = 0;
    json_document_finish(&document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_kind_of_value),
        cmocka_unit_test(finds_the_first_of_a_name_in_objects_only),
        cmocka_unit_test(knows_which_numbers_are_whole),
        cmocka_unit_test(unescapes_strings),
        cmocka_unit_test(refuses_bad_strings),
        cmocka_unit_test(refuses_bad_numbers),
        cmocka_unit_test(refuses_what_is_out_of_place),
        cmocka_unit_test(says_so_when_the_text_ends_too_early),
        cmocka_unit_test(bounds_nesting),
        cmocka_unit_test(reads_what_the_writer_writes),
        cmocka_unit_test(survives_having_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
