/* SPDX-License-Identifier: MIT */
/*
 * Intrusive doubly linked list with a head. An entry that is on no list points to itself once
 * list_init() has run on it, so list_is_linked() answers and list_del() may run twice.
 * The caller locks.
 */
#ifndef COMMON_LIST_H
#define COMMON_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_is_empty(const struct list *head)
{
	return head->next == head;
}

static inline bool list_is_linked(const struct list *l)
{
	return l->next != l;
}

static inline void list_add_tail(struct list *head, struct list *l)
{
	l->prev = head->prev;
	l->next = head;
	head->prev->next = l;
	head->prev = l;
}

static inline void list_del(struct list *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	list_init(l);
}

static inline void list_move_tail(struct list *head, struct list *l)
{
	list_del(l);
	list_add_tail(head, l);
}

#define list_entry(l, type, member) ((type *)((char *)(l)-offsetof(type, member)))
#define list_for_each(it, head)     for (struct list *it = (head)->next; it != (head); it = it->next)
/* The body may delete it. */
#define list_for_each_safe(it, head)                                                               \
	for (struct list *it = (head)->next, *it##_next = it->next; it != (head);                  \
		it = it##_next, it##_next = it->next)

#endif
