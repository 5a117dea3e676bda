/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* An intrusive doubly linked list.
 *
 * The head and the links are of one type.  An element is in at most one list
 * for each link that it has.  A zeroed link is in no list, and so is one that
 * was removed, so "is it queued?" needs no flag of its own. */
#ifndef ABD_BASE_LIST_H
#define ABD_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev, *next;
};

/* The struct of which ptr is the member. */
#define container_of(ptr, type, member)                                        \
    ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(struct list *head)
{
    head->prev = head->next = head;
}

static inline bool list_is_empty(const struct list *head)
{
    return head->next == head;
}

/* Is this link in a list? */
static inline bool list_is_linked(const struct list *link)
{
    return link->next != NULL;
}

static inline void list_insert_before(struct list *place, struct list *link)
{
    link->prev = place->prev;
    link->next = place;
    place->prev->next = link;
    place->prev = link;
}

static inline void list_append(struct list *head, struct list *link)
{
    list_insert_before(head, link);
}

static inline void list_prepend(struct list *head, struct list *link)
{
    list_insert_before(head->next, link);
}

/* Removing what is in no list does nothing. */
static inline void list_remove(struct list *link)
{
    if (!link->next)
        return;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->prev = link->next = NULL;
}

/* Takes the first link out and returns it; NULL if there is none. */
static inline struct list *list_take_first(struct list *head)
{
    struct list *link = head->next;

    if (link == head)
        return NULL;
    list_remove(link);
    return link;
}

/* Moves all of from behind what is in to. */
static inline void list_append_all(struct list *to, struct list *from)
{
    if (list_is_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

#define list_first(head, type, member)                                         \
    (list_is_empty(head) ? NULL : container_of((head)->next, type, member))

#define list_for_each(link, head)                                              \
    for (struct list *link = (head)->next; link != (head); link = link->next)

/* The body may remove the link, but no other. */
#define list_for_each_safe(link, head)                                         \
    for (struct list *link = (head)->next, *link##_next = link->next;          \
         link != (head); link = link##_next, link##_next = link->next)

#endif
