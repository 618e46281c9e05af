/* SPDX-License-Identifier: MIT
 *
 * A spin lock, for critical sections of a few dozen instructions that never sleep, fault or call
 * out.
 *
 * In user space a thread can be preempted inside such a section, so a waiter gives its CPU away
 * after a short spin. It does so with sched_yield(2): a thread of a real-time class must not
 * take these locks, since it would never yield to an ordinary thread that holds one on the same
 * CPU.
 */
#ifndef UZ_BASE_SPIN_H
#define UZ_BASE_SPIN_H

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

struct uz_spin {
	atomic_bool locked;
};

static inline void uz_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}

/* Call this in every round of a wait. *round is 0 at first. */
static inline void uz_spin_backoff(unsigned *round)
{
	if (++*round < 64)
		uz_cpu_relax();
	else
		sched_yield();
}

static inline void uz_spin_lock(struct uz_spin *s)
{
	unsigned round = 0;

	/* Pairs with the release in uz_spin_unlock(): what the last holder has written is
	 * visible here. */
	while (atomic_exchange_explicit(&s->locked, true, memory_order_acquire)) {
		while (atomic_load_explicit(&s->locked, memory_order_relaxed))
			uz_spin_backoff(&round);
	}
}

static inline void uz_spin_unlock(struct uz_spin *s)
{
	/* Pairs with the acquire in uz_spin_lock(). */
	atomic_store_explicit(&s->locked, false, memory_order_release);
}

#endif
