/* SPDX-License-Identifier: MIT
 *
 * The wake-ups: of the refill thread, of getters that wait, and of the thread that gives surplus
 * back.
 */
#include "arena/internal.h"

#include "base/futex.h"

void uz_arena_kick_refill(struct uz_arena *a)
{
	uz_helper_kick(&a->refill);
}

void uz_arena_tell_surplus(struct uz_arena *a)
{
	if (a->surplus)
		a->surplus(a->surplus_context);
}

/* Pairs with uz_arena_wait_begin(), where a getter counts itself in `waiters` before it looks.
 * Both sides take the same lock: the getter to look, the caller to add what the getter looks
 * for. If the getter took it first it may not have seen the addition, but had counted itself
 * before: its unlock and our lock make that visible here, and it is woken. If the caller took it
 * first the getter sees the addition.
 *
 * The acquire pairs with the release in uz_arena_wait_end(): when the getter has gone by now, we
 * see what it has stored in `vain_at`. */
void uz_arena_wake_getters(struct uz_arena *a)
{
	if (!atomic_load_explicit(&a->waiters, memory_order_acquire))
		return;
	/* Before the wake: a getter that is about to sleep sees that the word has changed. */
	atomic_fetch_add(&a->looked_for, 1);
	uz_futex_wake(&a->looked_for, INT_MAX);
}

void uz_arena_memory_came(struct uz_arena *a)
{
	/* As in uz_arena_wake_getters(). While nobody waits, nor has waited in vain, nobody needs
	 * `came`, and the frees of many threads need not share its cache line. */
	if (atomic_load_explicit(&a->waiters, memory_order_acquire) ||
	    uz_arena_in_vain(a, atomic_load_explicit(&a->came, memory_order_relaxed)))
		atomic_fetch_add(&a->came, 1);
	uz_arena_wake_getters(a);
}
