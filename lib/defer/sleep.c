/* SPDX-License-Identifier: MIT
 *
 * How the drain thread sleeps, and how it is woken.
 */
#include "defer/internal.h"

#include <assert.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/futex.h"

int uz_drain_sleep_init(struct uz_defer *d)
{
	d->can_idle = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
	d->wake_fd = eventfd(0, EFD_CLOEXEC);
	return d->wake_fd < 0 ? -errno : 0;
}

void uz_drain_sleep_done(struct uz_defer *d)
{
	close(d->wake_fd);
}

/* --- waking it --- */

void uz_drain_wake(struct uz_defer *d)
{
	uint64_t one = 1;

	/* Only one of many wakers writes. It can't fail: the counter is far from full. */
	if (atomic_exchange(&d->state, DRAIN_RUNNING) != DRAIN_RUNNING &&
	    write(d->wake_fd, &one, sizeof(one)) < 0)
		assert(false);
}

void uz_defer_wake(struct uz_defer *d)
{
	/* What the caller has just published must be seen by the drain thread, or its state by us:
	 * pairs with the fence in the drain's go_to_sleep(). */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&d->state, memory_order_relaxed) != DRAIN_RUNNING)
		uz_drain_wake(d);
}

/* --- sleeping --- */

/* Sleep until the eventfd is signalled or the deadline passes; it may be shorter. The
 * caller looks at everything afterwards: what is signalled later makes the next call return. */
void uz_drain_wait(struct uz_defer *d, uint64_t deadline)
{
	struct pollfd fd = {.fd = d->wake_fd, .events = POLLIN};
	uint64_t now = uz_now_ns(), count;
	struct timespec left = uz_timespec(deadline > now ? deadline - now : 0);

	if (ppoll(&fd, 1, deadline == UZ_DRAIN_NEVER ? NULL : &left, NULL) == 1)
		(void)!read(d->wake_fd, &count, sizeof(count));
}

static bool work_is_pending(struct uz_defer *d)
{
	bool any;

	uz_spin_lock(&d->lock);
	any = d->full != NULL;
	uz_spin_unlock(&d->lock);
	return any || atomic_load(&d->kicked) || atomic_load(&d->stop) ||
	       atomic_load(&d->flush_requested) != atomic_load(&d->flush_done);
}

static bool values_are_pending(struct uz_defer *d)
{
	bool any = false;

	pthread_mutex_lock(&d->walk_lock);
	for (struct uz_defer_producer *p = d->producers; p && !any; p = p->next) {
		const struct buffer *b = atomic_load_explicit(&p->current, memory_order_acquire);

		any = atomic_load_explicit(&b->count, memory_order_relaxed) != b->taken;
	}
	pthread_mutex_unlock(&d->walk_lock);
	return any;
}

/* Sleep till the deadline. Announce the state and look once more: whoever published work
 * before he could see that state does not wake us. */
void uz_drain_sleep(struct uz_defer *d, enum drain_state state, uint64_t deadline)
{
	bool pending;

	atomic_store(&d->state, state);
	/* Pairs with the fence in uz_defer_wake(); membarrier() with the compiler barrier in
	 * uz_defer_push(). */
	atomic_thread_fence(memory_order_seq_cst);
	pending = work_is_pending(d);
	if (state == DRAIN_IDLE && !pending) {
		syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
		/* In the order of drain_all(). */
		pending = values_are_pending(d) || work_is_pending(d);
	}
	if (!pending)
		uz_drain_wait(d, deadline);
	atomic_store(&d->state, DRAIN_RUNNING);
}
