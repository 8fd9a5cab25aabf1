/* SPDX-License-Identifier: MIT */
/*
 * Waking those who are held, and giving new bytes to those who need not wake for them. The follow
 * thread only, with no lock held. Private to follow*.c.
 */
#ifndef HTTPD_FOLLOW_WAKE_H
#define HTTPD_FOLLOW_WAKE_H

#include "httpd/follow_table.h"

/* Who waits for a file, and who for a client: suspended are both. */
atomic_uint *follow_counter(struct follow *f, const struct live *live);

bool waiter_is_due(const struct waiter *w, const struct live_view *view, uint64_t now);
/* One that is held: nobody else takes it off, and its request keeps its live. */
void waiter_wake(struct follow *f, struct waiter *w);

/* Fewer helpers when there are no more threads to be had. */
void giving_init(struct giving *g, unsigned helpers);
void giving_end(struct giving *g);

/* Serves the waiters of live that have something to do; returns the next deadline of the rest. */
uint64_t live_wake(struct follow *f, struct live *live, bool everybody);

#endif
