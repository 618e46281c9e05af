/* SPDX-License-Identifier: MIT
 *
 * Who tells whom: the refill thread is kicked, getters that wait are woken, and whoever gives
 * memory back is told of surplus.
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

/* A getter that did not see what the caller has added, under the lock that both take for that, had
 * counted itself before it took the lock: so we see it. When it has gone again, by the acquire we
 * see what it has left in vain_at. */
void uz_arena_wake_getters(struct uz_arena *a)
{
	if (!atomic_load_explicit(&a->waiters, memory_order_acquire))
		return;
	atomic_fetch_add(&a->looked_for, 1);
	uz_futex_wake(&a->looked_for, INT_MAX);
}

void uz_arena_memory_came(struct uz_arena *a)
{
	if (atomic_load_explicit(&a->waiters, memory_order_acquire) ||
	    uz_arena_in_vain(a, atomic_load_explicit(&a->came, memory_order_relaxed)))
		atomic_fetch_add(&a->came, 1);
	uz_arena_wake_getters(a);
}
