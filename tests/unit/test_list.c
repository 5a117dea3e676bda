/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* The intrusive list: order, removal (also twice, also of what was in no list),
 * and walking while elements leave. */
#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
    int number;
    struct list link;
};

static struct item *item_of(struct list *link)
{
    return container_of(link, struct item, link);
}

/* Checks both directions. */
static void assert_numbers(struct list *head, const int *numbers, size_t count)
{
    struct list *link = head;

    for (size_t i = 0; i < count; i++) {
        link = link->next;
        assert_ptr_not_equal(link, head);
        assert_int_equal(item_of(link)->number, numbers[i]);
    }
    assert_ptr_equal(link->next, head);
    for (size_t i = count; i > 0; i--) {
        assert_int_equal(item_of(link)->number, numbers[i - 1]);
        link = link->prev;
    }
    assert_ptr_equal(link, head);
}

static void a_new_list_is_empty(void **state)
{
    struct list head;

    (void)state;
    list_init(&head);
    assert_true(list_is_empty(&head));
    assert_null(list_take_first(&head));
    assert_null(list_first(&head, struct item, link));
}

static void appends_behind_and_prepends_in_front(void **state)
{
    struct item items[4] = {
        {.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};
    struct list head;

    (void)state;
    list_init(&head);
    list_append(&head, &items[1].link);
    list_append(&head, &items[3].link);
    list_prepend(&head, &items[0].link);
    list_insert_before(&items[3].link, &items[2].link);
    assert_numbers(&head, (const int[]){0, 1, 2, 3}, 4);
    assert_ptr_equal(list_first(&head, struct item, link), &items[0]);
    assert_false(list_is_empty(&head));
}

static void removing_twice_or_unlinked_does_nothing(void **state)
{
    struct item items[3] = {{.number = 0}, {.number = 1}, {.number = 2}};
    struct list head;

    (void)state;
    list_init(&head);
    assert_false(list_is_linked(&items[1].link));
    list_remove(&items[1].link);
    for (int i = 0; i < 3; i++)
        list_append(&head, &items[i].link);
    assert_true(list_is_linked(&items[1].link));
    list_remove(&items[1].link);
    assert_false(list_is_linked(&items[1].link));
    list_remove(&items[1].link);
    assert_numbers(&head, (const int[]){0, 2}, 2);
    list_append(&head, &items[1].link);
    assert_numbers(&head, (const int[]){0, 2, 1}, 3);
}

static void takes_in_order_until_empty(void **state)
{
    struct item items[2] = {{.number = 0}, {.number = 1}};
    struct list head;

    (void)state;
    list_init(&head);
    list_append(&head, &items[0].link);
    list_append(&head, &items[1].link);
    assert_ptr_equal(list_take_first(&head), &items[0].link);
    assert_false(list_is_linked(&items[0].link));
    assert_ptr_equal(list_take_first(&head), &items[1].link);
    assert_null(list_take_first(&head));
    assert_true(list_is_empty(&head));
}

static void moves_all_behind_what_is_there(void **state)
{
    struct item items[4] = {
        {.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};
    struct list to, from;

    (void)state;
    list_init(&to);
    list_init(&from);
    list_append_all(&to, &from);
    assert_true(list_is_empty(&to));
    list_append(&from, &items[0].link);
    list_append(&from, &items[1].link);
    list_append_all(&to, &from);
    assert_true(list_is_empty(&from));
    assert_numbers(&to, (const int[]){0, 1}, 2);
    list_append(&from, &items[2].link);
    list_append(&from, &items[3].link);
    list_append_all(&to, &from);
    assert_true(list_is_empty(&from));
    assert_numbers(&to, (const int[]){0, 1, 2, 3}, 4);
    list_append_all(&to, &from);
    assert_numbers(&to, (const int[]){0, 1, 2, 3}, 4);
}

static void a_walk_survives_removal_of_the_current_link(void **state)
{
    struct item items[5];
    struct list head;
    int walked = 0, kept = 0;

    (void)state;
    list_init(&head);
    for (int i = 0; i < 5; i++) {
        items[i] = (struct item){.number = i};
        list_append(&head, &items[i].link);
    }
    list_for_each_safe (link, &head) {
        walked++;
        if (item_of(link)->number % 2 == 0)
            list_remove(link);
    }
    list_for_each (link, &head)
        kept++;
    assert_int_equal(walked, 5);
    assert_int_equal(kept, 2);
    assert_numbers(&head, (const int[]){1, 3}, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_list_is_empty),
        cmocka_unit_test(appends_behind_and_prepends_in_front),
        cmocka_unit_test(removing_twice_or_unlinked_does_nothing),
        cmocka_unit_test(takes_in_order_until_empty),
        cmocka_unit_test(moves_all_behind_what_is_there),
        cmocka_unit_test(a_walk_survives_removal_of_the_current_link),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
